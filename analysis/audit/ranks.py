"""Ranks of every update, layer by module type, beside those of noise of the same shape, with marks of doubt.

A share of 1 is what noise gives (Gaussian entries, or Gaussian factors of the same rank): only shares well below it
are structure. The least null is the lowest of noises that keep the update's own scales, magnitudes or entries. How many
directions stand above the noise is told only where the others are distributed as iid noise.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import style
from ..groups import CannotDraw
from .rows import NULLS, Row, outside, told

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

FLAG, NOT_TOLD, ENDS = "*", "†", "≤"
SHARES = ("effective_rank", "energy_rank_90")
MARKS = {
    FLAG: "not to be trusted: decided by what lies under the rounding floor of the stored weights",
    NOT_TOLD: "not told: the rest is not known to be iid noise, so what stands above its edge need be no signal",
    "≤": "at most; the top singular values alone leave it open",
}


@dataclass(frozen=True)
class Panel:
    """A heat map: the column of its numbers, the column of its colours, and both in words."""

    column: str
    colour: str
    title: str
    bar: str


PANELS = (
    Panel("effective_rank.share", "effective_rank.share", "effective rank,\nas a share of noise's", "share of noise's"),
    Panel("least.share", "least.share", "effective rank,\nas a share of null's", "share of null's"),
    Panel("spikes", "spikes", "directions\nabove the noise", "number"),
    Panel("energy_rank_90", "energy_rank_90.share", "rank that holds\n90% of the energy", "share of noise's"),
)
NUMBERS, MARKS_ONLY = 2, 1
CELL, COLUMN = 0.27, 0.13
"""Width in inches of four letters in a cell, and of a module type's name."""
LINE, THIN, TALLEST = 0.17, 0.085, 7.0
"""Height in inches of a layer with numbers, of a layer with marks only, and of heat maps above each other."""
WIDEST, TYPES = 22, 40
"""Module types that a page has room for with numbers, and without."""


def table(rows: pd.DataFrame, sigma: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row per matrix. Columns: matrix, module, layer; effective_rank and energy_rank_90, each with `.null` (what
    noise has), `.share` (their ratio) and `.mark`; least.null, the lowest effective rank of the nulls that keep
    structure, least.share and least.mark; spikes (directions above the noise, where they are told) and spikes.mark.

    A mark is made of: `*` decided by rounding, `†` not told since the bulk is no iid noise, `≤` an end of what is open.

    Raises:
        CannotDraw: no matrix changed.
    """
    ranks = rows[["matrix", "module", "layer"]].copy()
    flags = [set(text.split()) for text in rows["untrusted"]]
    for name in SHARES:
        ranks[name] = rows[name].where(rows[name] > 0)
        ranks[f"{name}.null"] = rows[f"null.{name}"]
        ranks[f"{name}.share"] = ranks[name] / ranks[f"{name}.null"]
        ranks[f"{name}.mark"] = [FLAG if name in flag else "" for flag in flags]
    open_end = rows["energy_rank_90.low"] < rows["energy_rank_90"]
    ranks["energy_rank_90.mark"] += ["≤" if is_open else "" for is_open in open_end]
    ranks["least.null"] = rows[[f"nulls.{name}.effective_rank" for name in NULLS]].min(axis=1)
    ranks["least.share"] = ranks["effective_rank"] / ranks["least.null"]
    ranks["least.mark"] = ranks["effective_rank.mark"]
    records = rows.to_dict("records")
    ranks["spikes"] = [row["spikes"] if told(row) else math.nan for row in records]
    ranks["spikes.mark"] = [_spike_mark(row) for row in records]
    if not _measured(ranks) or not (rows["frobenius_norm"] != 0).any():
        raise CannotDraw("no matrix changed, or no rank of it was measured")
    return ranks


def _measured(rows: pd.DataFrame) -> list[Panel]:
    return [panel for panel in PANELS if rows[panel.colour].notna().any()]


def _spike_mark(row: Row) -> str:
    if math.isnan(row["spikes"]):
        return ""
    rounded = "spikes" in row["untrusted"].split() or row["above_rounding"] < row["spikes"]
    return FLAG * rounded if told(row) else NOT_TOLD


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A heat map per rank that was measured; cells have numbers, or only their marks, where there is room for them."""
    rows, layered = _shown(table)
    panels, layers = _measured(rows), sorted({int(layer) for layer in rows["layer"]})
    modules = list(dict.fromkeys(rows["module"]))
    across, height, room = _arrange(len(panels), len(layers), len(modules))
    down, names = math.ceil(len(panels) / across), 0.062 * max(map(len, modules))
    size = _width(across, modules), 1.0 + down * (0.75 + max(height * len(layers), 0.4)) + names
    figure = style.canvas(*size)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _panel(axes, rows, panel, layers, modules, room)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    if not layered:
        grid[0][0].set(ylabel="", yticks=[])
    style.title(figure, "Ranks of ΔW by layer and module type")
    notes = [textwrap.fill(note, int(size[0] * 18)) for note in _notes(table, rows, panels, room)]
    figure.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=style.FONT)
    return figure


