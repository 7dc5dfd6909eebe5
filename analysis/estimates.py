"""Ranks that were estimated, on a logarithmic axis with a place for 0 and for those that were not found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LEAST = 0.5
"""Stands for 0 on the axis."""
ABOVE = 1.4
"""By how much above the largest that was tried "more than that" stands."""
ARROWS = "↑ at least this; ⇑ above the largest tried"


def points(axes: Axes, places: Any, rows: pd.DataFrame, shift: float = 0.0, **look: Any) -> None:
    """Ranks with their intervals, on the axis that `axis` makes. A line is broken where none is found: an arrow stands
    at the least that the rank may be, a double one above the largest that was tried where even that fell short.

    Args:
        places: of the rows on the horizontal axis.
        rows: `estimate`, `low`, `high` and `tried`, as `Smallest.as_numbers` has them.
        shift: as in `style.bars`.
    """
    import numpy as np

    at = np.asarray(places, float)
    mean, low, high = (np.maximum(np.asarray(rows[key], float), LEAST) for key in ("estimate", "low", "high"))
    ends = [np.nan_to_num(np.maximum(mean - low, 0)), np.nan_to_num(np.maximum(high - mean, 0))]
    style.bars(axes, at, mean, ends, shift, **({"capsize": 1.5, "elinewidth": 0.7} | look))
    open_, above = np.isnan(mean) & ~np.isnan(low), np.isnan(mean) & np.isnan(low)
    arrows: dict[str, Any] = {"color": look.get("color"), "linestyle": "", "markersize": 7}
    arrows["transform"] = style.shifted(axes, shift)
    axes.plot(at[open_], low[open_], marker=r"$\uparrow$", **arrows)
    axes.plot(at[above], ABOVE * np.asarray(rows["tried"], float)[above], marker=r"$\Uparrow$", **arrows)


def axis(axes: Axes, largest: float) -> None:
    """A vertical log₂ axis of ranks from 0, which has its place below 1, to at least `largest`."""
    top = 1.2 * ABOVE * max(2.0, largest)
    axes.set_yscale("log", base=2)
    axes.set_ylim(0.8 * LEAST, top)
    ticks = [2**power for power in range(16) if 2**power <= top]
    axes.set_yticks([LEAST, *ticks], ["0", *(f"{tick:,}" for tick in ticks)])
    axes.minorticks_off()


def ranges(axes: Axes, rows: pd.DataFrame, names: Sequence[str]) -> None:
    """A line per estimator over the planted rank, with the range over draws, and the diagonal.

    Args:
        rows: `rank` (planted), `estimator`, `mean`, `low`, `high`.
    """
    ranks = sorted(set(rows["rank"]))
    axes.plot(ranks, ranks, color="0.75", linewidth=4, label="the planted rank", zorder=1)
    for name, look in zip(names, style.looks(len(names)), strict=True):
        part = rows[rows["estimator"] == name].sort_values("rank")
        mean, low, high = (part[column].clip(lower=LEAST) for column in ("mean", "low", "high"))
        bars = [(mean - low).clip(lower=0), (high - mean).clip(lower=0)]
        axes.errorbar(part["rank"], mean, bars, capsize=1.5, elinewidth=0.7, label=name, **look)


def planted_axes(axes: Axes, ranks: list[int]) -> None:
    """Both axes have the planted ranks; the vertical one also 0."""
    style.rank_axis(axes, ranks)
    axes.set_yscale("log", base=2)
    axes.set_ylim(0.8 * LEAST, 1.4 * ranks[-1])
    axes.set_yticks([LEAST, *ranks], ["0", *map(str, ranks)])
    axes.minorticks_off()
