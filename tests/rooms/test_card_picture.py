"""A card's picture: no legend lies on a panel or a word, and no number of an axis on another."""

from __future__ import annotations

import itertools
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from lorax_lab.audit.picture import STYLE, draw

SPECTRA: dict[str, tuple[int, float, bool]] = {
    "a product of rank 16 that falls slowly": (16, 0.4, True),
    "an even full-rank update": (384, 0.0, False),
}
"""How many directions, how fast their energy falls, and whether a null is valid."""


def facts(count: int, fall: float, has_null: bool) -> dict[str, Any]:
    """What a card says of six types of matrix in six layers, as far as the picture needs it."""
    k = np.arange(1, count + 1)
    shares = np.cumsum(np.exp(-fall * k)) / np.exp(-fall * k).sum()
    null = [float(i / count) if has_null else None for i in k]
    curve = [
        {"k": int(i), "median": float(s), "low": float(s) * 0.9, "high": min(float(s) * 1.1, 1.0), "null": n}
        for i, s, n in zip(k, shares, null, strict=True)
    ]
    types = [f"attention.self.matrix{number}" for number in range(6)]
    sizes = sorted({0, count} | {n for i in range(9) for n in (2**i, 3 * 2**i) if n <= count})
    cuts = [{"k": n, "difference": 0.0, "surely": -0.016} for n in sizes]
    scores = {"cuts": cuts, "margin": 0.02, "chosen": 2, "full": count, "higher_is_better": True, "task": "reviews"}
    scores |= {"metric": "accuracy", "test": {"difference": 0.0, "low": -0.019, "high": 0.019}}
    return {"modules": [{"module": name, "curve": curve, "energy": 1.0} for name in types], "scores": scores}


@pytest.mark.parametrize("name", SPECTRA)
def test_nothing_lies_on_another(name: str) -> None:
    with mpl.rc_context(STYLE):
        picture = draw(facts(*SPECTRA[name]), title=[])
        picture.canvas.draw()
    parts = [picture, *picture.subfigs]
    legends = [legend for part in parts for legend in part.legends]
    legends += [legend for axes in picture.axes if (legend := axes.get_legend())]
    assert len(legends) == 2
    words = [text for part in parts for text in (part._supxlabel, part._supylabel) if text]
    for axes in picture.axes:
        words += [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.title]
    boxes = [axes.get_window_extent() for axes in picture.axes]
    boxes += [text.get_window_extent() for text in words if text.get_text()]
    inside = picture.bbox
    for box in (legend.get_window_extent() for legend in legends):
        assert not any(box.overlaps(other) for other in boxes)
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1
        assert inside.y0 <= box.y0 < box.y1 <= inside.y1
    for axes in picture.axes:
        labels = [label for label in axes.get_xticklabels() if label.get_text() and not label.get_rotation()]
        numbers = [label.get_window_extent() for label in labels]
        assert not any(one.overlaps(other) for one, other in itertools.pairwise(numbers))
