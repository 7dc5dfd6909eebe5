"""What a source returns: examples in pools, before they are split."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lorax_lab.data.sounds import Sound


@dataclass(frozen=True)
class Example:
    """Named inputs with their label.

    Args:
        inputs: name → a text, a numpy array such as an image, or a `Sound`. A kind of task says which names it reads.
        label: the index of a class, a number or a text, whichever form the kind's labels have.
        group: examples of one group (a document, a question) never straddle two splits.
    """

    inputs: Mapping[str, Any]
    label: float | int | str
    group: str | None = None


@dataclass(frozen=True)
class Pools:
    """What a source read: every row it has, in the source's own splits where there are any.

    `validation` and `test` are None where the source has no such labelled split: they are carved out of
    `train`. `where` names the source in messages; `blank` counts the rows without text and `unlabeled` those without a
    label, which were left out. `classes` are in the order of the labels, empty where the labels are no classes. `notes`
    say what a person should know of how the rows were read.
    """

    where: str
    classes: tuple[str, ...]
    train: list[Example]
    validation: list[Example] | None = None
    test: list[Example] | None = None
    blank: int = 0
    unlabeled: int = 0
    notes: tuple[str, ...] = ()


def content_key(example: Example) -> tuple[str, ...]:
    """The key that two equal examples share: their texts, where case, spacing and Unicode's forms do not count, and the
    content of their images and recordings. Of an example without inputs it is the label's.

    >>> content_key(Example({"text": "Ａ  good\\tFilm "}, 1)) == content_key(Example({"text": "a good film"}, 0))
    True
    """
    values = example.inputs.values() or [str(example.label)]
    return tuple(_normal(value) if isinstance(value, str) else _content(value) for value in values)


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _content(array: Any) -> str:
    if isinstance(array, Sound):
        return array.sha256()
    assert array.dtype != object, f"an input is a text or an array of numbers, not {type(array)}"
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()
