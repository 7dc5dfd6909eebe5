"""What a person should know of a table of theirs before anything trains; a column that is the answer is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lorax_lab.config import TaskConfig
from lorax_lab.data.examples import Example, Pools
from lorax_lab.data.labels import alike
from lorax_lab.data.table import printable
from lorax_lab.errors import ConfigError

COPIES = 0.9
"""Share of the rows from which on a text that equals the label is its copy, and a few rows were mended by hand."""
FEW = 5
"""How many classes a note names."""


def require_no_answers(pools: Pools, config: TaskConfig) -> None:
    """Refuse an input that is the label as text: it is read off, not learned. A completion may repeat its prompt.

    Raises:
        ConfigError: the texts of a column equal the labels, but for case and spaces, in `COPIES` of the rows or more.
    """
    examples = _all(pools)
    if config.labels == "texts" or config.label is None:
        return
    for key in _text_keys(examples):
        count = sum(_is_answer(example.inputs[key], example.label, pools.classes) for example in examples)
        if count >= COPIES * len(examples):
            rows = f"in {count} of {len(examples)} rows"
            same = f"task.{key}={getattr(config, key)} has the labels themselves, those of task.label={config.label}"
            raise ConfigError(f"{same}, {rows}: the answer is read off, not learned; name another column in task.{key}")


def notes_of(pools: Pools, splits: Sequence[Sequence[Example]], config: TaskConfig) -> tuple[str, ...]:
    """What is to be said: how the table was read, classes that are nearly one or that a split lacks, texts that tell
    the label."""
    if config.label is None and config.path is None:
        return pools.notes
    notes = list(pools.notes)
    notes += [f"the classes {_list(group)} differ in case alone" for group in alike(pools.classes, str.casefold)]
    for name, examples in zip(("train", "validation", "test"), splits, strict=True):
        present = {example.label for example in examples}
        lacking = [known for label, known in enumerate(pools.classes) if label not in present]
        if lacking:
            notes.append(f"the {name} split has no row of {_list(lacking)}")
    return (*notes, *_telling(_all(pools), config))


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


def _is_answer(text: str, label: float | int | str, classes: Sequence[str]) -> bool:
    if classes:
        return text.strip().casefold() == classes[int(label)].casefold()
    try:
        return float(text) == label
    except ValueError:
        return False


def _list(names: Sequence[str]) -> str:
    listed = ", ".join(map(printable, names[:FEW]))
    return listed if len(names) <= FEW else f"{listed} and {len(names) - FEW} more"
