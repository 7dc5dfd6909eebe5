"""Overrides `key=value` in Hydra's grammar, read and written."""

import json
from collections.abc import Iterator, Sequence
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


@lru_cache(maxsize=4096)
def parsed(override: str) -> Any:
    """An override, read by Hydra's grammar.

    >>> parsed("method.target_modules=[query,value]").value()
    ['query', 'value']

    Raises:
        ConfigError: the grammar does not read it.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with said_plainly():
        (override_read,) = OverridesParser.create().parse_overrides([override])
    return override_read


def check_sweeps(overrides: Sequence[Any], loader: Any) -> None:
    """Refuse what the lab's sweeper cannot list: a ConfigError says what to type.

    Args:
        overrides: read by Hydra's grammar.
        loader: Hydra's, which knows the files of `conf/`.
    """
    from hydra.core.override_parser.types import Glob

    for override in overrides:
        key, line = override.key_or_group, override.input_line
        if override.is_interval_sweep():
            raise ConfigError(f"{line} is no list; list the values, as in {key}=1,2, or type hydra/sweeper=search too")
        chosen = override._value
        if isinstance(chosen, Glob) and not chosen.filter(loader.get_group_options(key)):
            raise ConfigError(f"{line} names no file of conf/{key}; list the values, as in {key}=1,2")


def values_of(override: str) -> list[Any]:
    """The one value that an override names, or those of a list of values.

    >>> values_of("rank=4,'8 9'"), values_of("method={a:[1]}"), values_of("seed=0")
    ([4, '8 9'], [{'a': [1]}], [0])
    """
    from hydra.core.override_parser.types import ChoiceSweep

    value = parsed(override).value()
    return [parsed(override)._convert_value(item) for item in value.list] if isinstance(value, ChoiceSweep) else [value]


def quoted(value: Any) -> str:
    """A value in the spelling that Hydra reads back.

    >>> quoted("it's"), quoted(True), quoted(1e-5), quoted(["query", "value"]), quoted({"rank": None})
    ("'it\\\\'s'", 'true', '1e-05', "['query','value']", '{rank:null}')
    """
    from hydra.core.override_parser.types import Quote, QuotedString

    if isinstance(value, list):
        return f"[{','.join(map(quoted, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{quoted(item)}' for key, item in value.items())}}}"
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    return QuotedString(str(value), Quote.single).with_quotes()
