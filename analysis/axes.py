"""Vertical axes with a place for what has no place on a usual one: ranks that were 0 or not found, and a margin beside
large losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lorax_lab.record.direction import oriented

from . import style
from .scores import higher_is_better

LEAST = 0.5
"""Stands for 0 on the axis."""
ABOVE = 1.4
"""By how much above the largest that was tried "more than that" stands."""
ARROWS = "↑ at least this; ⇑ above the largest tried"
LINEAR = 2.0
"""Up to this multiple of the margin an axis of differences is linear, beyond it logarithmic."""
TICKS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Multiples of the margin that have a tick there."""


def estimate_points(axes: Axes, places: Any, rows: pd.DataFrame, shift: float = 0.0, **look: Any) -> None:
    """Ranks with their intervals, on the axis that `estimate_axis` makes. A line is broken where none was found: an
    arrow stands at the least that the rank may be, a double one above the largest tried where even that fell short.

    Args:
        places: of the rows on the horizontal axis.
        rows: `estimate`, `low`, `high` and `tried`, as `Smallest.as_numbers` has them.
        shift: as in `style.bars`.
    """
    at = np.asarray(places, float)
    mean, low, high = (np.maximum(np.asarray(rows[key], float), LEAST) for key in ("estimate", "low", "high"))
    ends = [np.where(np.isnan(end), mean, end) for end in (low, high)]
    style.bars(axes, at, mean, *ends, shift=shift, **({"capsize": 1.5, "elinewidth": 0.7} | look))
    open_, above = np.isnan(mean) & ~np.isnan(low), np.isnan(mean) & np.isnan(low)
    arrows: dict[str, Any] = {"color": look.get("color"), "linestyle": "", "markersize": 7}
    arrows["transform"] = style.shifted(axes, shift)
    axes.plot(at[open_], low[open_], marker=r"$\uparrow$", **arrows)
    axes.plot(at[above], ABOVE * np.asarray(rows["tried"], float)[above], marker=r"$\Uparrow$", **arrows)


def estimate_axis(axes: Axes, largest: float) -> None:
    """A vertical log₂ axis of ranks from 0, which has its place below 1, to at least `largest`."""
    top = 1.2 * ABOVE * max(2.0, largest)
    axes.set_yscale("log", base=2)
    axes.set_ylim(0.8 * LEAST, top)
    ticks = [2**power for power in range(16) if 2**power <= top]
    axes.set_yticks([LEAST, *ticks], ["0", *(f"{tick:,}" for tick in ticks)])
    axes.minorticks_off()


def worse_by_margin(rows: pd.DataFrame) -> float:
    """The difference that is the margin of a figure's rows, on the side of worse scores."""
    return float(oriented(-float(rows["margin"].iloc[0]), higher_is_better(rows)))


def margin_axis(axes: Axes, values: np.ndarray, worse: float) -> None:
    """An axis of differences: linear around 0, logarithmic beyond, so that the margin is seen beside large losses.

    Args:
        values: what has to lie within.
        worse: as `worse_by_margin` gives it.
    """
    margin = abs(worse)
    if not margin > 0:
        return
    axes.set_yscale("symlog", linthresh=LINEAR * margin, linscale=0.8)
    finite = values[np.isfinite(values)]
    low, high = min(0.0, worse, *finite), max(0.0, worse, *finite)
    low, high = (end + math.copysign(0.2 * margin + 0.25 * abs(end), way) for end, way in ((low, -1), (high, 1)))
    ticks = [sign * times * margin for times in TICKS for sign in (-1, 1)]
    shown = sorted({0.0, *(tick for tick in ticks if low <= tick <= high)})
    axes.set_ylim(low, high)
    axes.set_yticks(shown, [f"{tick:g}".replace("-", "−") for tick in shown])
    axes.minorticks_off()


def scale_of(margin: float) -> str:
    """What a legend says of a `margin_axis`."""
    return f"scale: linear up to {LINEAR * margin:g}, then logarithmic"
