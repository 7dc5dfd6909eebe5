"""Which values a setting may have: plain ones, and `${key}`, the value of another setting. Nothing that calls anything.

OmegaConf's own grammar reads a value, so what is refused here is exactly what OmegaConf would evaluate.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

SPECIAL = re.compile(r"_\w+_|\(\)")
"""Keys that Hydra (`_target_`, `_partial_`, `_args_`) and Python's logging (`()`) take as something to call."""
PLAIN = "settings are plain values, or ${key} of another setting"


def foreign_part(value: Any, keys: Collection[str]) -> str | None:
    """The first part of a value that is neither plain nor the value of another setting; None where all is.

    An escaped `\\${` is refused too: it is `${` where the value is read once more, as from a recorded configuration.

    >>> foreign_part("${seed}", ["seed"]), foreign_part(["a", {"_target_": "os.system"}], [])
    (None, '_target_')
    >>> foreign_part("x ${oc.env:HOME}", ["seed"]), foreign_part("${${seed}}", ["seed"]), foreign_part("${a}", ["seed"])
    ('${oc.env:HOME}', '${${seed}}', '${a}')

    Args:
        keys: the dotted names of the settings that a value may refer to.
    """
    if isinstance(value, Mapping):
        parts = (key if SPECIAL.fullmatch(str(key)) else foreign_part(str(key), keys) for key in value)
        return next((str(part) for part in parts if part), None) or foreign_part(list(value.values()), keys)
    if isinstance(value, list | tuple):
        return next((part for part in (foreign_part(item, keys) for item in value) if part), None)
    if not isinstance(value, str) or "${" not in value:
        return None
    return _foreign_reference(value, keys)


def _foreign_reference(text: str, keys: Collection[str]) -> str | None:
    """The first interpolation in a text that is not `${key}`; the whole text where OmegaConf cannot read it."""
    from omegaconf.errors import GrammarParseError
    from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser
    from omegaconf.grammar_parser import parse

    try:
        references = list(_references(parse(text)))
    except (GrammarParseError, RecursionError):
        return text
    if any(isinstance(each, OmegaConfGrammarParser.TextContext) for each in references):
        return "\\${"
    return next((each.getText() for each in references if each.getText()[2:-1].strip() not in keys), None)


def _references(tree: Any) -> Iterator[Any]:
    """Each outermost interpolation of a parse tree; a text that has an escaped one."""
    from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser

    if isinstance(tree, OmegaConfGrammarParser.InterpolationContext):
        yield tree
        return
    if getattr(getattr(tree, "symbol", None), "type", None) == OmegaConfGrammarParser.ESC_INTER:
        yield tree.parentCtx
    for child in getattr(tree, "children", None) or ():
        yield from _references(child)
