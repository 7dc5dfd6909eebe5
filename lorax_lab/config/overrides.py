"""Overrides `key=value` in Hydra's grammar: the grid that lists of values make, and values in the spelling of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from lorax_lab.errors import ConfigError

PACKAGE = Path(__file__).parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""Inside the package once installed from a wheel, beside it in a checkout."""


@contextmanager
def said_plainly() -> Iterator[None]:
    """What Hydra or OmegaConf raises in the block, as a `ConfigError` of one line."""
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except OverrideParseException as error:
        reason = error.message.splitlines()[0].partition(" expecting ")[0]
        cure = "settings are written key=value; quote special signs, as in 'key=\"a,b\"'"
        raise ConfigError(f"{error.override} is not understood ({reason}); {cure}") from None
    except (HydraException, OmegaConfBaseException) as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        text = str(error).partition("Config search path")[0]
        raise ConfigError(" ".join(text.split())) from None


def expand(overrides: list[str]) -> list[list[str]]:
    """The grid of a sweep: one list of plain overrides per job, in Hydra's order.

    >>> expand(["rank=4,8", "seed=0"])
    [['rank=4', 'seed=0'], ['rank=8', 'seed=0']]

    Raises:
        ConfigError: an override that Hydra's grammar does not read, or whose values cannot be listed.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    with said_plainly():
        (jobs,) = BasicSweeper.split_arguments([_parse(override) for override in overrides], None)
    return jobs


def values_of(override: str) -> list[Any]:
    """The one value that an override names, or those of a list of values.

    >>> values_of("rank=4,'8 9'"), values_of("method={a:[1]}"), values_of("seed=0")
    ([4, '8 9'], [{'a': [1]}], [0])

    Raises:
        ConfigError: an override that Hydra's grammar does not read.
    """
    from hydra.core.override_parser.types import ChoiceSweep

    parsed = _parse(override)
    value = parsed.value()
    return [parsed._convert_value(each) for each in value.list] if isinstance(value, ChoiceSweep) else [value]


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


@lru_cache(maxsize=4096)
def _parse(override: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with said_plainly():
        (parsed,) = OverridesParser.create().parse_overrides([override])
    return parsed


def written_out(content: Any, prefix: str = "") -> list[str]:
    """Every value of nested settings as an override.

    >>> written_out({"rank": 8, "task": {"path": None, "text": "a,b"}})
    ['rank=8', 'task.path=null', "task.text='a,b'"]
    """
    overrides: list[str] = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            overrides += written_out(value, f"{prefix}{key}.")
        else:
            overrides.append(f"{prefix}{key}={quoted(value)}")
    return overrides


def quoted(value: Any) -> str:
    """A value in the spelling that Hydra reads back.

    >>> quoted("it's"), quoted(True), quoted(1e-5), quoted(["query", "value"])
    ("'it\\\\'s'", 'true', '1e-05', "['query','value']")
    """
    from hydra.core.override_parser.types import Quote, QuotedString

    if isinstance(value, list):
        return f"[{','.join(map(quoted, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    return QuotedString(str(value), Quote.single).with_quotes() if not isinstance(value, dict) else "{}"
