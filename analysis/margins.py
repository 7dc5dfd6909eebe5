"""An axis of differences on which a margin is seen beside large losses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lorax_lab.record.direction import oriented

from .scores import higher_is_better

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

LINEAR = 2.0
"""Up to this multiple of the margin an axis of differences is linear, beyond it logarithmic."""
TICKS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Multiples of the margin that have a tick there."""


def worse_by_margin(rows: pd.DataFrame) -> float:
    """The difference that is the margin of a figure's rows, on the side of worse scores."""
    return float(oriented(-float(rows["margin"].iloc[0]), higher_is_better(rows)))


def margin_axis(axes: Axes, values: np.ndarray, worse: float) -> None:
    """An axis of differences: linear around 0, logarithmic beyond, so that the margin is seen beside large losses.

    Args:
        values: what has to lie within.
        worse: as `worse_by_margin` gives it.
    """
    import numpy as np

    margin = abs(worse)
    if not margin > 0:
        return
    axes.set_yscale("symlog", linthresh=LINEAR * margin, linscale=0.8)
    some = values[np.isfinite(values)]
    low, high = min(0.0, worse, *some), max(0.0, worse, *some)
    low, high = (end + math.copysign(0.2 * margin + 0.25 * abs(end), way) for end, way in ((low, -1), (high, 1)))
    ticks = [sign * times * margin for times in TICKS for sign in (-1, 1)]
    shown = sorted({0.0, *(tick for tick in ticks if low <= tick <= high)})
    axes.set_ylim(low, high)
    axes.set_yticks(shown, [f"{tick:g}".replace("-", "−") for tick in shown])
    axes.minorticks_off()


def scale_of(margin: float) -> str:
    """What a legend says of a `margin_axis`."""
    return f"scale: linear up to {LINEAR * margin:g}, then logarithmic"
