"""From a table's columns to examples: how a cell is read as an input, a label or a group.

A function that reads a cell raises a ValueError over one that it cannot read; `Table.read` names the row.
"""

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from lorax_lab.config import TaskConfig
from lorax_lab.data import leaks
from lorax_lab.data.assets import sha256_of_file
from lorax_lab.data.media import read_image, read_sound
from lorax_lab.data.source import Example, Pools, chosen_columns
from lorax_lab.data.table import Table, is_missing, is_seen, printable
from lorax_lab.errors import ConfigError

LONGEST = 200
"""Most characters of a class's name."""
LARGEST = 1e18
"""Largest number that is learned: the squares of larger ones have no sum in fp32."""
NO_LABEL = frozenset(("-1", "-1.0"))
"""What stands for no label in data sets whose test labels are hidden."""
MEND = "mend it or leave the row out"

Tables = Mapping[str, Table]


def to_pools(where: str, tables: Tables, config: TaskConfig, names: Sequence[str] | None = None) -> Pools:
    """The examples of the tables `train` and, where there are any, `validation` and `test`; `names` are the classes in
    the order of their labels, by default the sorted labels of all tables.

    Raises:
        ConfigError: a missing column; a row whose inputs, group or label cannot be used; a column that tells the label.
    """
    label = str(config.label)
    rows = sum(len(table.column("label", label)) for table in tables.values())
    tables = labeled(tables, config, names)
    unlabeled = rows - sum(len(table.column("label", label)) for table in tables.values())
    classes: tuple[str, ...] = ()
    if config.labels == "classes":
        classes = tuple(config.classes or names or _class_names(tables, label))
    labels = _read(tables, label, _index_in(classes) if classes else LABELS[config.labels])
    read = {role: _examples(table, config, labels[role]) for role, table in tables.items()}
    leaks.refuse(where, tables, config)
    filled = {role: [example for example in rows if not _is_blank(example)] for role, rows in read.items()}
    blank = sum(len(read[role]) - len(filled[role]) for role in read)
    return Pools(where, classes, filled["train"], filled.get("validation"), filled.get("test"), blank, unlabeled)


def labeled(tables: Tables, config: TaskConfig, names: Sequence[str] | None = None) -> Tables:
    """The tables, with `task.drop_unlabeled=true` without the rows that have no label. Beside two other classes, none
    of them a negative number, -1 is none, as in GLUE, until it is named: a ConfigError says how."""
    label = str(config.label)
    cells = {role: table.column("label", label) for role, table in tables.items()}
    if config.labels == "classes" and not (config.classes or names):
        found = {str(cell).strip() for of_table in cells.values() for cell in of_table if not is_missing(cell)}
        others = in_order(found - NO_LABEL)
        if len(others) > 1 and found & NO_LABEL and not any(name.startswith("-") for name in others):
            cells = {role: [None if str(c).strip() in NO_LABEL else c for c in cells[role]] for role in cells}
            if not config.drop_unlabeled:
                listed = ",".join(map(printable, others[:5])) + (",…" if len(others) > 5 else "")
                unclear = f"{tables['train'].where}: task.label={label} has -1 beside {listed}: it may be no label"
                cure = f"type task.classes=[-1,{listed}] if it is a class, or task.drop_unlabeled=true to leave it out"
                raise ConfigError(f"{unclear}; {cure}")
    if not config.drop_unlabeled:
        return tables
    used = {
        role: replace(table, rows=[row for row, cell in enumerate(cells[role]) if not is_missing(cell)])
        for role, table in tables.items()
    }
    if not used["train"].rows:
        no_label = f"task.label={config.label}: no row has a label in {tables['train'].where}"
        raise ConfigError(f"{no_label}; name another column")
    return used


def _examples(table: Table, config: TaskConfig, labels: list[Any]) -> list[Example]:
    columns = chosen_columns(config)
    inputs = {key: _inputs(table, key, columns[key], form) for key, form in config.inputs.items() if key in columns}
    groups = table.read("group", config.group, _group) if config.group else [None] * len(labels)
    rows = [{key: values[row] for key, values in inputs.items()} for row in range(len(labels))]
    cells = table.column("image", columns["image"]) if "image" in inputs else [""] * len(labels)
    files = [cell if isinstance(cell, str) else f"row {table.number(row)}" for row, cell in enumerate(cells)]
    return [Example(*parts) for parts in zip(rows, labels, groups, files, strict=True)]


def _inputs(table: Table, key: str, column: str, form: str) -> list[Any]:
    if form not in FILES:
        return table.read(key, column, INPUTS[form])
    values = table.read(key, column, lambda cell: INPUTS[form](_content(table.folder, cell)))
    if form == "audio":
        values = [replace(sound, name=f"{table.where}, row {table.number(i)}") for i, sound in enumerate(values)]
    return values


