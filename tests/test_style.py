"""The common look: outer panels are labelled, and no number on an axis lies over another."""

from __future__ import annotations

from itertools import pairwise

import pytest

from analysis import style


@pytest.mark.parametrize(("count", "left"), [(1, {0}), (2, {0}), (3, {0}), (5, {0, 3}), (6, {0, 3})])
def test_the_left_panels_and_the_lowest_of_each_column_are_labelled(count: int, left: set[int]) -> None:
    figure, panels = style.panels(count, 2.0, "k", "score")
    figure.canvas.draw()
    assert len(panels) == len(figure.axes) == count
    lowest = set(range(max(0, count - 3), count))
    assert {i for i, axes in enumerate(panels) if axes.get_ylabel() == "score"} == left
    assert {i for i, axes in enumerate(panels) if axes.get_xlabel() == "k"} == lowest
    shown = {i for i, axes in enumerate(panels) if any(t.label1.get_visible() for t in axes.xaxis.get_major_ticks())}
    assert shown == lowest


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("ranks", [[1, 2, 3, 4, 8], [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 384]])
def test_no_number_of_an_axis_lies_over_another(ranks: list[int], count: int) -> None:
    figure, panels = style.panels(count, 2.0, "k", "score")
    style.rank_axis(panels[0], ranks)
    figure.canvas.draw()
    drawn = [label for label in panels[0].get_xticklabels() if label.get_text()]
    assert [drawn[0].get_text(), drawn[-1].get_text()] == [str(ranks[0]), str(ranks[-1])]
    assert len(drawn) == len(ranks) or count > 1
    boxes = [label.get_window_extent() for label in drawn]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))