def _shown(table: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """The rows within layers, or all as one layer where nothing was measured there; measured module types first, if
    there are too many."""
    layered = bool(_measured(table[table["layer"].notna()]))
    rows = table[table["layer"].notna()] if layered else table.assign(layer=0)
    measured = rows[rows[[panel.colour for panel in PANELS]].notna().any(axis=1)]["module"]
    return rows[rows["module"].isin(list(dict.fromkeys([*measured, *rows["module"]]))[:TYPES])], layered


def _arrange(panels: int, layers: int, modules: int) -> tuple[int, float, int]:
    """(heat maps beside each other, height of a layer, what has room in a cell: `NUMBERS`, `MARKS_ONLY` or nothing)."""

    def beside(cell: float) -> int:
        return max(1, min(panels, int((style.PAGE - 0.7) / (cell * modules + 0.1))))

    if math.ceil(panels / beside(CELL)) * LINE * layers <= TALLEST and modules <= WIDEST:
        return beside(CELL), LINE, NUMBERS
    height = min(THIN, TALLEST / layers)
    return beside(COLUMN), height, MARKS_ONLY if height == THIN else 0


def _width(across: int, modules: list[str]) -> float:
    return max(style.COLUMN, min(style.PAGE, 0.9 + across * (0.1 + 0.36 * max(len(modules), 3))))


def _panel(axes: Axes, rows: pd.DataFrame, panel: Panel, layers: list[int], modules: list[str], room: int) -> None:
    def grid(column: str, how: Any = "mean") -> np.ndarray:
        return rows.pivot_table(column, "layer", "module", how).reindex(index=layers, columns=modules).to_numpy()

    scale, ticks = _scale(panel, rows)
    edges: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.4} if room == NUMBERS else {}
    mesh = axes.pcolormesh(grid(panel.colour).astype(float), **scale, **edges)
    bar = axes.figure.colorbar(mesh, ax=axes, location="bottom", aspect=18, pad=0.02, label=panel.bar, ticks=ticks)
    bar.outline.set_visible(False)
    _write(axes, mesh, panel, grid(panel.column).astype(float), grid(_mark_column(panel), _joined), room)
    axes.set(title=panel.title, ylabel="layer", ylim=(len(layers), 0))
    axes.spines[:].set_visible(False)
    axes.label_outer()
    shown = range(0, len(layers), math.ceil(len(layers) / (40 if room == NUMBERS else 20)))
    axes.set_yticks([i + 0.5 for i in shown], [str(layers[i]) for i in shown])
    axes.set_xticks([i + 0.5 for i in range(len(modules))], modules, rotation=90)
    axes.tick_params(length=0)


