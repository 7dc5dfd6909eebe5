"""The forms that labels can have: a class's index, a number, or a text. A function for each reads a column of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorax_lab.data.table import Table, is_missing, shown
from lorax_lab.errors import ConfigError

Tables = Mapping[str, Table]
Labels = dict[str, list[Any]]


def classes(tables: Tables, column: str, names: Sequence[str] | None) -> tuple[tuple[str, ...], Labels]:
    """The class names, and for each table the index of each row's class.

    Args:
        names: the classes in their order; without it they are the sorted labels of all tables.

    Raises:
        ConfigError: a row without a label, or whose label is no class.
    """
    known = tuple(names) if names else class_names(tables, column)
    index = {name: i for i, name in enumerate(known)}
    return known, _each(tables, column, lambda table, row, value: _index(table, row, value, index))


def numbers(tables: Tables, column: str, _: Sequence[str] | None) -> tuple[tuple[str, ...], Labels]:
    """No classes, and for each table the number of each row.

    Raises:
        ConfigError: a row without a label, or whose label is not a finite number.
    """
    return (), _each(tables, column, _number)


def texts(tables: Tables, column: str, _: Sequence[str] | None) -> tuple[tuple[str, ...], Labels]:
    """No classes, and for each table the text of each row.

    Raises:
        ConfigError: a row without a label, or whose label is no text.
    """
    return (), _each(tables, column, as_text)


LABELS: dict[str, Callable[[Tables, str, Sequence[str] | None], tuple[tuple[str, ...], Labels]]] = {
    "classes": classes,
    "numbers": numbers,
    "texts": texts,
}


def class_names(tables: Tables, label: str) -> tuple[str, ...]:
    """The distinct labels of all tables as words, whole numbers in their order and the rest by the alphabet.

    Raises:
        ConfigError: a label that is missing or no class, or so many of them that they are no classes.
    """
    values = [name for rows in _each(tables, label, _class).values() for name in rows]
    names = set(values)
    if len(names) > max(2, len(values) // 2):
        too_many = f"task.label={label} has {len(names)} different values in {len(values)} rows, too many for classes"
        raise ConfigError(f"{tables['train'].where}: {too_many}; name another column, or type task.kind=regression")
    return in_order(names)


def in_order(names: set[str]) -> tuple[str, ...]:
    """Whole numbers in their order, and other names by the alphabet.

    >>> in_order({"10", "9"}), in_order({"10", "nine"})
    (('9', '10'), ('10', 'nine'))
    """
    if all(name.lstrip("-").isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def as_text(table: Table, row: int, value: Any) -> str:
    """A label as text.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(value, str | int | float):
        raise table.fault(row, f"the label is {shown(value)} and not text")
    return str(value)


def _each(tables: Tables, column: str, read: Callable[[Table, int, Any], Any]) -> Labels:
    labels: Labels = {}
    for role, table in tables.items():
        values = table.column("label", column)
        for row, value in enumerate(values):
            if is_missing(value):
                raise table.fault(row, f"task.label={column} is empty; give it a label or leave the row out")
        labels[role] = [read(table, row, value) for row, value in enumerate(values)]
    return labels


def _class(table: Table, row: int, value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, float):
        raise table.fault(row, f"the label {value} is a number and no class; type task.kind=regression")
    if not isinstance(value, str | int):
        raise table.fault(row, f"the label is {shown(value)}; a class is a word or a whole number")
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
        raise table.fault(row, f"the label {shown(value)} is not a finite number; regression needs one")
    return number
