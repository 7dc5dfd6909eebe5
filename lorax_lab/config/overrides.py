"""The grammar of the command line: overrides `key=value`, and the grids that lists of values make."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

from lorax_lab.errors import ConfigError

PACKAGE = Path(__file__).parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""Inside the package once installed from a wheel, beside it in a checkout."""
CODE = re.compile(r"_target_|_partial_|_recursive_|\$\{\s*[\w.]+\s*:[^}]*\}?")
"""What makes Hydra and OmegaConf call something: a target, or a resolver, of which none is allowed (`oc.env` reads the
environment, and so keys). A reference to another key, `${seed}`, is none."""


def code_in(text: str) -> str | None:
    """The first part of a setting that would call something.

    >>> code_in("x=${oc.env:HOME}"), code_in("x=${seed}"), code_in("a._target_=os.system")
    ('${oc.env:HOME}', None, '_target_')
    """
    match = CODE.search(text)
    return match[0] if match else None


def expand(overrides: list[str]) -> list[list[str]]:
    """The grid of a sweep: one list of plain overrides per job, in Hydra's order.

    >>> expand(["rank=4,8", "seed=0"])
    [['rank=4', 'seed=0'], ['rank=8', 'seed=0']]

    Raises:
        ConfigError: an override that Hydra's grammar does not read, or whose values cannot be listed.
    """
    return [list(job) for job in itertools.product(*map(_choices, overrides))]


def _choices(override: str) -> list[str]:
    """One plain override for each value."""
    from hydra.errors import HydraException

    parsed = _parse(override)
    if not parsed.is_sweep_override():
        return [str(parsed.input_line)]
    try:
        return [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]
    except HydraException:
        key = override.partition("=")[0].lstrip("+")
        raise ConfigError(f"{override} has no list of values; list them, as in {key}=1,2,3") from None


def value_of(override: str) -> Any:
    """The value of one override, read by Hydra's grammar.

    >>> value_of("tasks=[tweets,'local task.path=a.csv']"), value_of("sequence=null"), value_of("rank=8")
    (['tweets', 'local task.path=a.csv'], None, 8)

    Raises:
        ConfigError: an override that Hydra's grammar does not read, or a sweep.
    """
    parsed = _parse(override)
    if parsed.is_sweep_override():
        key, _, value = override.partition("=")
        raise ConfigError(f"{override} has several values where one is allowed; type a list as {key}=[{value}]")
    return parsed.value()


def _parse(text: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{text} is not understood ({reason}); quote special signs, as in 'key=\"a,b\"'") from None
