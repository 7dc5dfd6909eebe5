"""Words for lists of names, and for differences in scores: worse or better, by how much, and of what unit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .statistics import Interval


def listed(items: Iterable[Any]) -> str:
    """The items as a sentence has them: `1, 2 and 3`."""
    texts = [str(item) for item in items]
    return ", ".join(texts[:-1]) + " and " + texts[-1] if len(texts) > 1 else "".join(texts)


def first_names(names: Iterable[str]) -> str:
    """A few names of many.

    >>> first_names("dcba")
    'a, b, c and 1 more'
    """
    ordered = sorted(names)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return ", ".join(ordered[:3]) + more


@dataclass(frozen=True)
class Scale:
    """The scale of a condition's scores.

    Attributes:
        unit: of a score; empty where it is a share or a correlation.
    """

    higher_is_better: bool = True
    unit: str = ""

    def amount(self, value: object) -> str:
        """A difference without its sign, such as a margin.

        >>> Scale().amount(0.02), Scale(False, "nats per token").amount(0.025)
        ('0.02', '0.025 nats per token')
        """
        return f"{value} {self.unit}".strip()

    def change(self, gain: Interval) -> str:
        """What becomes of a score, in words that the interval allows. A score that falls may be the better one, so it
        loses and gains only where higher is better.

        >>> loss = Interval(-0.01, -0.015, -0.005, 5)
        >>> Scale().change(loss), Scale().change(Interval(-0.01, -0.02, 0.0, 5))
        ('loses 0.0100 [0.0050, 0.0150]', 'keeps its score')
        >>> Scale(False, "nats per token").change(loss)
        'is 0.0100 [0.0050, 0.0150] nats per token worse'
        """
        if gain.low <= 0 <= gain.high:
            return "keeps its score"
        if not self.higher_is_better:
            return f"is {self.difference(gain)}"
        return f"loses {gain.oriented(False)}" if gain.high < 0 else f"gains {gain}"

    @property
    def verbs(self) -> tuple[str, str]:
        """What stands before `against`, of one thing and of several.

        >>> Scale().verbs, Scale(False).verbs
        (('scores', 'score'), ('is', 'are'))
        """
        return ("scores", "score") if self.higher_is_better else ("is", "are")

    def against(self, gain: Interval, other: str) -> str:
        """What something scores beside something else, with the sign or the word that says which is the better one.

        >>> loss = Interval(-0.01, -0.015, -0.005, 5)
        >>> Scale().against(loss, "the whole")
        '-0.0100 [-0.0150, -0.0050] against the whole'
        >>> Scale(False, "nats per token").against(loss, "the whole")
        '0.0100 [0.0050, 0.0150] nats per token worse than the whole'
        """
        return f"{self.difference(gain)} {'against' if self.higher_is_better else 'than'} {other}"

    def difference(self, gain: Interval) -> str:
        """A difference, with a sign where higher is better, else with a word."""
        if self.higher_is_better:
            return str(gain)
        worse = gain.mean < 0
        return f"{self.amount(gain.oriented(not worse))} {'worse' if worse else 'better'}"
