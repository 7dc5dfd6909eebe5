"""What a person should know of a table before anything trains: refused where a column tells the answer, else noted.

What is refused holds in every row, or is a copy of the label but for a few rows that were mended by hand. An input that
gives the answer away in most rows, in other words, or in a picture, is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorax_lab.config import TaskConfig
from lorax_lab.data.columns import alike, chosen_columns, used
from lorax_lab.data.groups import wording
from lorax_lab.data.source import Example, Pools
from lorax_lab.data.table import Table, is_missing, printable
from lorax_lab.errors import ConfigError

FEWEST = 20
"""Rows from which on what holds in every row is taken for no chance."""
COPIES = 0.9
"""Share of the rows from which on an input that equals the label is its copy."""
INPUT = "the answer would be read off, not learned"
GROUP = "a class would be in one split alone"


def refuse(where: str, tables: Mapping[str, Table], config: TaskConfig) -> None:
    """Refuse tables in whose every row an input or the group tells the label.

    Raises:
        ConfigError: it names the key and its column, and says how the column tells the label.
    """
    columns, tables = chosen_columns(config), used(tables, config)
    label = columns.pop("label", None)
    if not label or config.labels == "texts":  # a completion may repeat its prompt
        return
    read = _word
    labels = _cells(tables, "label", label, read)
    if len(set(labels)) < len(set(_cells(tables, "label", label, _letters))):  # such as C and C++, or signs alone
        read = _letters
        labels = _cells(tables, "label", label, read)
    if len(set(labels)) < 2:
        return
    for key, column in columns.items():
        if config.inputs.get(key, "text") != "text":
            continue
        is_group = key == "group"
        if how := _tells(_cells(tables, key, column, read), labels, config.labels == "classes", is_group):
            why = GROUP if is_group else INPUT
            cure = "leave task.group out" if is_group else f"name another column for task.{key}"
            raise ConfigError(f"{where}: task.{key}={column} {how}: {why}; {cure}, or mend the rows")


def _cells(tables: Mapping[str, Table], key: str, column: str, read: Callable[[Any], str]) -> list[str]:
    return [read(value) for table in tables.values() for value in table.column(key, column)]


def _word(value: Any) -> str:
    """A cell as words: case, punctuation and spacing do not count, and 1 is 1.0."""
    if is_missing(value):
        return ""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return wording(str(value)) or _letters(value)
    return str(int(number)) if number.is_integer() else repr(number)


def _letters(value: Any) -> str:
    """A cell as it stands, where words do not tell the classes apart."""
    return "" if is_missing(value) else str(value).strip()


def _tells(cells: Sequence[str], labels: Sequence[str], are_classes: bool, is_group: bool) -> str | None:
    """How a column tells the label, in words; None where it does not."""
    count = f"in every one of {len(labels):,} rows"
    copies = sum(cell == label for cell, label in zip(cells, labels, strict=True))
    if not is_group and copies >= COPIES * len(labels):
        return f"is the label {count if copies == len(labels) else f'in {copies:,} of {len(labels):,} rows'}"
    if not are_classes or len(labels) < FEWEST:
        return None
    pairs, classes = set(zip(cells, labels, strict=True)), set(labels)
    if len(pairs) == len(classes) == len(set(cells)):
        return f"has one value for each label {count}"
    if not is_group and all(_names_alone(cell, label, classes) for cell, label in pairs):
        return f"says the label's name, and no other label's, {count}"
    return None


def _names_alone(text: str, label: str, classes: set[str]) -> bool:
    """Whether a text has the words of its own label and of no other one."""
    said = f" {text} "
    return bool(label) and [name for name in classes if name and f" {name} " in said] == [label]


FEW = 5
"""How many classes a note names."""
MEMORISED = "validation and test are the training examples: all scores are those of the training examples"
"""What is said where `task.memorise` is true."""


def notes_of(pools: Pools, splits: Sequence[Sequence[Example]], config: TaskConfig) -> tuple[str, ...]:
    """What is to be said: that training examples are scored, how the table was read, classes that are nearly one or
    that a split lacks."""
    apart = dict(zip(("train", "validation", "test"), splits, strict=True))
    if config.memorise:
        apart = {"train": apart["train"]}
    notes = [*([MEMORISED] if config.memorise else []), *pools.notes]
    if config.label is None and config.path is None:
        return tuple(notes)
    notes += [f"the classes {_list(group)} differ in case alone" for group in alike(pools.classes, str.casefold)]
    for name, examples in apart.items():
        present = {example.label for example in examples}
        lacking = [known for label, known in enumerate(pools.classes) if label not in present]
        if lacking:
            notes.append(f"the {name} split has no row of {_list(lacking)}")
    return tuple(notes)


def _list(names: Sequence[str]) -> str:
    """
    >>> _list("ab"), _list("abcdefgh")
    ('a, b', 'a, b, c, d, e and 3 more')
    """
    listed = ", ".join(map(printable, names[:FEW]))
    return listed if len(names) <= FEW else f"{listed} and {len(names) - FEW} more"
