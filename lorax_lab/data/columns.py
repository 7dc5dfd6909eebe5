"""From a table's columns to examples: which column is an input, the label or the group, and which row is at fault.

A label is a class's index, a number, or a text; a function for each form reads a column of them.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from lorax_lab.config import TaskConfig
from lorax_lab.data.media import Sound, is_file, read_image, read_sound
from lorax_lab.data.source import Example, Pools
from lorax_lab.data.table import Table, is_missing, is_unseen, printable, require_whole, shown
from lorax_lab.errors import ConfigError

LONGEST = 200
"""Most characters of a class's name."""
LARGEST = 1e18
"""Largest number that is learned: the squares of larger ones have no sum in fp32."""

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
        ConfigError: a row without a label, or whose label is not a finite number; numbers that fp32 does not tell
            apart.
    """
    import numpy as np

    labels = _each(tables, column, _number)
    values = {number for rows in labels.values() for number in rows}
    if len(values) > 1 and len({np.float32(value) for value in values}) == 1:
        alike = f"the numbers of task.label={column} make no difference in fp32, in which a model learns"
        raise ConfigError(f"{tables['train'].where}: {alike}; scale the column")
    return (), labels


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


def used(tables: Tables, config: TaskConfig) -> dict[str, Table]:
    """The tables, with `task.drop_unlabeled=true` without the rows that have no label.

    Raises:
        ConfigError: no row is left to train on.
    """
    if not config.drop_unlabeled:
        return dict(tables)
    kept = {}
    for role, table in tables.items():
        values = table.column("label", str(config.label))
        kept[role] = table.only([row for row, value in enumerate(values) if not is_missing(value)])
    if not kept["train"].kept:
        raise ConfigError(
            f"task.label={config.label}: no row has a label in {tables['train'].where}; name another column"
        )
    return kept


def class_names(tables: Tables, label: str) -> tuple[str, ...]:
    """The distinct labels of all tables as words, whole numbers in their order and the rest by the alphabet.

    Raises:
        ConfigError: a label that is missing or no class, labels written in two ways, or so many of them that they are
            no classes.
    """
    values = [name for rows in _each(tables, label, _class).values() for name in rows]
    names = set(values)
    if len(names) > max(2, len(values) // 2):
        too_many = f"task.label={label} has {len(names)} different values in {len(values)} rows, too many for classes"
        raise ConfigError(f"{tables['train'].where}: {too_many}; name another column, or type task.kind=regression")
    _require_one_type(tables, label)
    if pairs := alike(names, _plain):
        first, second = map(ascii, pairs[0])
        reason = f"the classes {first} and {second} look alike, and differ in spaces, hidden signs or forms of Unicode"
        raise ConfigError(f"task.label={label} of {tables['train'].where}: {reason}; write them in one way")
    return in_order(names)


def alike(names: Iterable[str], plain: Callable[[str], str]) -> list[list[str]]:
    """Those of the names that are one after `plain`, by groups.

    >>> alike(["Good", "bad", "good"], str.casefold)
    [['Good', 'good']]
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        groups[plain(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _plain(name: str) -> str:
    seen = "".join(sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign) != "Cf")
    return " ".join(seen.split())


def _require_one_type(tables: Tables, label: str) -> None:
    """A class is written in one way: not `1` and `"1"`, nor `true` among numbers, which would be one class or another
    by chance."""
    types: dict[str, str] = {}
    first: dict[bool, str] = {}
    for table in tables.values():
        for row, value in enumerate(table.column("label", label)):
            name, kind = _class(table, row, value), _type(value)
            other = types.setdefault(name, kind)
            first.setdefault(isinstance(value, bool), kind)
            if other != kind or len(first) > 1:
                others = first[not isinstance(value, bool)] if other == kind else other
                reason = f"the label is {shown(value)}, and in other rows a {others}"
                raise table.fault(row, f"{reason}; write task.label={label} in one way")


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "truth value"
    return "word" if isinstance(value, str) else "number"


def in_order(names: set[str]) -> tuple[str, ...]:
    """Whole numbers in their order, and other names by the alphabet.

    >>> in_order({"10", "9", "-1"}), in_order({"10", "nine"}), in_order({"--1", "-1"})
    (('-1', '9', '10'), ('10', 'nine'), ('--1', '-1'))
    """
    if all(name.removeprefix("-").isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def as_text(table: Table, row: int, value: Any) -> str:
    """A label as text.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(value, str | int | float):
        raise table.fault(row, f"the label is {shown(value)} and not text; mend it or leave the row out")
    return require_whole(table, row, "the label", str(value))


def _each(tables: Tables, column: str, read: Callable[[Table, int, Any], Any]) -> Labels:
    labels: Labels = {}
    for role, table in tables.items():
        values = table.column("label", column)
        if missing := [row for row, value in enumerate(values) if is_missing(value)]:
            empty = f"task.label={column} is empty ({len(missing)} of {len(values)} rows)"
            raise table.fault(missing[0], f"{empty}; give it a label, or type task.drop_unlabeled=true to leave it out")
        labels[role] = [read(table, row, value) for row, value in enumerate(values)]
    return labels


def _class(table: Table, row: int, value: Any) -> str:
    if isinstance(value, float) and not value.is_integer():
        usable = "type task.kind=regression" if math.isfinite(value) else "mend it or leave the row out"
        raise table.fault(row, f"the label {value} is a number and no class; {usable}")
    if not isinstance(value, str | int | float):
        kinds = "a class is a word or a whole number; name another column in task.label"
        raise table.fault(row, f"the label is {shown(value)}; {kinds}")
    name = str(int(value)) if isinstance(value, float) else str(value).strip()
    if len(name) > LONGEST:
        long = f"the label has {len(name):,} characters, and a class at most {LONGEST}"
        raise table.fault(row, f"{long}; name another column in task.label")
    return require_whole(table, row, "the label", name)


def _index(table: Table, row: int, value: Any, index: Mapping[str, int]) -> int:
    name = _class(table, row, value)
    if name not in index:
        raise table.fault(
            row, f"the label {name} is not one of the classes: {', '.join(map(printable, list(index)[:20]))}"
        )
    return index[name]


def _number(table: Table, row: int, value: Any) -> float:
    known = isinstance(value, int | float | str | Decimal) and not isinstance(value, bool)
    try:
        number = float(value) if known and "_" not in str(value)[:LONGEST] else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        comma = " with a point, as in 1.5" if isinstance(value, str) and "," in value else ""
        needed = f"is not a finite number; regression needs one{comma} in task.label"
        raise table.fault(row, f"the label {shown(value)} {needed}")
    if abs(number) > LARGEST:
        raise table.fault(row, f"the label {number:g} is too large: at most {LARGEST:g}; scale the column task.label")
    return number


def to_pools(where: str, tables: Mapping[str, Table], config: TaskConfig, names: Sequence[str] | None = None) -> Pools:
    """The examples of the tables `train` and, where there are any, `validation` and `test`.

    Args:
        where: the source's name in messages.
        names: the classes in the order of their labels; without it, the sorted labels of all tables.

    Raises:
        ConfigError: a missing column, or a row whose inputs, group or label cannot be used.
    """
    rows, tables = _count(tables, config), used(tables, config)
    unlabeled = rows - _count(tables, config)
    classes, labels = LABELS[config.labels](tables, str(config.label), names)
    read = {role: _examples(table, config, labels[role]) for role, table in tables.items()}
    filled = {role: [example for example in rows if not _is_blank(example)] for role, rows in read.items()}
    blank = sum(len(read[role]) - len(filled[role]) for role in read)
    notes = tuple(table.note for table in tables.values() if table.note)
    own = filled.get("validation"), filled.get("test")
    return Pools(where, classes, filled["train"], *own, blank, unlabeled, notes)


def _count(tables: Mapping[str, Table], config: TaskConfig) -> int:
    """Rows of all tables."""
    return sum(len(table.column("label", str(config.label))) for table in tables.values())


def chosen_columns(config: TaskConfig) -> dict[str, str]:
    """The column that each key names, of those keys that are set: the inputs, `label` and `group`."""
    columns = {key: getattr(config, key) for key in (*config.inputs, "label", "group")}
    return {key: column for key, column in columns.items() if column}


def _examples(table: Table, config: TaskConfig, labels: list[Any]) -> list[Example]:
    columns = chosen_columns(config)
    inputs = {key: INPUTS[form](table, key, columns[key]) for key, form in config.inputs.items() if key in columns}
    groups = _groups(table, config.group) if config.group else [None] * len(labels)
    rows = [{key: values[row] for key, values in inputs.items()} for row in range(len(labels))]
    return [Example(*parts) for parts in zip(rows, labels, groups, strict=True)]


def _texts(table: Table, key: str, name: str) -> list[str]:
    values = table.column(key, name)
    for row, value in enumerate(values):
        if not isinstance(value, str | int | float) or value != value:
            raise table.fault(row, f"task.{key}={name} is {shown(value)} and not text; mend it or leave the row out")
    return [require_whole(table, row, f"task.{key}={name}", str(value)) for row, value in enumerate(values)]


def _images(table: Table, key: str, name: str) -> list[Any]:
    return [_read(table, row, cell, read_image) for row, cell in enumerate(contents(table, key, name))]


def _sounds(table: Table, key: str, name: str) -> list[Sound]:
    sounds = [_read(table, row, cell, read_sound) for row, cell in enumerate(contents(table, key, name))]
    return [replace(sound, name=f"{table.where}, row {row + 1}") for row, sound in enumerate(sounds)]


def contents(table: Table, key: str, name: str) -> list[Path | bytes]:
    """The files that a column names by their paths, which start at the table's folder, or has as bytes.

    Raises:
        ConfigError: a row that has neither.
    """
    cells: list[Path | bytes] = []
    for row, value in enumerate(table.column(key, name)):
        if is_missing(value) or not isinstance(value, str | bytes):
            raise table.fault(row, f"task.{key}={name} is {shown(value)} and no path of a file; leave the row out")
        try:
            cells.append(value if isinstance(value, bytes) else table.folder / Path(value).expanduser())
        except RuntimeError as error:
            raise table.fault(
                row, f"task.{key}={name} is {shown(value)}, and there is no such user; mend it"
            ) from error
    return cells


def content_sha256(content: Path | bytes) -> str:
    """The hash of a file or of bytes; that no file is there is found out, and said, when it is read."""
    if isinstance(content, bytes) or not is_file(content):
        return hashlib.sha256(content if isinstance(content, bytes) else b"").hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(table: Table, row: int, cell: Path | bytes, read: Callable[[Path | bytes], Any]) -> Any:
    try:
        return read(cell)
    except ValueError as error:
        file = f"{cell} cannot be read: " if isinstance(cell, Path) else "cannot be read: "
        raise table.fault(row, f"{file}{error}; mend it or leave the row out") from error


INPUTS: dict[str, Callable[[Table, str, str], list[Any]]] = {"text": _texts, "image": _images, "audio": _sounds}
"""How a column is read, by the form of the input."""
FILES = ("image", "audio")
"""The forms whose columns name files, or hold what is in them."""


def _groups(table: Table, name: str) -> list[str]:
    values = table.column("group", name)
    for row, value in enumerate(values):
        if is_missing(value):
            raise table.fault(row, f"task.group={name} is empty; a row without a group could straddle splits")
    return [str(value) for value in values]


def _is_blank(example: Example) -> bool:
    values = example.inputs.values()
    return bool(values) and all(isinstance(value, str) and is_unseen(value) for value in values)
