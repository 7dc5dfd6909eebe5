"""What ΔW does with the directions of the base, by layer: how many it adds, and how much it amplifies.

Intruders are top directions of the tuned matrix that no direction of the base resembles (Shuttleworth et al. 2024).
Amplification is ‖ΔW‖_F / ‖Uᵀ W V‖_F in the top directions U, V of ΔW (Hu et al. 2021): at the value for random
directions ΔW ignores W, at the value for W's own directions it repeats W's strongest ones.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .. import style
from ..groups import CannotDraw
from .rows import MOST, listed, outside

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FACTORS = ("amplification.factor", "amplification.random_factor", "amplification.base_factor")
REFERENCES = ("random: ΔW ignores W", "W's own: ΔW repeats W")
"""What the controls stand for, in the order of `FACTORS`."""
CONTROLS: tuple[dict[str, Any], ...] = ({"linestyle": "--", "marker": "_"}, {"linestyle": ":", "marker": "x"})
MARKS: tuple[dict[str, Any], ...] = (
    {"marker": "o", "markersize": 6, "markerfacecolor": "white"},
    {"marker": "s", "markersize": 3},
)
"""Markers of left and right; where they coincide, both can be seen."""
SIDES = ("left", "right")
COUNTS = tuple(f"intruders.{side}.count" for side in SIDES)
RANDOM = tuple(f"intruders.{side}.random_count" for side in SIDES)


def table(rows: pd.DataFrame, sigma: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row per matrix whose directions were measured: matrix, module, layer, and the columns of amplification and
    intruders that the figure shows.

    Raises:
        CannotDraw: there is none.
    """
    columns = [*FACTORS, "amplification.rank", *COUNTS, *RANDOM, "intruders.k"]
    measured = rows[["matrix", "module", "layer", *columns]]
    amplified = measured.index.isin(_finite(measured, FACTORS[0]).index)
    measured = measured[measured[list(COUNTS)].notna().any(axis=1) | amplified]
    if measured.empty:
        changed = rows[rows["frobenius_norm"] > 0]
        if "base_norm" in rows and len(changed) and (changed["base_norm"] == 0).all():
            raise CannotDraw("W0 of every matrix that changed is zero and has no directions")
        raise CannotDraw("they were not measured; type --directions")
    return measured.reset_index(drop=True)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Intruders per matrix, the mean of a layer and their range; below, amplification, a line per module type."""
    rows, names = _placed(table)
    counted, amplified = rows[rows[list(COUNTS)].notna().any(axis=1)], _finite(rows, FACTORS[0])
    panels = [(panel, part) for panel, part in ((_intruders, counted), (_amplification, amplified)) if len(part)]
    lines = min(amplified["module"].nunique(), MOST)
    figure = style.canvas(style.PAGE, 0.8 + 2.4 * len(panels) + 0.07 * lines)
    grid = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (panel, part) in zip(grid, panels, strict=True):
        panel(axes, part)
    _layer_axis(grid[-1], names)
    notes = _notes(table, rows, amplified)
    style.title(figure, "\n".join(["What ΔW does with the directions of the base", *notes]))
    if lines:
        style.legend(figure, grid[-1], columns=3 if amplified["module"].str.len().max() <= 28 else 2)
    return figure


def _placed(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The matrices within layers. If there are no layers, all matrices side by side, with their names."""
    if table["layer"].notna().any():
        rows = table[table["layer"].notna()]
        return rows.assign(layer=rows["layer"].astype(int)), []
    return table.assign(layer=range(len(table))), list(table["module"])


def _layer_axis(axes: Axes, names: list[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    if names:
        axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 3 else 0)
        return
    axes.set_xlabel("layer")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _intruders(axes: Axes, rows: pd.DataFrame) -> None:
    for side, colour, marks, control in zip(SIDES, style.distinct(2), MARKS, CONTROLS, strict=True):
        count, random = (rows.groupby("layer")[f"intruders.{side}.{name}"] for name in ("count", "random_count"))
        axes.fill_between(count.mean().index, count.min(), count.max(), color=colour, alpha=0.2, linewidth=0)
        axes.plot(count.mean(), label=f"{side} directions", color=colour, zorder=3, clip_on=False, **marks)
        _control(axes, random.mean(), f"random directions, {side}", control)
    top = rows["intruders.k"].max()
    of = f" of the top {top:.0f}" if top > 0 else ""
    range_of = ",\nmean and range in a layer" if rows["layer"].duplicated().any() else ""
    axes.set(ylim=(0, 1.05 * max(float(rows[["intruders.k", *COUNTS, *RANDOM]].max().max()), 1.0)))
    axes.set(ylabel=f"intruder dimensions{of}{range_of}")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4)


def _control(axes: Axes, line: pd.Series[Any], label: str, look: dict[str, Any]) -> None:
    """A grey line; a mark of its own where one layer makes no line."""
    look = look | ({"linestyle": "", "markersize": 7} if len(line) == 1 else {"marker": ""})
    axes.plot(line, label=label, color="0.5", linewidth=1.8, zorder=2.5, **look)


def _amplification(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_yscale("log")
    for column, label, look in zip(FACTORS[1:], REFERENCES, CONTROLS, strict=True):
        by_layer = _finite(rows, column).groupby("layer")[column]
        axes.fill_between(by_layer.min().index, by_layer.min(), by_layer.max(), color="0.88", linewidth=0, zorder=0)
        _control(axes, by_layer.median(), label, look)
    shown = list(dict.fromkeys(rows["module"]))[:MOST]
    for number, (module, look) in enumerate(zip(shown, style.looks(len(shown)), strict=True)):
        line = rows[rows["module"] == module].groupby("layer")[FACTORS[0]].median()
        axes.plot(line, label=module, markevery=style.sparse(number, len(line)), **look)
    axes.set(ylabel=f"amplification factor{_directions(rows)}")


def _finite(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    return rows[(rows[column] > 0) & (rows[column] < math.inf)]


def _directions(rows: pd.DataFrame) -> str:
    ranks = sorted({int(rank) for rank in rows["amplification.rank"].dropna()})
    number = "".join(f"{rank} to " for rank in ranks[:1] if len(ranks) > 1) + "".join(map(str, ranks[-1:]))
    return f"\nin the top {number} directions of ΔW" if ranks else ""


def _notes(table: pd.DataFrame, rows: pd.DataFrame, amplified: pd.DataFrame) -> list[str]:
    counts = rows[list(COUNTS)].max(axis=1)
    most = list(rows[counts == counts.max()]["matrix"]) if counts.max() > 0 else []
    notes = [f"most intruders: {counts.max():.0f} in {listed(most, 1)}"] if most else []
    more = list(dict.fromkeys(amplified["module"]))[MOST:]
    notes += [f"amplification in the table only: {listed(more)}"] if more else []
    return [*notes, *outside(table, rows)]
