"""Two figures by layer: the ranks of every update beside those of noise, and what ΔW does with the base's directions.

A share of 1 is what noise gives (Gaussian entries, or Gaussian factors of the same rank): only shares well below it
are structure. The least null is the lowest of noises that keep the update's own scales, magnitudes or entries. How many
directions stand above the noise is counted only where the others are distributed as iid noise.

Intruders are top directions of the tuned matrix that no direction of the base resembles (Shuttleworth et al. 2024).
Amplification is ‖ΔW‖_F / ‖Uᵀ W V‖_F in the top directions U, V of ΔW (Hu et al. 2021): at the value for random
directions ΔW ignores W, at the value for W's own directions it repeats W's strongest ones.
"""

from __future__ import annotations

import math
import textwrap
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .. import style
from ..groups import CannotDraw
from .rows import COUNTS, FACTORS, MEASURES, MOST, NULLS, note

ROUNDED, NO_COUNT = "*", "†"
MARKS = {
    ROUNDED: "not to be trusted: decided by what lies under the rounding floor of the stored weights",
    NO_COUNT: "not told: the rest is not known to be iid noise, so what stands above its edge need be no signal",
}


class Panel(NamedTuple):
    """A heat map: the columns of its numbers, colours and marks, its title, and its colours in words."""

    column: str
    colour: str
    mark: str
    title: str
    bar: str


EFFECTIVE, ENERGY = MEASURES
NOISE, NULL = "share of noise's", "share of null's"
PANELS = (
    Panel(f"{EFFECTIVE}.share", f"{EFFECTIVE}.share", f"{EFFECTIVE}.mark", f"effective rank,\nas a {NOISE}", NOISE),
    Panel("least.share", "least.share", "least.mark", f"effective rank,\nas a {NULL}", NULL),
    Panel("spikes", "spikes", "spikes.mark", "directions\nabove the noise", "number"),
    Panel(ENERGY, f"{ENERGY}.share", f"{ENERGY}.mark", "rank that holds\n90% of the energy", NOISE),
)
CELL, LINE, TALLEST = 0.27, 0.17, 7.0
"""Inches: width and height of a cell with a number, and height of all heat maps above each other."""
WIDEST, TYPES = 22, 40
"""Module types that a page has room for with numbers, and without."""
REFERENCES = ("random: ΔW ignores W", "W's own: ΔW repeats W")
"""What the controls stand for, in the order of `FACTORS`."""
CONTROLS: tuple[dict[str, Any], ...] = (
    {"color": "0.5", "linestyle": "--", "marker": "_", "linewidth": 1.8, "zorder": 2.5},
    {"color": "0.5", "linestyle": ":", "marker": "x", "linewidth": 1.8, "zorder": 2.5},
)
SIDES: dict[str, dict[str, Any]] = {
    "left": {"marker": "o", "markersize": 6, "markerfacecolor": "white"},
    "right": {"marker": "s", "markersize": 3},
}
"""Markers; where the two coincide, both can be seen."""


# ---- ranks


def rank_table(rows: pd.DataFrame, sigma: dict[str, Any]) -> pd.DataFrame:
    """One row per matrix. Columns: matrix, module, layer; effective_rank and energy_rank_90, each with `.null` (what
    noise has), `.share` (their ratio) and `.mark`; least.null, the lowest effective rank of the nulls that keep
    structure, least.share and least.mark; spikes (directions above the noise, where they count) and spikes.mark.

    A mark is made of: `*` decided by rounding, `†` not told since the bulk is no iid noise, `≤` an end of what is open.

    Raises:
        CannotDraw: no matrix changed.
    """
    ranks = rows[["matrix", "module", "layer"]].copy()
    flags = [text.split() for text in rows["untrusted"]]
    for name in MEASURES:
        ranks[name] = rows[name].where(rows[name] > 0)
        ranks[f"{name}.null"] = rows[f"null.{name}"]
        ranks[f"{name}.share"] = ranks[name] / ranks[f"{name}.null"]
        ranks[f"{name}.mark"] = [ROUNDED * (name in names) for names in flags]
    ranks["least.null"] = rows[list(NULLS)].min(axis=1)
    ranks["least.share"] = ranks[EFFECTIVE] / ranks["least.null"]
    ranks["least.mark"] = ranks[f"{EFFECTIVE}.mark"]
    ranks["spikes"] = rows["spikes_told"]
    is_rounded = (rows["above_rounding"] < rows["spikes"]) | np.array(["spikes" in names for names in flags], bool)
    told, counted = rows["spikes_told"].notna(), rows["spikes"].notna()
    ranks["spikes.mark"] = np.where(told & is_rounded, ROUNDED, np.where(counted & ~told, NO_COUNT, ""))
    if not _measured(ranks) or not (rows["frobenius_norm"] != 0).any():
        raise CannotDraw("no matrix changed, or no rank of it was measured")
    return ranks


