"""Singular values of ΔW beside noise, as plotly draws them: of a group of runs, and of a study's full fine-tunes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lorax_lab.study.published import Line

from ..figures import singular_values
from ..groups import spread
from ..matrices import representative
from ..study import comparison
from ..study.records import Records
from ..variants import REFERENCE
from .plot import INK, QUIET, Trace, View, axis, level, looks, numbers, scatter

if TYPE_CHECKING:
    import pandas as pd

POINTS = 160
"""Singular values of a line that are drawn; they are spread over log i, where the curve bends."""
NAME = "spectra"
TITLE = "Singular values of the full update in a few matrices, of one seed, and the edge of the noise fitted to them"


def of_singular_values(table: pd.DataFrame) -> list[View]:
    """`singular_values`: a view for each matrix, its arms beside noise."""
    arms = dict(zip(table["arm"], table["method"], strict=True))
    others = [arm for arm, method in arms.items() if method not in (REFERENCE, singular_values.NOISE)]
    fixed = {REFERENCE: {"color": INK, "width": 2}, singular_values.NOISE: {"color": QUIET, "dash": "dash"}}
    ranked = dict(zip(others, looks(len(others)), strict=True))
    views = []
    for matrix, rows in table.groupby("matrix", sort=False):
        traces = []
        for arm, part in rows.groupby("arm", sort=False):
            part = thinned(part[part["sigma"] > 0])
            look = ranked.get(str(arm)) or {"line": fixed[arms[str(arm)]]}
            hover = "i = %{x:,}: %{y:.4g}"
            mode = "lines+markers" if arm in ranked else "lines"
            traces.append(scatter(arm, part["i"], part["sigma"], mode=mode, hovertemplate=hover, **look))
        ends = (1.0, float(rows["i"].max()))
        edge = singular_values.EDGES[rows[rows["method"] == singular_values.NOISE]["arm"].iloc[0]]
        traces.append(level(edge, float(rows["edge"].iloc[0]), ends, color=QUIET, dash="dot"))
        views.append(View(str(matrix), traces, _layout(rows)))
    return views


def thinned(rows: pd.DataFrame, points: int = POINTS) -> pd.DataFrame:
    """At most about `points` rows, evenly spread over the logarithm of their number, the first and the last among
    them."""
    count = len(rows)
    if count <= points:
        return rows
    kept = {round(math.exp(math.log(count) * step / (points - 1))) - 1 for step in range(points)}
    return rows.iloc[sorted(kept | set(spread(range(count), points // 2)))]


def table(records: Records) -> pd.DataFrame | None:
    """One row per task, matrix and singular value of the first seed's full fine-tune; None where none was published.

    Columns task, seed, matrix, module, layer, i (from 1), sigma, edge (of the noise, NaN where none was fitted).
    """
    import pandas as pd

    parts = []
    for task in records.conditions:
        lines = comparison.seeds_of(records, task, records.protocol.reference)
        seed = min((seed for seed, line in lines.items() if line.get("functional")), default=None)
        if seed is not None:
            parts += _of_line(lines[seed], {"task": task, "seed": seed})
    return pd.concat(parts, ignore_index=True) if parts else None


def _of_line(line: Line, about: dict[str, object]) -> list[pd.DataFrame]:
    import pandas as pd

    matrices = pd.DataFrame([{"matrix": name, **row} for name, row in line["matrices"].items()])
    parts = []
    for matrix in representative(matrices).to_dict("records"):
        sigma, edge = line["matrices"][matrix["matrix"]]["sigma"], matrix.get("noise_edge")
        place = about | {key: matrix[key] for key in ("matrix", "module", "layer")}
        columns = {"i": range(1, len(sigma) + 1), "sigma": sigma, "edge": math.nan if edge is None else edge}
        parts.append(pd.DataFrame(place | columns))
    return parts


def of_study(table: pd.DataFrame) -> list[View]:
    """A view for each matrix: the singular values of each task's full update, and the edge of its noise."""
    tasks = list(dict.fromkeys(table["task"]))
    look = dict(zip(tasks, looks(len(tasks)), strict=True))
    views = []
    for matrix, rows in table.groupby("matrix", sort=False):
        traces: list[Trace] = []
        for task, part in rows.groupby("task", sort=False):
            drawn, line = thinned(part[part["sigma"] > 0]), look[task]["line"]
            hover = "i = %{x:,}: %{y:.4g}"
            traces.append(scatter(task, drawn["i"], drawn["sigma"], mode="lines", line=line, hovertemplate=hover))
            if (edge := float(part["edge"].iloc[0])) > 0:
                ends = (1.0, float(part["i"].max()))
                traces.append(level(f"edge of noise, {task}", edge, ends, color=line["color"], width=1, dash="dot"))
        views.append(View(str(matrix), traces, _layout(rows)))
    return views


def _layout(rows: pd.DataFrame) -> dict[str, object]:
    """Both axes logarithmic; the smallest values, which fall towards 0 in any square matrix, are left below."""
    top, edge = float(rows["sigma"].max()), float(rows["edge"].min())
    vertical = axis("singular value σᵢ of ΔW", type="log", exponentformat="power")
    if 0 < edge / singular_values.DEPTH < top:
        vertical["range"] = numbers((math.log10(edge / singular_values.DEPTH), math.log10(max(top, edge)) + 0.1))
    return {"xaxis": axis("index i", type="log", dtick=math.log10(2)), "yaxis": vertical}
