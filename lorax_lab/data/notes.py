"""What a person should know of a table of theirs before anything trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from lorax_lab.config import TaskConfig
from lorax_lab.data.examples import Example, Pools
from lorax_lab.data.labels import alike
from lorax_lab.data.splits import asked, disjoint
from lorax_lab.data.table import printable

FEW = 5
"""How many classes a note names."""
MEMORISED = "validation and test are the training examples: all scores are those of the training examples"
"""What is said where `task.memorise` is true."""
SMALLER = 0.01
"""The share of a split that may lack before it is said."""


def notes_of(pools: Pools, splits: Sequence[Sequence[Example]], config: TaskConfig) -> tuple[str, ...]:
    """What is to be said: that training examples are scored, how the table was read, classes that are nearly one or
    that a split lacks, splits that are smaller than asked for, texts that tell the label."""
    apart = dict(zip(("train", "validation", "test"), splits, strict=True))
    if config.memorise:
        apart = {"train": apart["train"]}
    notes = [*([MEMORISED] if config.memorise else []), *pools.notes, *_smaller(pools, apart, config)]
    if config.label is None and config.path is None:
        return tuple(notes)
    notes += [f"the classes {_list(group)} differ in case alone" for group in alike(pools.classes, str.casefold)]
    for name, examples in apart.items():
        present = {example.label for example in examples}
        lacking = [known for label, known in enumerate(pools.classes) if label not in present]
        if lacking:
            notes.append(f"the {name} split has no row of {_list(lacking)}")
    return (*notes, *_telling(_all(pools), config))


def _smaller(pools: Pools, splits: Mapping[str, Sequence[Example]], config: TaskConfig) -> list[str]:
    """The splits that whole groups fill less than was asked for, by more than a hundredth."""
    if all(example.group is None for example in _all(pools)):
        return []
    notes, wanted = [], asked(disjoint(pools)[0], config)
    for role, examples in splits.items():
        if role != "train" and len(examples) < (1 - SMALLER) * wanted[role]:
            key = f"task.{role}_examples={getattr(config, f'{role}_examples') or 'null'}"
            count = f"the {role} split has {len(examples)} examples, and {wanted[role]} were asked for by {key}"
            notes.append(f"{count}: groups are not cut, and no other fits into the rest")
    return notes


def _telling(examples: Sequence[Example], config: TaskConfig) -> list[str]:
    notes = []
    for key in _text_keys(examples):
        named = f"task.{key}={getattr(config, key)}"
        pairs = Counter((example.inputs[key], example.label) for example in examples)
        values, labels = ({pair[i] for pair in pairs} for i in (0, 1))
        if config.labels == "texts":
            if all(text.strip() == str(label).strip() for text, label in pairs):
                notes.append(f"{named} of every row is its completion")
        elif len(pairs) == len(values) == len(labels) < len(examples):
            notes.append(f"{named} tells the label: each of its {len(values)} values stands with one label alone")
    return notes


def _all(pools: Pools) -> list[Example]:
    return [*pools.train, *(pools.validation or []), *(pools.test or [])]


def _text_keys(examples: Sequence[Example]) -> list[str]:
    return [key for key, value in examples[0].inputs.items() if isinstance(value, str)] if examples else []


def _list(names: Sequence[str]) -> str:
    """
    >>> _list("ab"), _list("abcdefgh")
    ('a, b', 'a, b, c, d, e and 3 more')
    """
    listed = ", ".join(map(printable, names[:FEW]))
    return listed if len(names) <= FEW else f"{listed} and {len(names) - FEW} more"
