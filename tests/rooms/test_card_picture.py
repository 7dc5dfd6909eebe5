"""A card's picture: no legend lies on a panel or a word, and no number of an axis on another."""

from __future__ import annotations

import itertools
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from lorax_lab.audit.picture import STYLE, draw

SPECTRA: dict[str, tuple[int, float, bool]] = {
    "an even product of rank 8": (8, 0.1, True),
    "a steep product of rank 8": (8, 2.0, True),
    "a product of rank 16 that falls slowly": (16, 0.4, True),
    "a full-rank update that is nearly of rank 4": (384, 1.5, False),
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
    matrices = [
        {"matrix": f"layer.{layer}.{name}", "layer": f"layer.{layer}", "module": name, "size": 0.01}
        for layer, name in itertools.product(range(6), types)
    ]
    sizes = sorted({0, count} | {n for i in range(9) for n in (2**i, 3 * 2**i) if n <= count})
    cuts = [{"k": n, "difference": 0.0, "surely": -0.016} for n in sizes]
    scores = {"cuts": cuts, "margin": 0.02, "chosen": 2, "full": count, "higher_is_better": True, "task": "reviews"}
    scores |= {"metric": "accuracy", "test": {"difference": 0.0, "low": -0.019, "high": 0.019}}
    layers = {"matrices": matrices, "moved": True, "unit": "‖ΔW‖ / ‖W0‖"}
    return {"modules": [{"module": name, "curve": curve} for name in types], "layers": layers, "scores": scores}


@pytest.fixture(params=SPECTRA)
def picture(request: pytest.FixtureRequest) -> Figure:
    with mpl.rc_context(STYLE):
        figure = draw(facts(*SPECTRA[request.param]), title=[])
        figure.canvas.draw()
    return figure


def test_no_legend_lies_on_a_panel_or_a_word(picture: Figure) -> None:
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


def test_no_number_of_an_axis_lies_on_another(picture: Figure) -> None:
    for axes in picture.axes:
        if any(label.get_rotation() for label in axes.get_xticklabels()):
            continue
        boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))
