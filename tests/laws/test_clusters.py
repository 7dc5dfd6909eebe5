"""Test examples that have a group in common are pooled: what must hold for any values, and how often an interval over
groups holds the truth."""

import numpy as np
import pytest

from lorax_lab.record.clusters import numbered, pooled
from lorax_lab.record.statistics import Crossed, crossed

UNEQUAL = (73, 56, 28, 24, *range(20, 0, -2), 3, 2, 2, 1, 1)
"""Examples of each group, as of speeches."""
STUDIES = 300
"""docs/studies.md has the numbers of 3,000."""


def groups_of(sizes: tuple[int, ...]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def test_pooling_keeps_the_mean_of_every_row_and_is_linear() -> None:
    draw, groups = np.random.default_rng(0), groups_of(UNEQUAL)
    a, b = draw.standard_normal((2, 3, len(groups)))
    assert pooled(a, groups).shape == (3, len(UNEQUAL))
    np.testing.assert_allclose(pooled(a, groups).mean(1), a.mean(1))
    np.testing.assert_allclose(pooled(a - 0.3 * b, groups), pooled(a, groups) - 0.3 * pooled(b, groups))
    shuffled = draw.permutation(len(groups))
    np.testing.assert_allclose(pooled(a[:, shuffled], groups[shuffled]), pooled(a, groups))


def test_groups_of_one_change_nothing_and_equal_groups_are_their_means() -> None:
    values = np.random.default_rng(1).standard_normal((2, 12))
    np.testing.assert_allclose(pooled(values, np.arange(12)), values)
    np.testing.assert_allclose(pooled(values, np.arange(12) // 3), values.reshape(2, 4, 3).mean(2))
    assert numbered(["speech", None, "letter"]) is None


def test_a_test_split_of_one_group_says_nothing_of_other_groups() -> None:
    found: Crossed = crossed(pooled(np.random.default_rng(2).standard_normal((5, 40)), np.zeros(40, np.int32)))
    assert (found.of_examples, found.interval().examples) == (0.0, 0)


@pytest.mark.parametrize(("sizes", "by_groups"), [(UNEQUAL, 0.9), ((12,) * 24, 0.93)])
def test_an_interval_over_groups_holds_the_truth_where_one_over_examples_does_not(
    sizes: tuple[int, ...], by_groups: float
) -> None:
    """Half of what an example adds is its group's; five seeds, and a true difference of 0."""
    draw, groups = np.random.default_rng(3), groups_of(sizes)
    held = {"examples": 0, "groups": 0}
    for _ in range(STUDIES):
        own = draw.standard_normal(len(sizes))[groups] + draw.standard_normal(len(groups))
        differences = 0.1 * draw.standard_normal((5, 1)) + own + draw.standard_normal((5, len(groups)))
        for name, values in (("examples", differences), ("groups", pooled(differences, groups))):
            interval = crossed(values).interval()
            held[name] += interval.low <= 0 <= interval.high
    assert held["groups"] / STUDIES >= by_groups
    assert held["examples"] / STUDIES < 0.8
