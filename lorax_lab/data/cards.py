"""A card describes a built-in task: its content, its size, its source and its licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

HEADER = "| `task=` | what | rows | examples | classes, share of the largest | metric | licence | source |"


@dataclass(frozen=True)
class Card:
    """One built-in task.

    `rows` are those of the file that have a label; `examples` those of them that have a class, each text once.
    `largest` is the share of the largest class: what a constant prediction scores. `metrics` are those
    that it is scored by, the usual one first. `classes` is empty where a completion is any text; `largest` is then the
    share of the most frequent one. A licence of data is what the package or the
    source's own repository states.
    """

    what: str
    rows: int
    examples: int
    classes: tuple[str, ...]
    largest: float
    metrics: tuple[str, ...]
    licence: str
    source: str

    def line(self, name: str) -> str:
        """The card as a row of a Markdown table.

        >>> Card("poems", 1200, 1100, ("dull", "bright"), 0.625, ("accuracy",), "CC0", "Doe 2020").line("poems")
        '| `poems` | poems | 1,200 | 1,100 | dull, bright; .625 | accuracy | CC0 | Doe 2020 |'
        """
        names = ", ".join(self.classes) or "any text"
        classes = f"{names}; {self.largest:.3f}".replace(" 0.", " .")
        sizes = f"{self.rows:,} | {self.examples:,}"
        metrics = ", ".join(self.metrics)
        return f"| `{name}` | {self.what} | {sizes} | {classes} | {metrics} | {self.licence} | {self.source} |"


def table(cards: Mapping[str, Card]) -> str:
    """The cards as a Markdown table, as the README shows it."""
    rule = "|---" * HEADER.count(" | ") + "|---|"
    return "\n".join([HEADER, rule, *(card.line(name) for name, card in cards.items())])
