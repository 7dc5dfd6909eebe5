"""Pieces of Markdown: tables, lists, and numbers with their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from .statistics import Interval


def short(interval: Interval) -> str:
    """A mean and its interval, to one digit."""
    if math.isnan(interval.low):
        return f"{interval.mean:.1f}"
    return f"{interval.mean:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def probability(p: float) -> str:
    """A p to three digits; of one that rounds to 0, that it is below .001.

    >>> probability(0.0312), probability(1e-9)
    ('0.031', '< 0.001')
    """
    return "< 0.001" if p < 0.0005 else f"{p:.3f}"


def listed(items: Iterable[Any]) -> str:
    """The items as a sentence has them: `1, 2 and 3`."""
    texts = [str(item) for item in items]
    return ", ".join(texts[:-1]) + " and " + texts[-1] if len(texts) > 1 else "".join(texts)


def some(names: Iterable[str]) -> str:
    """A few names of many.

    >>> some("dcba")
    'a, b, c and 1 more'
    """
    found = sorted(names)
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more


def bold(text: str) -> str:
    """Bold text, whose own stars stay stars.

    >>> print(bold("r* is 4"))
    **r\\* is 4**
    """
    return "**" + text.replace("*", r"\*") + "**"


def bullets(items: Iterable[str]) -> list[str]:
    """A list, as one paragraph."""
    return ["\n".join(f"- {item}" for item in items)]


def table(headings: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
