"""The common look: no number on an axis lies over another, and colours are told apart."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from analysis import style
from lorax_lab.record import palette


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("ranks", [[1, 2, 3, 4, 8], [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 384], [1], [0, 1]])
def test_every_tick_of_a_rank_axis_has_its_number_in_one_print_and_none_lies_over_another(
    ranks: list[int], count: int
) -> None:
    figure, panels = style.panels(count, 2.0, "k", "score")
    style.rank_axis(panels[0], ranks)
    figure.canvas.draw()
    drawn = panels[0].get_xticklabels()
    assert all(label.get_text() for label in drawn)
    assert {label.get_fontsize() for label in drawn} == {panels[0].yaxis.get_ticklabels()[0].get_fontsize()}
    assert [drawn[0].get_text(), drawn[-1].get_text()] == [str(ranks[0]), str(ranks[-1])]
    boxes = [label.get_window_extent() for label in drawn]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


PROTAN = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
DEUTAN = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
TRITAN = [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
"""What a reader without red, green or blue cones sees of linear RGB (Machado et al. 2009, severity 1)."""


def lab(colour: str, seen: list[list[float]]) -> np.ndarray:
    """CIE L*a*b* (D65) of a colour as it is seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = np.array(to_xyz) @ np.clip(np.array(seen) @ linear, 0, 1) / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize(
    "seen", [np.eye(3).tolist(), PROTAN, DEUTAN, TRITAN], ids=["usual", "protan", "deutan", "tritan"]
)
def test_the_colours_of_what_has_no_order_are_told_apart(seen: list[list[float]]) -> None:
    places = [lab(colour, seen) for colour in palette.CATEGORICAL]
    assert min(np.linalg.norm(a - b) for a, b in combinations(places, 2)) > 30
