"""From columns to examples: which column is what, which labels there are, and which row is at fault."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorax_lab.config import TaskConfig
from lorax_lab.data.examples import Example, Pools
from lorax_lab.errors import ConfigError, suggest


@dataclass(frozen=True)
class Table:
    """Named columns of equal length; `where` names the table in messages. Rows count from 1, after a header."""

    where: str
    columns: Mapping[str, Sequence[Any]]

    def column(self, key: str, name: str) -> list[Any]:
        """The values of the column that `task.<key>` names.

        Raises:
            ConfigError: no such column; the nearest names come first.
        """
        if not self.columns:
            raise ConfigError(f"{self.where} is empty: it has no columns")
        if name not in self.columns:
            what = suggest(name, tuple(self.columns)).replace("allowed:", "its columns:")
            raise ConfigError(f"task.{key}={name} is not a column of {self.where}; {what}")
        return list(self.columns[name][:])

    def fault(self, row: int, what: str) -> ConfigError:
        """The error for the row of index `row`, counted from 1 in the message."""
        return ConfigError(f"{self.where}, row {row + 1}: {what}")


def to_pools(where: str, tables: Mapping[str, Table], config: TaskConfig, names: Sequence[str] | None = None) -> Pools:
    """The examples of the tables `train` and, where there are any, `validation` and `test`.

    Args:
        where: the source's name in messages.
        names: the classes in the order of their labels; without it, the sorted labels of all tables.

    Raises:
        ConfigError: a missing column, or a row whose text, group or label cannot be used.
    """
    classes: tuple[str, ...] = ()
    if config.kind == "classification":
        classes = tuple(names) if names else class_names(tables, str(config.label))
    read = {role: _examples(table, config, classes) for role, table in tables.items()}
    filled = {role: [e for e in rows if e.text.strip() or (e.text_pair or "").strip()] for role, rows in read.items()}
    blank = sum(len(read[role]) - len(filled[role]) for role in read)
    return Pools(where, classes, filled["train"], filled.get("validation"), filled.get("test"), blank)


def class_names(tables: Mapping[str, Table], label: str) -> tuple[str, ...]:
    """The distinct labels of all tables as words, whole numbers in their order and the rest by the alphabet.

    Raises:
        ConfigError: a label that is missing or no class, or so many of them that they are no classes.
    """
    found = [_class(table, row, value) for table in tables.values() for row, value in _labels(table, label)]
    names = set(found)
    if len(names) > max(2, len(found) // 2):
        what = f"task.label={label} has {len(names)} different values in {len(found)} rows, too many for classes"
        raise ConfigError(f"{tables['train'].where}: {what}; name another column, or type task.kind=regression")
    if all(name.lstrip("-").isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _examples(table: Table, config: TaskConfig, classes: tuple[str, ...]) -> list[Example]:
    texts = _texts(table, "text", config.text)
    pairs = _texts(table, "text_pair", config.text_pair)
    groups = _groups(table, config.group)
    index = {name: i for i, name in enumerate(classes)}
    labels: list[float | int] = []
    for row, value in _labels(table, str(config.label)):
        labels.append(_index(table, row, value, index) if index else _number(table, row, value))
    rows = range(len(labels))
    return [Example(texts[i], labels[i], pairs[i] if pairs else None, groups[i] if groups else None) for i in rows]


def _texts(table: Table, key: str, name: str | None) -> list[str]:
    values = table.column(key, name) if name else []
    for row, value in enumerate(values):
        if not isinstance(value, str | int | float) or value != value:
            raise table.fault(row, f"task.{key}={name} is {_shown(value)} and not text; mend it or leave the row out")
    return [str(value) for value in values]


def _groups(table: Table, name: str | None) -> list[str]:
    values = table.column("group", name) if name else []
    for row, value in enumerate(values):
        if _missing(value):
            raise table.fault(row, f"task.group={name} is empty; a row without a group could straddle splits")
    return [str(value) for value in values]


def _labels(table: Table, name: str) -> list[tuple[int, Any]]:
    values = list(enumerate(table.column("label", name)))
    for row, value in values:
        if _missing(value):
            raise table.fault(row, f"task.label={name} is empty; give it a label or leave the row out")
    return values


def _class(table: Table, row: int, value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, float):
        raise table.fault(row, f"the label {value} is a number and no class; type task.kind=regression")
    if not isinstance(value, str | int):
        raise table.fault(row, f"the label is {_shown(value)}; a class is a word or a whole number")
    return str(value).strip()


def _index(table: Table, row: int, value: Any, index: Mapping[str, int]) -> int:
    name = _class(table, row, value)
    if name not in index:
        raise table.fault(row, f"the label {name} is not one of the classes: {', '.join(index)}")
    return index[name]


def _number(table: Table, row: int, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise table.fault(row, f"the label {_shown(value)} is not a finite number; regression needs one")
    return number


def _missing(value: Any) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _shown(value: Any) -> str:
    return "missing" if value is None or value != value else f"{type(value).__name__} {str(value)[:40]!r}"
