"""Heat maps of layers by types of matrix: the effective rank as a share of what noise has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..study import comparison
from ..study.records import Records
from ..variants import REFERENCE, of_collapsed
from .plot import View, axis, colourscale, numbers, plain

if TYPE_CHECKING:
    import pandas as pd

CELLS = 150
"""Cells of a heat map whose numbers are legible."""
NAME = "layers"
TITLE = "Effective rank of the full update, layer by type of matrix, as a share of what noise of its shape has"


def of_layers(table: pd.DataFrame) -> list[View]:
    """`effective_rank`: a view for each arm, layers by type of matrix, coloured by the share of noise's. An arm without
    any share, as of rank 1, has no view beside others that have one."""
    rows = in_layers(table[table["best"]])
    arms = list(dict.fromkeys(rows[rows["share"].notna()]["arm"])) or list(dict.fromkeys(rows["arm"]))
    first = [arm for arm in arms if arm in set(rows[rows["method"] == REFERENCE]["arm"])]
    return [
        heat_map(f"{arm}{of_collapsed(rows[rows['arm'] == arm])}", rows[rows["arm"] == arm])
        for arm in [*first, *(arm for arm in arms if arm not in first)]
    ]


def in_layers(rows: pd.DataFrame) -> pd.DataFrame:
    """The matrices that are in a layer; of a model without layers all of them, as its only one, 0. As in the picture,
    the others are in the CSV alone."""
    return rows[rows["layer"].notna()] if rows["layer"].notna().any() else rows.assign(layer=0)


def left_out(rows: pd.DataFrame) -> tuple[str, ...]:
    """A note that names the types of matrix without a place in a heat map; none where each has one."""
    names = list(dict.fromkeys(rows[rows["layer"].isna()]["module"])) if rows["layer"].notna().any() else []
    return (f"Outside the layers, and in the CSV alone: {', '.join(names)}.",) if names else ()


def heat_map(name: str, rows: pd.DataFrame) -> View:
    """Layers by type of matrix, averaged over seeds. Columns `layer`, `module`, `effective_rank`, `null`, `share`."""
    from plotly.graph_objects import Heatmap

    modules, layers = list(dict.fromkeys(rows["module"])), sorted({int(layer) for layer in rows["layer"]})
    grid = rows.groupby(["layer", "module"])[["effective_rank", "null", "share"]].mean()
    cells = [[grid.loc[(at, module)] if (at, module) in grid.index else None for module in modules] for at in layers]
    legible = len(modules) * len(layers) <= CELLS
    shares = [numbers(None if cell is None else cell["share"] for cell in row) for row in cells]
    texts = [["" if cell is None or not legible else _short(cell) for cell in row] for row in cells]
    hover = [["" if cell is None else _beside_noise(cell) for cell in row] for row in cells]
    trace = Heatmap(
        x=[plain(module) for module in modules],
        y=[f"{at}" for at in layers],
        z=shares,
        text=texts,
        texttemplate="%{text}",
        textfont={"size": 10},
        customdata=hover,
        hovertemplate="layer %{y}, %{x}<br>effective rank %{customdata}<br>share %{z:.3f}<extra></extra>",
        colorscale=colourscale(),
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        colorbar={"title": {"text": "share of noise's", "side": "right"}, "thickness": 12},
    )
    vertical = axis("layer", autorange="reversed", type="category")
    size = {"height": max(340, 190 + 30 * min(len(layers), 24))}
    layout = {"xaxis": axis("", type="category", tickangle=-35), "yaxis": vertical} | size
    return View(name, [dict(trace.to_plotly_json())], layout)


def _short(cell: pd.Series[float]) -> str:
    value, share = float(cell["effective_rank"]), float(cell["share"])
    if value != value:
        return ""
    size = f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return size if share != share else f"{size} ({share:.2f})".replace("(0.", "(.")


def _beside_noise(cell: pd.Series[float]) -> str:
    """The effective rank, and that of noise where the one is a share of the other."""
    value, share = f"{cell['effective_rank']:.4g}", float(cell["share"])
    return value if share != share else f"{value} of {cell['null']:.4g} (noise)"


def table(records: Records) -> pd.DataFrame | None:
    """One row per task, seed and matrix of the reference's updates: `effective_rank`, that of noise in `null`, their
    ratio `share`; None where no update was measured."""
    import pandas as pd

    rows = []
    for task in records.conditions:
        for seed, line in comparison.seeds_of(records, task, records.protocol.reference).items():
            for name, row in line.get("matrices", {}).items():
                place = {"task": task, "seed": seed, "layer": row["layer"], "module": row["module"], "matrix": name}
                ranks = {"effective_rank": row["effective_rank"], "null": row["null"]["effective_rank"]}
                rows.append(place | ranks)
    if not rows:
        return None
    made = pd.DataFrame(rows).astype({"effective_rank": float, "null": float, "layer": "Int64"})
    return made.assign(share=made["effective_rank"] / made["null"])


def of_study(table: pd.DataFrame) -> list[View]:
    """A view for each task, the mean over the seeds."""
    return [heat_map(str(task), in_layers(rows)) for task, rows in table.groupby("task", sort=False)]
