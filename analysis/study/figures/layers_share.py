"""The directions that runs share beyond chance, in every layer and type of matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ... import style
from ..records import Records
from ..similarities import NAME

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "what runs share beyond chance, in every layer and type of matrix (Figures 6 and 7 of the LoRA paper)"
SHOWN = {
    ("r=8 and r=64", "A at the start"): (8, 64),
    ("r=8 and r=64", "A"): (8, 64),
    ("two seeds of r=64", "A"): (64, 64),
    ("two seeds of r=64", "row"): (64, 64),
    ("two seeds of r=64", "column"): (64, 64),
    ("two seeds of full", "row"): (64, 64),
    ("two seeds of full", "column"): (64, 64),
    ("W and r=64", "row"): (40, 4),
    ("W and full", "row"): (40, 4),
}
"""The (i, j) at which φ of each pair and side is shown."""
DARKEST = 0.5
"""φ beyond chance from which on a cell is darkest."""
LIGHT = 0.4
"""Share of the darkest above which a number is white."""
CELL = 0.155
"""Inches of a cell, downwards."""


def table(records: Records) -> pd.DataFrame | None:
    """One row for each task, pair and side of `SHOWN`, module and layer; None where the similarities were not measured.

    Columns: model, i, j, phi (mean over the pairs of runs), chance (max(i, j) / d), pairs.
    """
    import pandas as pd

    rows = []
    for row in records.rows.get(NAME, ()):
        i, j = SHOWN.get((row["pair"], row["side"]), (0, 0))
        each = row["each"].get(f"{i},{j}")
        if each:
            place = {"task": row["condition"], "model": records.model(row["condition"])}
            place |= {key: row[key] for key in ("pair", "side", "module", "layer")}
            numbers = {"phi": sum(each) / len(each), "chance": max(i, j) / row["d"], "pairs": len(each)}
            rows.append(place | {"i": i, "j": j} | numbers)
    order = {name: place for place, name in enumerate(records.modules)}
    rows.sort(key=lambda row: order.get(row["module"], len(order)))
    return pd.DataFrame(rows) if rows else None


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A row of heat maps for each pair and side, a column for each task; layers across, types of matrix downwards."""
    tasks, modules = list(dict.fromkeys(table["task"])), list(dict.fromkeys(table["module"]))
    shown = [key for key in SHOWN if key in set(zip(table["pair"], table["side"], strict=True))]
    figure = style.canvas(style.PAGE, 1.1 + (CELL * len(modules) + 0.12) * len(shown))
    grid = figure.subplots(len(shown), len(tasks), squeeze=False, sharex=True, sharey=True)
    for down, (pair, side) in enumerate(shown):
        for across, task in enumerate(tasks):
            chosen = (table["task"] == task) & (table["pair"] == pair) & (table["side"] == side)
            mesh = _cells(grid[down][across], table[chosen], modules)
        i, j = SHOWN[pair, side]
        grid[down][0].set_ylabel(f"{pair}\n{side}\nφ({i}, {j})", rotation=0, ha="right", va="center")
        grid[down][0].set_yticks(
            np.arange(len(modules)) + 0.5, [name.removeprefix("attention.self.") for name in modules]
        )
    for across, task in enumerate(tasks):
        grid[0][across].set_title(task)
        grid[-1][across].set_xlabel("layer")
    grid[0][0].invert_yaxis()
    bar = figure.colorbar(mesh, ax=grid, shrink=0.4, aspect=30, pad=0.01)
    bar.set_label("φ − chance")
    text = "directions that two runs share beyond chance, max(i, j) / d, by layer and type of matrix; numbers in"
    pairs = f"{table['pairs'].min()} to {table['pairs'].max()} pairs of runs"
    over = f"hundredths, {table['model'].iloc[0]}, mean over {pairs}"
    style.title(figure, f"{text} {over}")
    return figure


def _cells(axes: Axes, rows: pd.DataFrame, modules: list[str]) -> Any:
    cells = rows.assign(beyond=rows["phi"] - rows["chance"]).pivot_table(
        index="module", columns="layer", values="beyond"
    )
    values = cells.reindex(modules).to_numpy()
    mesh = axes.pcolormesh(values, vmin=0, vmax=DARKEST, cmap=style.PALETTE, rasterized=True)
    for (down, across), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if value > LIGHT * DARKEST else "black"
            axes.text(
                across + 0.5, down + 0.5, f"{round(100 * value)}", ha="center", va="center", fontsize=5, color=colour
            )
    axes.set_xticks(np.arange(values.shape[1]) + 0.5, [str(layer) for layer in cells.columns])
    return mesh
