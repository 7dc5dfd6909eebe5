"""Singular values of ΔW in a few matrices, with the noise that fits their bulk and the floor that rounding leaves.

Where the update follows the noise, its directions may be chance. What rises above the noise edge is signal only if the
rest is distributed as iid noise; else it is not told. Below the rounding edge directions may even come from the storage
of the weights.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .. import style
from ..groups import CannotDraw, representative
from .rows import Row, noise_values, points, told

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UPDATE, FITTED = "ΔW", "noise fitted to its bulk"
SAME_NORM, FACTORS = "noise of the same norm", "noise of the same rank and norm"
COPIED = (
    *("matrix", "module", "layer", "out", "in", "rank"),
    *("noise_std", "noise_edge", "rounding_edge", "spikes", "bulk_misfit", "above_rounding"),
)
DEPTH, DEEPEST = 30, 1e8
"""How far the axis goes below the noise edge, and below the largest value."""
CLOSE = 0.09
"""Two lines nearer than this share of the axis would have overlapping labels."""
FEW, LETTERS = 16, 34
"""Up to this many values each has a mark; width of a panel in letters."""
LOOKS: dict[str, dict[str, Any]] = {
    UPDATE: {"color": "black"},
    FITTED: {"color": "0.5", "linestyle": "--"},
    SAME_NORM: {"color": "0.5", "linestyle": "--"},
    FACTORS: {"color": "0.5", "linestyle": (0, (2, 1))},
}
EDGES = {"noise edge": ":", "rounding edge": "-."}


def table(rows: pd.DataFrame, sigma: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row per point: up to 3 module types × 3 layers, the update and the noise.

    Columns: matrix, module, layer, out, in, rank (of factors), noise_std, noise_edge, rounding_edge, spikes (directions
    above the noise edge), bulk_misfit, above_rounding (directions above the rounding edge), measured (number of
    singular values that are known), series, i (from 1, for fitted noise from spikes + 1; thinned where they lie close),
    sigma.

    Raises:
        CannotDraw: no matrix changed.
    """
    import numpy as np
    import pandas as pd

    known = rows[rows["matrix"].isin([name for name, values in sigma.items() if len(values)])]
    moved = rows["matrix"].isin([name for name, values in sigma.items() if np.any(values > 0)])
    known = known[known["module"].isin(rows[moved]["module"])]
    if known.empty:
        raise CannotDraw("no matrix changed")
    chosen = representative(known).drop_duplicates(["layer", "module"])
    chosen["layer"] = known["layer"].loc[chosen.index]  # a model without layers was given one
    parts = []
    for row in chosen.to_dict("records"):
        values = sigma[row["matrix"]]
        facts = {name: row[name] for name in COPIED} | {"measured": len(values)}
        parts += [_series(facts, UPDATE, values), _noise(facts, row, values)]
    return pd.concat([part for part in parts if len(part)], ignore_index=True).astype({"layer": "Int64"})


def _series(facts: dict[str, Any], name: str, values: np.ndarray, first: int = 0) -> pd.DataFrame:
    import pandas as pd

    index = [i for i in points(first + len(values)) if i > first]
    return pd.DataFrame(facts | {"series": name, "i": index, "sigma": values[[i - 1 - first for i in index]]})


