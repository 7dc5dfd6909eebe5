"""Scores of completions, from outputs (n, 2) or (n, 3): −log p in nats, tokens, whether greedy decoding gives it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def nats(outputs: np.ndarray, labels: np.ndarray) -> float:
    """−log p of the completions per token, the end tokens among them, 0 or more.

    >>> import numpy as np
    >>> nats(np.array([[3.0, 2.0], [1.0, 6.0]]), np.array(["a", "b"]))
    0.5
    """
    return float(outputs[:, 0].sum(dtype="f8") / outputs[:, 1].sum(dtype="f8"))


def pseudo_values_of_nats(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The pseudo-values of `nats`, a ratio of two sums, (n,).

    >>> import numpy as np
    >>> pseudo_values_of_nats(np.array([[3.0, 2.0], [1.0, 6.0]]), np.array(["a", "b"]))
    array([1., 0.])
    """
    sums, tokens = outputs[:, 0].astype("f8"), outputs[:, 1].astype("f8")
    score = sums.sum() / tokens.sum()
    values: np.ndarray = score + (sums - score * tokens) / tokens.mean()
    return values


def exact_match(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Share of completions that greedy decoding gives, in [0, 1]."""
    return float(outputs[:, 2].mean(dtype="f8"))


def commonest(labels: np.ndarray, classes: int) -> float:
    """The share of the most frequent completion, which is the exact match of that answer for every prompt.

    >>> import numpy as np
    >>> commonest(np.array(["yes", "no", "yes "]), 0)
    0.6666666666666666
    """
    counts = Counter(str(label).strip() for label in labels)
    return max(counts.values()) / len(labels)