def _measured(rows: pd.DataFrame) -> list[Panel]:
    return [panel for panel in PANELS if rows[panel.colour].notna().any()]


@style.styled
def draw_ranks(table: pd.DataFrame) -> Figure:
    """A heat map per rank that was measured; cells have numbers where there is room for them."""
    layered = bool(_measured(table[table["layer"].notna()]))
    rows = table[table["layer"].notna()] if layered else table.assign(layer=0)
    measured = rows[rows[[panel.colour for panel in PANELS]].notna().any(axis=1)]["module"]
    modules = list(dict.fromkeys([*measured, *rows["module"]]))[:TYPES]
    rows = rows[rows["module"].isin(modules)]
    modules, layers = list(dict.fromkeys(rows["module"])), sorted({int(layer) for layer in rows["layer"]})
    panels = _measured(rows)
    across = max(1, min(len(panels), int((style.PAGE - 0.7) / (CELL * len(modules) + 0.1))))
    down = math.ceil(len(panels) / across)
    has_room = down * LINE * len(layers) <= TALLEST and len(modules) <= WIDEST
    across, down = (across, down) if has_room else (len(panels), 1)
    height = max(0.4, len(layers) * LINE if has_room else min(TALLEST, len(layers) * LINE / 2))
    width = max(style.COLUMN, min(style.PAGE, 0.9 + across * (0.1 + 0.36 * max(len(modules), 3))))
    figure = style.canvas(width, 1.0 + down * (0.75 + height) + 0.062 * max(map(len, modules)))
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _heat_map(axes, rows, panel, layers, modules, has_room)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    if not layered:
        grid[0][0].set(ylabel="", yticks=[])
    style.title(figure, "Ranks of ΔW by layer and module type")
    marks = _joined(rows[[panel.mark for panel in panels]].to_numpy().ravel())
    in_table = "" if has_room else " (marked in the table)"
    notes = [f"{mark} {text}{in_table}" for mark, text in MARKS.items() if mark in marks]
    notes += note("not measured", [panel.title.replace("\n", " ") for panel in PANELS if panel not in panels])
    notes += note("in the table only", table[~table.index.isin(rows.index)]["module"])
    if rows.duplicated(["layer", "module"]).any():
        notes.append("cells that stand for several matrices show their mean")
    folded = [textwrap.fill(line, int(width * 18)) for line in notes]
    figure.supxlabel("\n".join(folded), x=0.01, ha="left", fontsize=style.FONT)
    return figure


def _heat_map(
    axes: Axes, rows: pd.DataFrame, panel: Panel, layers: list[int], modules: list[str], has_room: bool
) -> None:
    def grid(column: str, how: Any = "mean") -> Any:
        return rows.pivot_table(column, "layer", "module", how).reindex(index=layers, columns=modules).to_numpy()

    largest = max(float(rows[panel.colour].max()), 1.0)
    is_share = panel.colour.endswith(".share")
    norm: Normalize = Normalize(0, 1) if is_share else PowerNorm(0.5, vmin=0, vmax=largest)
    ticks = [0, 0.5, 1] if is_share else sorted({0.0, float(math.ceil(largest / 4)), largest})
    marked = zip(grid(panel.column).astype(float).flat, grid(panel.mark, _joined).flat, strict=True)
    texts = [_cell(panel, value, str(mark)) for value, mark in marked] if has_room else []
    mesh = style.heat_map(axes, grid(panel.colour).astype(float), texts, layers, modules, norm=norm)
    bar = axes.figure.colorbar(mesh, ax=axes, location="bottom", aspect=18, pad=0.02, label=panel.bar, ticks=ticks)
    bar.outline.set_visible(False)
    axes.set_title(panel.title)


def _joined(marks: Any) -> str:
    return "".join(sorted({letter for mark in marks if isinstance(mark, str) for letter in mark}))


def _cell(panel: Panel, value: float, mark: str) -> str:
    """`.81*`, `412`, `2.1k`."""
    if math.isnan(value):
        return NO_COUNT if NO_COUNT in mark else ""
    number = f"{value:.2f}".removeprefix("0") if panel.column.endswith(".share") else _short(value)
    return number + mark


def _short(value: float) -> str:
    """A number of directions in at most four letters.

    >>> [_short(value) for value in (0.0, 8.0, 8.5, 412.0, 2088.0, 12345.0)]
    ['0', '8', '8.5', '412', '2.1k', '12k']
    """
    if value >= 999.5:
        return f"{value / 1000:.1f}k" if value < 9950 else f"{value / 1000:.0f}k"
    return f"{value:.0f}" if value == int(value) or value >= 99.5 else f"{value:.1f}"


