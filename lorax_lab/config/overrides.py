"""The grammar of the command line: overrides `key=value`, and the grids that lists of values make."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from lorax_lab.errors import ConfigError

PACKAGE = Path(__file__).parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""Inside the package once installed from a wheel, beside it in a checkout."""
LIMIT = 10_000
"""Runs of a sweep at most."""


def expand(overrides: list[str]) -> list[list[str]]:
    """The grid of a sweep: one list of plain overrides per job, in Hydra's order.

    >>> expand(["rank=4,8", "seed=0"])
    [['rank=4', 'seed=0'], ['rank=8', 'seed=0']]

    Raises:
        ConfigError: an override that Hydra's grammar does not read, or whose values cannot be listed.
    """
    choices = [_choices(override) for override in overrides]
    count = math.prod(map(len, choices))
    if count > LIMIT:
        lists = " ".join(override for override, values in zip(overrides, choices, strict=True) if len(values) > 1)
        raise ConfigError(f"{lists} is a sweep of {count} runs, and at most {LIMIT} are possible; shorten the lists")
    return [list(job) for job in itertools.product(*choices)]


def values_of(override: str) -> list[Any]:
    """Every value that an override names: one, those of a list of values, or the ends of a range.

    >>> values_of("rank=4,'8 9'"), values_of("method={a:[1]}"), values_of("seed=range(0,3)")
    ([4, '8 9'], [{'a': [1]}], [0, 3, 1])

    Raises:
        ConfigError: an override that Hydra's grammar does not read, or whose values cannot be listed.
    """
    from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, RangeSweep

    parsed = _parse(override)
    match value := parsed.value():
        case ChoiceSweep():
            return [parsed._convert_value(each) for each in value.list]
        case RangeSweep():
            return [value.start, value.stop, value.step]
        case IntervalSweep() | Glob():
            key = override.partition("=")[0].lstrip("+")
            raise ConfigError(f"{override} has no list of values; list them, as in {key}=1,2,3")
    return [value]


def _choices(override: str) -> list[str]:
    """One plain override for each value."""
    values, parsed = values_of(override), _parse(override)
    if not parsed.is_sweep_override():
        return [str(parsed.input_line)]
    if parsed.is_range_sweep():
        _check_range(override, *values)
    return [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]


def _check_range(override: str, start: Any, stop: Any, step: Any) -> None:
    try:
        count = (stop - start) / step
    except (ZeroDivisionError, OverflowError):
        count = math.inf
    key = override.partition("=")[0].lstrip("+")
    if not 0 < count <= LIMIT:
        raise ConfigError(f"{override} has no values, or more than {LIMIT}; list them, as in {key}=1,2,3")


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
def _parse(text: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(text)
    except (HydraException, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0].partition(" expecting ")[0]
        raise ConfigError(f"{text} is not understood ({reason}); quote special signs, as in 'key=\"a,b\"'") from None


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
