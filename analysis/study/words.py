"""Words for lists of names, and the scale of scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


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