def _noise(facts: dict[str, Any], row: Row, values: np.ndarray) -> pd.DataFrame:
    """The bulk that the fitted noise makes, after the spikes; where none was fitted, noise of the update's own norm."""
    import numpy as np

    fitted = row["noise_std"] >= 0
    spikes = int(row["spikes"]) if fitted and row["spikes"] > 0 else 0
    unit = noise_values(row, spikes)
    if unit is None:
        return _series(facts, SAME_NORM, np.empty(0))
    if fitted:
        return _series(facts, FITTED, unit * row["noise_std"], spikes)
    norm = row["frobenius_norm"] if row["frobenius_norm"] >= 0 else np.linalg.norm(values)
    return _series(facts, FACTORS if row["rank"] > 0 else SAME_NORM, unit * norm / np.linalg.norm(unit))


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel per matrix, layers down, module types across; both axes logarithmic."""
    table = table.astype({"layer": "Int64"})
    place = table["layer"].astype(float).fillna(-1)
    layers, modules = sorted(set(place)), list(dict.fromkeys(table["module"]))
    figure = style.canvas(_width(modules), 1.15 + 1.75 * len(layers))
    grid = figure.subplots(len(layers), len(modules), sharex=True, sharey=True, squeeze=False)
    for row, layer in zip(grid, layers, strict=True):
        for axes, module in zip(row, modules, strict=True):
            _panel(axes, table[(table["module"] == module) & (place == layer)], _bottom(table))
    style.index_axis(grid[0][0], table["i"].max())
    grid[0][0].set_ylim(_bottom(table), 2 * table["sigma"].max())
    grid[-1][len(modules) // 2].set_xlabel("index i")
    grid[len(layers) // 2][0].set_ylabel("singular value σᵢ")
    below = "\nwhere no rounding edge is drawn, it lies below the axis" if _hidden(table).any() else ""
    style.title(figure, f"Singular values of ΔW, beside those of noise{below}")
    _legend(figure, grid[0][0], table, columns=len(modules))
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, bottom: float) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    if rows.empty:
        axes.set_axis_off()
        return
    for name, part in rows.groupby("series", sort=False):
        marks: dict[str, Any] = {"marker": "o", "markersize": 3} if name == UPDATE and len(part) <= FEW else {}
        axes.plot(part["i"], part["sigma"].where(part["sigma"] > 0), **LOOKS[str(name)], **marks)
    _edges(axes, rows, bottom)
    moved = bool((rows[rows["series"] == UPDATE]["sigma"] > 0).any())
    axes.set_title(_heading(rows.iloc[0], moved))


def _legend(figure: Figure, axes: Axes, table: pd.DataFrame, columns: int) -> None:
    """Every kind of line in any panel."""
    for name in dict.fromkeys(table["series"]):
        axes.plot([], [], label=name, **LOOKS[str(name)])
    style.legend(figure, axes, columns)


def _edges(axes: Axes, rows: pd.DataFrame, bottom: float) -> None:
    """A line at each edge that lies on the axis, with its name; one name for two lines that nearly meet."""
    first = rows.iloc[0]
    edges = {"noise edge": first["noise_edge"], "rounding edge": first["rounding_edge"]}
    shown = {name: edge for name, edge in edges.items() if edge > bottom}
    for name, edge in shown.items():
        axes.axhline(edge, color="0.35", linewidth=0.7, linestyle=EDGES[name])
    height = math.log(max(rows["sigma"].max(), *edges.values()) / bottom)
    if len(shown) == 2 and abs(math.log(edges["noise edge"] / edges["rounding edge"])) < CLOSE * height:
        shown = {"noise and rounding edge": max(shown.values())}
    for name, edge in shown.items():
        _name_line(axes, name, edge, rows[rows["series"] == UPDATE])


def _name_line(axes: Axes, name: str, edge: float, update: pd.DataFrame) -> None:
    """The label stands on the side without values: right and above once they have fallen below the line, else left and
    below."""
    above = update[update["sigma"] > edge]["i"].max()
    free = not above > update["i"].max() ** 0.55
    x, y, ha, va = (1.0, 1.5, "right", "bottom") if free else (0.02, -1.5, "left", "top")
    look: dict[str, Any] = {"fontsize": 6, "color": "0.25", "textcoords": "offset points", **style.halo()}
    axes.annotate(name, (x, edge), (0, y), xycoords=("axes fraction", "data"), ha=ha, va=va, **look)


def _heading(first: pd.Series[Any], moved: bool) -> str:
    """The matrix's place, how many directions stand above the noise, if that is told, and how far rounding reaches."""
    import pandas as pd

    layer = "" if pd.isna(first["layer"]) else f"layer {first['layer']}, "
    lines = [style.folded(f"{layer}{first['module']}", LETTERS)]
    if not moved:
        return "\n".join([*lines, "did not change"])
    if not math.isnan(first["spikes"]):
        lines += _counted(first) if told(first) else [_not_told(first["bulk_misfit"])]
    elif first["rank"] > 0:
        lines.append(f"factors of rank {first['rank']:,.0f}")
    return "\n".join(lines)


def _counted(first: pd.Series[Any]) -> list[str]:
    lines = [f"{first['spikes']:,.0f} of {min(first['out'], first['in']):,.0f} above the noise"]
    rounded = first["above_rounding"] < first["spikes"]
    return [*lines, f"only {first['above_rounding']:,.0f} above rounding"] if rounded else lines


def _not_told(misfit: float) -> str:
    return "its bulk was not measured" if math.isnan(misfit) else f"the rest is no iid noise (KS {misfit:.2f})"


def _bottom(table: pd.DataFrame) -> float:
    """Where the axis begins: somewhat below the lowest noise edge, or the smallest value of factors."""
    positive = table[table["sigma"] > 0]["sigma"]
    edges = table[table["noise_edge"] > 0]["noise_edge"]
    lowest = edges.min() / DEPTH if len(edges) else positive.min() / 2
    return float(max(lowest, positive.max() / DEEPEST))


def _hidden(table: pd.DataFrame) -> pd.Series[bool]:
    return table["rounding_edge"] <= _bottom(table)


def _width(modules: list[str]) -> float:
    return max(style.COLUMN, 0.4 + 2.2 * len(modules))
