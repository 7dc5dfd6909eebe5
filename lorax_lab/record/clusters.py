"""Test examples of one group, such as a speech or a pair of near duplicates, are a cluster: what one of them says the
others nearly say too. So intervals are over groups."""

from collections.abc import Sequence

import numpy as np

GROUPS = "groups"
"""The key of the number of each test example's group, (n,) int32. Runs in which each example is its own group lack it,
as do older ones."""


def numbered(groups: Sequence[str | None]) -> np.ndarray | None:
    """The number of each example's group, (n,) int32, counted as they come; an example without one is a group of its
    own. None where each is.

    >>> numbered(["a", None, "a", None])
    array([0, 1, 0, 2], dtype=int32)
    >>> numbered(["a", "b", None])
    """
    number_of: dict[object, int] = {}
    keys = [i if group is None else group for i, group in enumerate(groups)]
    numbers = [number_of.setdefault(key, len(number_of)) for key in keys]
    return np.array(numbers, np.int32) if len(number_of) < len(numbers) else None


def pooled(values: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """What each group adds to the mean over all examples, (…, groups) fp64: the pseudo-values of the jackknife that
    leaves a group out (Tukey 1958), moved by a constant so that their mean is that of the values. Of groups of one
    example they are the values. They are linear in the values, so paired differences may be taken before or after.

    Args:
        values: of each example, (…, n); they come back as they are where `groups` is None.
        groups: the group of each, (n,), numbered from 0 without a gap.

    >>> pooled(np.array([1.0, 3.0, 2.0, 6.0]), np.array([0, 0, 1, 2])).round(2)
    array([1.22, 2.56, 5.22])
    """
    if groups is None:
        return values
    values, sizes = np.asarray(values, dtype=float), np.bincount(groups)
    mean = values.mean(-1, keepdims=True)
    sums = np.apply_along_axis(lambda of: np.bincount(groups, of), -1, values - mean)
    added = (len(sizes) - 1) * sums / np.maximum(len(groups) - sizes, 1)  # a group that is all has no rest
    return mean + added - added.mean(-1, keepdims=True)