# ---- directions


def direction_table(rows: pd.DataFrame, sigma: dict[str, Any]) -> pd.DataFrame:
    """One row per matrix whose directions were measured: matrix, module, layer, and the columns of amplification and
    intruders that the figure shows.

    Raises:
        CannotDraw: there is none.
    """
    columns = ["matrix", "module", "layer", *FACTORS, "amplification.rank", *COUNTS, "intruders.k"]
    measured = rows[rows[list(COUNTS[:2])].notna().any(axis=1) | _is_finite(rows[FACTORS[0]])][columns]
    if measured.empty:
        raise CannotDraw("they were not measured, or W0 is zero; type --directions")
    return measured.reset_index(drop=True)


@style.styled
def draw_directions(table: pd.DataFrame) -> Figure:
    """Intruders per matrix, the mean of a layer and their range; below, amplification, a line per module type. Without
    layers the matrices stand side by side."""
    layered = table["layer"].notna().any()
    rows = table[table["layer"].notna()] if layered else table.assign(layer=range(len(table)))
    rows = rows.astype({"layer": int})
    counted, amplified = rows[rows[list(COUNTS[:2])].notna().any(axis=1)], rows[_is_finite(rows[FACTORS[0]])]
    panels = [(panel, part) for panel, part in ((_intruders, counted), (_amplification, amplified)) if len(part)]
    modules = list(dict.fromkeys(amplified["module"]))
    figure = style.canvas(style.PAGE, 0.8 + 2.4 * len(panels) + 0.07 * min(len(modules), MOST))
    grid = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (panel, part) in zip(grid, panels, strict=True):
        panel(axes, part)
    if layered:
        grid[-1].set_xlabel("layer")
        grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        grid[-1].set_xticks(range(len(rows)), rows["module"], rotation=90 if len(rows) > 3 else 0)
    absent = [*modules[MOST:], *table[~table.index.isin(rows.index)]["module"]]
    notes = note("in the table only", absent)
    style.title(figure, "\n".join(["What ΔW does with the directions of the base", *notes]))
    if modules:
        style.legend(figure, grid[-1], columns=3 if max(map(len, modules)) <= 28 else 2)
    return figure


def _intruders(axes: Axes, rows: pd.DataFrame) -> None:
    by_layer = rows.groupby("layer")
    for (side, marks), colour, control in zip(SIDES.items(), style.distinct(2), CONTROLS, strict=True):
        count = by_layer[f"intruders.{side}.count"]
        axes.fill_between(count.mean().index, count.min(), count.max(), color=colour, alpha=0.2, linewidth=0)
        axes.plot(count.mean(), label=f"{side} directions", color=colour, zorder=3, clip_on=False, **marks)
        axes.plot(by_layer[f"intruders.{side}.random_count"].mean(), label=f"random directions, {side}", **control)
    top = rows["intruders.k"].max()
    ylabel = "intruder dimensions" + (f" of the top {top:.0f}" if top > 0 else "")
    axes.set(ylabel=ylabel + (",\nmean and range in a layer" if rows["layer"].duplicated().any() else ""))
    axes.set(ylim=(0, 1.05 * max(float(rows[["intruders.k", *COUNTS]].max().max()), 1.0)))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4)


def _amplification(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_yscale("log")
    for column, label, look in zip(FACTORS[1:], REFERENCES, CONTROLS, strict=True):
        by_layer = rows[_is_finite(rows[column])].groupby("layer")[column]
        axes.fill_between(by_layer.min().index, by_layer.min(), by_layer.max(), color="0.88", linewidth=0, zorder=0)
        axes.plot(by_layer.median(), label=label, **look)
    shown = list(dict.fromkeys(rows["module"]))[:MOST]
    for number, (module, look) in enumerate(zip(shown, style.looks(len(shown)), strict=True)):
        line = rows[rows["module"] == module].groupby("layer")[FACTORS[0]].median()
        axes.plot(line, label=module, markevery=style.sparse(number, len(line)), **look)
    ranks = sorted({int(rank) for rank in rows["amplification.rank"].dropna()})
    span = " to ".join(map(str, dict.fromkeys((ranks[0], ranks[-1])))) if ranks else ""
    axes.set(ylabel="amplification factor" + (f"\nin the top {span} directions of ΔW" if ranks else ""))


def _is_finite(factors: pd.Series[Any]) -> pd.Series[bool]:
    return (factors > 0) & (factors < math.inf)
