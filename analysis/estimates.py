"""Ranks that were estimated, on a logarithmic axis with a place for 0 and for those that were not found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST = 0.5
"""Stands for 0 on the axis."""


def points(axes: Axes, places: Any, estimates: Any, lows: Any, highs: Any, shift: float = 0.0, **look: Any) -> None:
    """Ranks that may be 0, with their intervals, on the axis of `axis`. Where none is found an arrow stands at
    the least that it may be.

    Args:
        estimates: NaN where none is found.
        lows, highs: ends of the intervals, NaN where they are open.
        shift: as in `style.bars`.
    """
    import numpy as np

    at, mean, low, high = (np.asarray(column, float) for column in (places, estimates, lows, highs))
    mean, low, high = (np.where(column == 0, LEAST, column) for column in (mean, low, high))
    known, open_ = ~np.isnan(mean), np.isnan(mean) & ~np.isnan(low)
    ends = [np.nan_to_num(np.maximum(mean - low, 0)), np.nan_to_num(np.maximum(high - mean, 0))]
    style.bars(
        axes,
        at[known],
        mean[known],
        [end[known] for end in ends],
        shift,
        **({"capsize": 1.5, "elinewidth": 0.7} | look),
    )
    arrows: dict[str, Any] = {"color": look.get("color"), "marker": r"$\uparrow$", "linestyle": "", "markersize": 7}
    axes.plot(at[open_], low[open_], transform=style.shifted(axes, shift), **arrows)


def axis(axes: Axes, largest: float) -> None:
    """A vertical log₂ axis of ranks from 0, which has its place below 1, to at least `largest`."""
    top = 1.4 * max(2.0, largest)
    axes.set_yscale("log", base=2)
    axes.set_ylim(0.8 * LEAST, top)
    ticks = [2**power for power in range(16) if 2**power <= top]
    axes.set_yticks([LEAST, *ticks], ["0", *(f"{tick:,}" for tick in ticks)])
    axes.minorticks_off()
