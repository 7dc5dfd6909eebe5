"""From a table's columns to examples: which column is an input, the label or the group, and which row is at fault."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorax_lab.config import TaskConfig
from lorax_lab.data.content import is_file, sha256_of_file
from lorax_lab.data.examples import Example, Pools
from lorax_lab.data.images import read_image
from lorax_lab.data.labels import LABELS, used
from lorax_lab.data.sounds import Sound, read_sound
from lorax_lab.data.table import Table, is_missing, is_unseen, require_whole, shown


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
    return sha256_of_file(content)


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
