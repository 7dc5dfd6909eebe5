"""The directions that runs share beyond chance, in every layer and type of matrix."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import style
from ..markdown import listed
from ..records import Records, models_of
from ..similarities import ADAPTED, NAME, lora_in

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "what runs share beyond chance, in every layer and type of matrix (Figures 6 and 7 of the LoRA paper)"
SHOWN = (
    ("r=8 and r=64", "A at the start", 8, 64),
    ("r=8 and r=64", "A", 1, 1),
    ("r=8 and r=64", "A", 8, 64),
    ("two seeds of r=64", "A", 1, 1),
    ("two seeds of r=64", "A", 8, 8),
    ("two seeds of r=64", "A", 64, 64),
    ("two seeds of r=64", "row", 8, 8),
    ("two seeds of r=64", "column", 64, 64),
    *(("two seeds of full", side, k, k) for side in ("row", "column") for k in (1, 8, 64)),
    *((pair, side, 40, 4) for pair in ("W and r=64", "W and full") for side in ("row", "column")),
)
"""Pairs and sides, and the (i, j) at which φ is shown. The rows of B A and of A span one space where all 64 of them are
taken, so these are shown at 8."""
KEYS = ["pair", "side", "i", "j"]
DARKEST = 0.5
"""φ beyond chance from which on a cell is darkest."""
LIGHT = 0.4
"""Share of the darkest above which a number is white."""
CELL, BETWEEN = 0.12, 0.1
"""Inches of a cell, and between two heat maps, downwards."""
LABEL = 0.4
"""Inches of a row's label, which is higher than the cells of two types of matrix."""


def table(records: Records) -> pd.DataFrame | None:
    """One row for each task, pair, side, i and j of `SHOWN`, module and layer; None where none was measured.

    Columns: model, phi (mean over the pairs of runs), chance (max(i, j) / d), pairs, seeds (which); adapted, where LoRA
    does not adapt every type.
    """
    import pandas as pd

    rows = []
    for row, (pair, side, i, j) in product(records.rows.get(NAME, ()), SHOWN):
        each = row["each"].get(f"{i},{j}") if (row["pair"], row["side"]) == (pair, side) else None
        if each:
            place = {"task": row["condition"], "model": records.model(row["condition"])}
            keys = ("pair", "side", "module", "layer", *([ADAPTED] if row.get(ADAPTED) else []))
            place |= {key: row[key] for key in keys}
            numbers = {"phi": sum(each) / len(each), "chance": max(i, j) / row["d"], "pairs": len(each)}
            rows.append(place | {"i": i, "j": j} | numbers)
    order = {name: place for place, name in enumerate(records.modules)}
    rows.sort(key=lambda row: order.get(row["module"], len(order)))
    return pd.DataFrame(rows).assign(seeds=listed(records.protocol.final_seeds)) if rows else None


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A row of heat maps for each pair and side, a column for each task; layers across, types of matrix downwards."""
    tasks, modules = list(dict.fromkeys(table["task"])), list(dict.fromkeys(table["module"]))
    there = set(table[KEYS].itertuples(index=False, name=None))
    shown = [key for key in SHOWN if key in there]
    figure = style.canvas(style.PAGE, 1.1 + (max(CELL * len(modules), LABEL) + BETWEEN) * len(shown))
    grid = figure.subplots(len(shown), len(tasks), squeeze=False, sharex=True, sharey=True)
    for down, (pair, side, i, j) in enumerate(shown):
        for across, task in enumerate(tasks):
            chosen = (table[["task", *KEYS]] == [task, pair, side, i, j]).all(axis=1)
            mesh = _cells(grid[down][across], table[chosen], modules)
        grid[down][0].set_ylabel(f"{pair}\n{side}\nφ({i}, {j})", rotation=0, ha="right", va="center", labelpad=9)
        grid[down][0].set_yticks(
            np.arange(len(modules)) + 0.5, [name.removeprefix("attention.self.") for name in modules]
        )
    for across, task in enumerate(tasks):
        grid[0][across].set_title(task)
        grid[-1][across].set_xlabel("layer")
    grid[0][0].invert_yaxis()
    bar = figure.colorbar(mesh, ax=grid, shrink=0.4, aspect=30, pad=0.01, extend=_extends(table))
    bar.set_label("φ − chance")
    text = "directions that two runs share beyond chance, max(i, j) / d, by layer and type of matrix; numbers in"
    pairs = f"{table['pairs'].min()} to {table['pairs'].max()} pairs of runs"
    over = f"hundredths, {models_of(table)}{lora_in(table)}, mean over {pairs} of seeds {table['seeds'].iloc[0]}"
    style.title(figure, f"{text} {over}")
    return figure


def _extends(table: pd.DataFrame) -> str:
    """At which ends of the colours some cell lies outside."""
    beyond = table["phi"] - table["chance"]
    ends = {(True, True): "both", (True, False): "min", (False, True): "max", (False, False): "neither"}
    return ends[bool((beyond < 0).any()), bool((beyond > DARKEST).any())]


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