def _write(axes: Axes, mesh: QuadMesh, panel: Panel, values: np.ndarray, marks: np.ndarray, room: int) -> None:
    """Write the coloured cells' texts, white on dark and dark on light."""
    import numpy as np

    colours = mesh.to_rgba(np.ma.asarray(mesh.get_array()))
    for (i, j), value in np.ndenumerate(values):
        mark = str(marks[i, j]) if isinstance(marks[i, j], str) else ""
        red, green, blue, _ = colours[i, j]
        dark = 0.21 * red + 0.72 * green + 0.07 * blue < 0.5 and not math.isnan(value)
        ink = "white" if dark else "0.15"
        if label := _cell(panel, value, mark, room):
            axes.text(j + 0.5, i + 0.5, label, ha="center", va="center_baseline", color=ink, fontsize=4 + room)


def _mark_column(panel: Panel) -> str:
    return f"{panel.column.removesuffix('.share')}.mark"


def _joined(marks: pd.Series[Any]) -> str:
    return "".join(sorted({letter for mark in marks if isinstance(mark, str) for letter in mark}))


def _scale(panel: Panel, rows: pd.DataFrame) -> tuple[dict[str, Any], list[float]]:
    """Colours and the ticks of their bar: in every panel dark is much."""
    from matplotlib.colors import PowerNorm

    if panel.colour.endswith(".share"):
        return {"cmap": style.PALETTE, "vmin": 0, "vmax": 1}, [0, 0.5, 1]
    largest = max(float(rows[panel.colour].max()), 1.0)
    ticks = sorted({0.0, float(math.ceil(largest / 4)), largest})
    return {"cmap": style.PALETTE, "norm": PowerNorm(0.5, vmin=0, vmax=largest)}, ticks


def _cell(panel: Panel, value: float, mark: str, room: int) -> str:
    """`.81*`, `≤412`, `2.1k`; only the mark, or nothing, where there is no room."""
    flags = "".join(letter for letter in mark if letter not in ENDS)
    if math.isnan(value):
        return NOT_TOLD if room and NOT_TOLD in mark else ""
    if room < NUMBERS:
        return flags if room else ""
    if panel.column.endswith(".share"):
        return f"{value:.2f}".removeprefix("0") + flags
    return "".join(letter for letter in mark if letter in ENDS) + _short(value) + flags


def _short(value: float) -> str:
    """A number of directions in at most four letters.

    >>> [_short(value) for value in (0.0, 8.0, 8.5, 412.0, 2088.0, 12345.0)]
    ['0', '8', '8.5', '412', '2.1k', '12k']
    """
    if value >= 999.5:
        return f"{value / 1000:.1f}k" if value < 9950 else f"{value / 1000:.0f}k"
    return f"{value:.0f}" if value == int(value) or value >= 99.5 else f"{value:.1f}"


def _notes(table: pd.DataFrame, rows: pd.DataFrame, panels: list[Panel], room: int) -> list[str]:
    used = "".join(_joined(rows[_mark_column(panel)]) for panel in panels)
    untold = rows["spikes.mark"].eq(NOT_TOLD).any() and not rows["spikes"].notna().any()
    known = MARKS if room == NUMBERS else {mark: text for mark, text in MARKS.items() if mark not in ENDS}
    where = "" if room else " (marked in the table)"
    notes = [f"{mark} {text}{where}" for mark, text in known.items() if mark in used]
    absent = [panel for panel in PANELS if panel not in panels]
    missing = [panel.title.replace("\n", " ") for panel in absent if not (untold and panel.column == "spikes")]
    notes += [f"not measured: {'; '.join(missing)}"] if missing else []
    notes += [f"directions above the noise are {MARKS[NOT_TOLD]}"] if untold else []
    blank = rows[[panel.colour for panel in panels]].where(~rows["spikes.mark"].eq(NOT_TOLD), 0.0).isna().any(axis=None)
    notes += ["blank: did not change, or was not measured"] if blank else []
    notes += outside(table, rows)
    if rows.duplicated(["layer", "module"]).any():
        notes.append("cells that stand for several matrices show their mean")
    return notes
