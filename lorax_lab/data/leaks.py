"""Leaks: which examples belong in one split, and what a person should know of a table before anything trains.

Examples that share a document, a passage or a wording are one group. A table is refused where a column is the label, or
a code of it. An input that gives the answer away in other words, or in a picture, is not seen.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lorax_lab.config import TaskConfig
from lorax_lab.data.source import Example, Pools, chosen_columns
from lorax_lab.data.table import Table, is_missing, printable
from lorax_lab.errors import ConfigError

FEWEST = 20
"""Rows from which on what holds in every row is taken for no chance."""
COPIES = 0.9
"""Share of the rows from which on an input that equals the label is its copy."""
TELLING = 6
"""Test examples from which on a difference can be significant: if all of five agree, a sign test has p = .0625."""
INPUT = "the answer would be read off, not learned; name another column for"
GROUP = "a class would be in one split alone; leave out"
LOOKALIKES = str.maketrans("асеорхуіјѕԁһвкмнтαβεηικνορτυχ", "aceopxyijsdhbkmhtabehikvoptyx")
"""Letters of Cyrillic and Greek, small ones for both cases, that look like a Latin one."""
MISSING = frozenset(("n/a", "na", "nan", "none", "null", "-", "?"))
"""Classes that may stand for no label."""
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
    from scipy.cluster.hierarchy import DisjointSet

    sets = DisjointSet(key for keys_of_one in tied for key in keys_of_one)
    for keys_of_one in tied:
        for key in keys_of_one[1:]:
            sets.merge(keys_of_one[0], key)
    names = {key: min(group) for group in sets.subsets() for key in group}
    return [names[keys_of_one[0]] if keys_of_one else None for keys_of_one in tied]


def refuse(where: str, tables: Mapping[str, Table], config: TaskConfig) -> None:
    """Refuse tables of which an input is the label, in 90 % of the rows or more, or of which it or the group has one
    value for each class: a ConfigError names the column."""
    if config.labels == "texts":  # a completion may repeat its prompt
        return
    columns = {key: name for key, name in chosen_columns(config).items() if config.inputs.get(key, "text") == "text"}
    cells = {key: [_plain(c) for t in tables.values() for c in t.column(key, name)] for key, name in columns.items()}
    labels = cells.pop("label")
    rows, classes = len(labels), len(set(labels))
    if classes < 2:
        return
    for key, values in cells.items():
        copies = sum(cell == label for cell, label in zip(values, labels, strict=True))
        is_code = len(set(zip(values, labels, strict=True))) == classes == len(set(values))
        if key != "group" and copies >= COPIES * rows:
            how = f"is the label in {copies:,} of {rows:,} rows"
        elif config.labels == "classes" and rows >= FEWEST and is_code:
            how = f"has one value for each label in {rows:,} rows"
        else:
            continue
        raise ConfigError(f"{where}: task.{key}={columns[key]} {how}: {GROUP if key == 'group' else INPUT} task.{key}")


def _plain(cell: Any) -> str:
    """A cell without case and spaces around it; 1 is 1.0."""
    try:
        number = float(cell)
        return str(int(number)) if number.is_integer() else repr(number)
    except (TypeError, ValueError, OverflowError):
        return "" if is_missing(cell) else str(cell).strip().casefold()


def require_learnable(pools: Pools, splits: Sequence[Sequence[Example]], config: TaskConfig) -> None:
    """A ConfigError names a class of one's own data that test examples have and no training example has."""
    train, _, test = splits
    lacking = Counter(example.label for example in test)
    for example in train:
        lacking.pop(example.label, None)
    if pools.classes and config.path is not None and lacking:
        (label, count), few = lacking.most_common(1)[0], config.train_examples is not None
        nobody = f"{pools.where}: no training example has the label {printable(pools.classes[int(label)])!r}"
        cure = "type task.train_examples=null for all rows" if few else "add such rows to training"
        raise ConfigError(f"{nobody} of {count} test examples, so it cannot be learned; {cure}, or leave them out")


def notes_of(pools: Pools, splits: Sequence[Sequence[Example]], config: TaskConfig) -> tuple[str, ...]:
    """What is to be said: that training examples are scored, and of data of one's own, which classes look alike or like
    no label, and which a split lacks."""
    notes = [MEMORISED] if config.memorise else []
    notes += [] if config.path is None else _notes_of_labels(pools.classes)
    if config.path is not None and not config.memorise and len(splits[2]) < TELLING:
        notes.append(f"{len(splits[2])} test examples: with fewer than {TELLING} no difference can be significant")
    names = [] if config.path is None else ["train"] if config.memorise else ["train", "validation", "test"]
    for name, examples in zip(names, splits, strict=False):
        present = {example.label for example in examples}
        lacking = [printable(label) for index, label in enumerate(pools.classes) if index not in present]
        if lacking:
            notes.append(f"the {name} split has no row of {len(lacking)} classes, such as {lacking[0]}")
    return tuple(notes)


def _notes_of_labels(classes: Sequence[str]) -> list[str]:
    """
    >>> _notes_of_labels(["1", "1.0"]), _notes_of_labels(["N/A"])
    (["'1' and '1.0' are two classes; mend one..."], ["'N/A' is a class; if it stands for no label, ..."])
    """
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(_plain(unicodedata.normalize("NFKC", name)).translate(LOOKALIKES), []).append(name)
    of_one = [" and ".join(map(ascii, names)) for names in alike.values() if len(names) > 1]
    notes = [f"{names} are two classes; mend one if they are the same" for names in of_one]
    empty = [ascii(name) for name in classes if name.casefold() in MISSING]
    return notes + [f"{name} is a class; if it stands for no label, leave it empty" for name in empty]
