"""The ranks of every update by layer, beside those of noise.

A share of 1 is what noise gives (Gaussian entries, or Gaussian factors of the same rank): only shares well below it
are structure. The least null is the lowest of noises that keep the update's own scales, magnitudes or entries. How many
directions stand above the noise is counted only where the others are distributed as iid noise.
"""

import math
import textwrap
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure

from .. import style
from ..groups import CannotDraw
from ..study.words import first_names

MEASURES = ("effective_rank", "energy_rank_90")
NULLS = tuple(f"nulls.{name}.effective_rank" for name in ("scaled", "signs", "permuted"))
"""Of noise that keeps an update's scales, magnitudes or entries."""
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


def table(rows: pd.DataFrame, sigma: dict[str, Any]) -> pd.DataFrame:
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
def draw(table: pd.DataFrame) -> Figure:
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
    absent = {
        "not measured": {panel.title.replace("\n", " ") for panel in PANELS if panel not in panels},
        "in the table only": set(table[~table.index.isin(rows.index)]["module"]),
    }
    notes += [f"{text}: {first_names(names)}" for text, names in absent.items() if names]
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
