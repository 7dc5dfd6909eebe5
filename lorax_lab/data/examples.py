"""What a source gives: examples in pools, before they are split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lorax_lab.config import TaskConfig


@dataclass(frozen=True)
class Example:
    """One text or pair of texts with its label: a class's index, or a number for regression. Examples of one
    `group` (a document, a question) never straddle two splits."""

    text: str
    label: float | int
    text_pair: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Pools:
    """What a source read: every row it has, in the source's own splits where there are any.

    `validation` and `test` are None where the source has no such labelled split: they are carved out of
    `train`. `where` names the source in messages; `blank` counts the rows without text, which were left out.
    """

    where: str
    classes: tuple[str, ...]
    train: list[Example]
    validation: list[Example] | None = None
    test: list[Example] | None = None
    blank: int = 0


class Source(Protocol):
    """What a module in this folder offers to be looked up in `SOURCES`."""

    KEYS: frozenset[str]
    """The keys of `CHOSEN` (in `tasks`) that the source reads; the others are refused when set."""
    KINDS: tuple[str, ...]
    """The values of `task.kind` that its labels allow."""

    def read(self, config: TaskConfig) -> Pools:
        """Every usable row."""

    def data_sha256(self, config: TaskConfig) -> str:
        """The hash of the data's content, the same on every machine, as cheaply as it can be had."""
