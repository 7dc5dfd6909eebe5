"""Leaks: which examples belong in one split, and what a person should know of a table before anything trains.

Examples that share a document, a passage or a wording are one group. A table is refused where a column tells the
answer: in every row, or as a copy of the label but for a few rows that were mended by hand. An input that gives the
answer away in most rows, in other words, or in a picture, is not seen.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lorax_lab.config import TaskConfig
from lorax_lab.data.source import Example, Pools, chosen_columns
from lorax_lab.data.table import Table, is_missing, printable
from lorax_lab.errors import ConfigError

FEWEST = 20
"""Rows from which on what holds in every row is taken for no chance."""
COPIES = 0.9
"""Share of the rows from which on an input that equals the label is its copy."""
INPUT = "the answer would be read off, not learned; name another column for"
GROUP = "a class would be in one split alone; leave out"
FEW = 5
"""How many classes a note names."""
MEMORISED = "validation and test are the training examples: all scores are those of the training examples"
"""What is said where `task.memorise` is true."""


def wording(text: str) -> str:
    """Only the words of a text: case, punctuation, spacing and Unicode's forms do not count.

    >>> wording("YAY!! Another  good 'phone' interview."), wording(":-)")
    ('yay another good phone interview', '')
    """
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def keys(**parts: str) -> list[str]:
    """The keys that tie an example to others: each part's kind with its wording. A part without words has no key.

    >>> keys(document="31", text="Well worth it!"), keys(text=":-)")
    (['document 31', 'text well worth it'], [])
    """
    return [f"{kind} {plain}" for kind, part in parts.items() if (plain := wording(part))]


def connected(tied: Sequence[Sequence[str]]) -> list[str | None]:
    """The group of each example. Two examples that share a key are in one group, and so are all examples that a chain
    of shared keys links. A group is named by its alphabetically first key; an example without keys has none.

    >>> connected([["document 1", "text wow"], ["document 2", "text wow"], ["document 2"], ["document 3"], []])
    ['document 1', 'document 1', 'document 1', 'document 3', None]
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for keys_of_one in tied:
        for key in keys_of_one[1:]:
            first, second = sorted((root(keys_of_one[0]), root(key)))
            parent[second] = first
    return [root(keys_of_one[0]) if keys_of_one else None for keys_of_one in tied]


def alike(names: Iterable[str], plain: Callable[[str], str]) -> list[list[str]]:
    """Those of the names that are one after `plain`, by groups.

    >>> alike(["Good", "bad", "good"], str.casefold)
    [['Good', 'good']]
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        groups[plain(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def refuse(where: str, tables: Mapping[str, Table], config: TaskConfig) -> None:
    """Refuse tables in whose every row an input or the group tells the label: a ConfigError says how it does."""
    if config.labels == "texts":  # a completion may repeat its prompt
        return
    columns = {
        key: column for key, column in chosen_columns(config).items() if config.inputs.get(key, "text") == "text"
    }
    cells = {
        key: [cell for table in tables.values() for cell in table.column(key, column)]
        for key, column in columns.items()
    }
    labels = cells.pop("label")
    read = _word
    if len(set(map(_word, labels))) < len(set(map(_letters, labels))):  # such as C and C++, or signs alone
        read = _letters
    labels = list(map(read, labels))
    if len(set(labels)) < 2:
        return
    for key in cells:
        is_group = key == "group"
        if how := _tells(list(map(read, cells[key])), labels, config.labels == "classes", is_group):
            why = GROUP if is_group else INPUT
            raise ConfigError(f"{where}: task.{key}={columns[key]} {how}: {why} task.{key}, or mend the rows")


def _word(cell: Any) -> str:
    """A cell as words: case, punctuation and spacing do not count, and 1 is 1.0."""
    if is_missing(cell):
        return ""
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        return wording(str(cell)) or _letters(cell)
    return str(int(number)) if number.is_integer() else repr(number)


def _letters(cell: Any) -> str:
    """A cell as it stands, where words do not tell the classes apart."""
    return "" if is_missing(cell) else str(cell).strip()


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
    return bool(label) and [name for name in classes if name and f" {name} " in f" {text} "] == [label]


def notes_of(pools: Pools, splits: Sequence[Sequence[Example]], config: TaskConfig) -> tuple[str, ...]:
    """What is to be said: that training examples are scored, how the table was read, classes that are nearly one or
    that a split lacks."""
    notes = [*([MEMORISED] if config.memorise else []), *pools.notes]
    if config.label is None and config.path is None:
        return tuple(notes)
    notes += [f"the classes {_list(group)} differ in case alone" for group in alike(pools.classes, str.casefold)]
    names = ("train",) if config.memorise else ("train", "validation", "test")
    for name, examples in zip(names, splits, strict=False):
        present = {example.label for example in examples}
        lacking = [label for index, label in enumerate(pools.classes) if index not in present]
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
