"""Words for lists of names, and of numbers."""

import re
from collections.abc import Iterable
from typing import Any

import pandas as pd

SAMPLE = re.compile(r" \(sample \d+\)$")
"""Ends the name of a condition that is another task of the study with other training examples."""


def listed(items: Iterable[Any]) -> str:
    """The items as a sentence has them: `1, 2 and 3`."""
    texts = [str(item) for item in items]
    return ", ".join(texts[:-1]) + " and " + texts[-1] if len(texts) > 1 else "".join(texts)


def ends(values: Iterable[float], form: str) -> str:
    """The least and the greatest of some numbers.

    >>> ends([0.25, 1.0, 0.5], "{:.2f}"), ends([0.251, 0.25], "{:.2f}"), ends([3], "{:.0%}"), ends([], "{:g}")
    ('0.25 to 1.00', '0.25', '300%', 'unknown')
    """
    numbers = pd.Series(list(values), dtype=float).dropna()
    return " to ".join(dict.fromkeys(form.format(end) for end in numbers.agg(["min", "max"]).dropna())) or "unknown"


def first_names(names: Iterable[str]) -> str:
    """A few names of many.

    >>> first_names("dcba")
    'a, b, c and 1 more'
    """
    ordered = sorted(names)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return ", ".join(ordered[:3]) + more