def _is_blank(example: Example) -> bool:
    values = example.inputs.values()
    return bool(values) and all(isinstance(value, str) and is_missing(value) for value in values)


# ---- cells


def _text(cell: Any) -> str:
    if not isinstance(cell, str | int | float) or cell != cell:
        raise ValueError(f"text is needed; {MEND}")
    text = str(cell)
    try:
        text.encode()
    except UnicodeEncodeError as error:  # a lone surrogate, which no tokenizer and no file takes
        raise ValueError(f"it has half a character at place {error.start + 1}; {MEND}") from error
    return text


def _content(folder: Path, cell: Any) -> Path | bytes:
    """The file that a cell names by its path, which starts at `folder`, or has as bytes."""
    if is_missing(cell) or not isinstance(cell, str | bytes):
        raise ValueError("the path of a file is needed; leave the row out")
    return cell if isinstance(cell, bytes) else folder / os.path.expanduser(cell)


def content_hashes(table: Table, key: str, column: str) -> list[str]:
    """The hash of each file that a column names, or has as bytes; of a file that is not there, that of nothing."""

    def sha256(cell: Any) -> str:
        file = _content(table.folder, cell)
        if isinstance(file, Path) and os.path.isfile(file):
            return sha256_of_file(file)
        return hashlib.sha256(file if isinstance(file, bytes) else b"").hexdigest()

    return table.read(key, column, sha256)


def _group(cell: Any) -> str:
    if is_missing(cell):
        raise ValueError("a row without a group could straddle splits; name its group, or another column")
    return str(cell)


INPUTS: dict[str, Callable[[Any], Any]] = {"text": _text, "image": read_image, "audio": read_sound}
"""How a cell, or the file that it names, is read, by the form of the input."""
FILES = ("image", "audio")
"""The forms whose columns name files, or hold what is in them."""


# ---- labels: the index of a class, a number, or a text


def _read(tables: Tables, column: str, read_cell: Callable[[Any], Any]) -> dict[str, list[Any]]:
    def read_label(cell: Any) -> Any:
        if is_missing(cell):
            raise ValueError("give it a label, or type task.drop_unlabeled=true to leave it out")
        return read_cell(cell)

    return {role: table.read("label", column, read_label) for role, table in tables.items()}


def _number(cell: Any) -> float:
    try:
        number = float(cell) if isinstance(cell, int | float | str | Decimal) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= LARGEST:
        needed = f"regression needs a number up to {LARGEST:g}, with a point as in 1.5"
        raise ValueError(f"{needed}; mend it, or scale the column task.label")
    return number


def _index_in(classes: Sequence[str]) -> Callable[[Any], int]:
    index = {name: i for i, name in enumerate(classes)}

    def index_of(cell: Any) -> int:
        name = cell if isinstance(cell, str) and cell in index else _class(cell)  # declared names stand as they are
        if name not in index:
            raise ValueError(f"the classes are {', '.join(map(printable, classes[:20]))}; {MEND}")
        return index[name]

    return index_of


def _class_names(tables: Tables, label: str) -> tuple[str, ...]:
    """The distinct labels of all tables as words, whole numbers in their order and the rest by the alphabet."""
    values = [name for rows in _read(tables, label, _class).values() for name in rows]
    names = set(values)
    if len(names) > max(2, len(values) // 2):
        too_many = f"task.label={label} has {len(names)} different values in {len(values)} rows, too many for classes"
        raise ConfigError(f"{tables['train'].where}: {too_many}; name another column, or type task.kind=regression")
    return in_order(names)


def _class(cell: Any) -> str:
    """A class's name; spaces around it and signs that nobody sees do not count."""
    if isinstance(cell, float) and not cell.is_integer():
        raise ValueError(f"a number is no class; type task.kind=regression, or {MEND}")
    if not isinstance(cell, str | int | float):
        raise ValueError("a class is a word or a whole number; name another column in task.label")
    name = str(int(cell)) if isinstance(cell, float) else "".join(filter(is_seen, _text(cell))).strip()
    if len(name) > LONGEST:
        raise ValueError(f"a class has at most {LONGEST} characters; name another column in task.label")
    return name


def in_order(names: set[str]) -> tuple[str, ...]:
    """Whole numbers in their order, and other names by the alphabet.

    >>> in_order({"10", "9", "-1"}), in_order({"10", "nine"}), in_order({"--1", "-1"})
    (('-1', '9', '10'), ('10', 'nine'), ('--1', '-1'))
    """
    if all(name.removeprefix("-").isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (Decimal(name), name)))  # int takes 4,300 digits at most
    return tuple(sorted(names))


LABELS: dict[str, Callable[[Any], Any]] = {"classes": _class, "numbers": _number, "texts": _text}
"""How a cell is read as a label, by the labels' form."""
