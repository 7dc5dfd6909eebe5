"""The figures of `analysis.figures` as plotly draws them, each from the table that the figure itself has."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .. import style
from ..figures import functional_rank, memory
from ..scores import BEFORE, interval, intervals, score_label, split_label, standard_error
from ..variants import COLLAPSED, REFERENCE, of_collapsed
from .layers import of_layers
from .plot import (
    COLLAPSED_MARK,
    INK,
    QUIET,
    Trace,
    View,
    axis,
    band,
    bars,
    constant_level,
    ends_of,
    folded,
    level,
    looks,
    numbers,
    places,
    plain,
    rank_axis,
    scatter,
)
from .spectra import of_singular_values

if TYPE_CHECKING:
    import pandas as pd

POINTS = 160
"""Singular values of a line that are drawn; they are spread over log i, where the curve bends."""
PATTERNS = ("", "/", ".", "\\", "x")
CELLS = 150
"""Cells of a heat map whose numbers are legible."""


def of_cuts(table: pd.DataFrame) -> list[View]:
    """`functional_rank`: the full update cut to k directions, what remains, and ranks that were trained."""
    first, ends = table.iloc[0], ends_of(table["k"])
    whole = float(table[(table["part"] == "cut") & (table["k"] == table["k"].max())]["score"].mean())
    error = standard_error(whole, first["metric"], first["examples"])
    traces, shapes = [level("whole update: W₀ + ΔW", whole, ends)], []
    if not math.isnan(error):
        traces[0]["name"] += plain(f" (band: ± 1 standard error, {first['examples']:,} examples)")
        shapes.append(band(whole - error, whole + error))
    cut_parts = list(functional_rank.PARTS.items())
    for (part, (name, _)), look in zip(cut_parts, looks(len(cut_parts) + 1)[::-1], strict=False):
        traces += _with_range(name, table[table["part"] == part], "k", look)
    trained = table[table["part"] == "trained"]
    variants = trained.groupby("variant", sort=False)
    for (variant, rows), look in zip(variants, looks(len(variants)), strict=True):
        marker = look["marker"] | {"size": 10, "symbol": "diamond-open", "color": INK, "line": {"width": 2}}
        marker |= {} if len(variants) == 1 else {"color": look["marker"]["color"], "symbol": look["marker"]["symbol"]}
        traces += _with_range(f"{variant}, trained at rank k", rows, "k", {"marker": marker, "mode": "markers"})
    traces += [*_crosses(trained, "k"), *constant_level(table, ends)]
    score = score_label(f"{split_label('validation', table)} {first['metric']}", table)
    title = "k: directions of the update kept or removed; rank trained"
    return [View("", traces, {"xaxis": rank_axis(table["k"], title), "yaxis": axis(score), "shapes": shapes})]


def of_ranks(table: pd.DataFrame) -> list[View]:
    """`accuracy_vs_rank`: a line for each variant, full fine-tuning as a level."""
    ranks = table["rank"].dropna()
    ends, first = ends_of(ranks), table.iloc[0]
    traces, shapes = [], []
    full = table[table["method"] == REFERENCE]
    if len(full):
        low, high, spread_of = interval(full)
        name = f"{full['variant'].iloc[0]} ({spread_of}){of_collapsed(full)}"
        traces.append(level(name, float(full["score"].mean()), ends))
        shapes += [band(low, high)] if low < high else []
    others = table[table["method"] != REFERENCE].groupby("variant", sort=False)
    for (variant, rows), look in zip(others, looks(len(others)), strict=True):
        if rows["rank"].isna().all():
            traces.append(level(f"{variant}{of_collapsed(rows)}", float(rows["score"].mean()), ends, **look["line"]))
        else:
            traces += _with_range(str(variant), rows, "rank", look)
            traces += _seeds(str(variant), rows, places(rows["rank"]), look) if len(set(rows["seed"])) > 1 else []
    for column in (name for name in map(str, table) if name.startswith(BEFORE)):
        traces.append(level(column.replace("_", " "), float(table[column].mean()), ends, color=QUIET, dash="dot"))
    traces += [*_crosses(table[table["rank"].notna()], "rank"), *constant_level(table, ends)]
    score = score_label(f"{first['split']} {first['metric']}", table)
    return [View("", traces, {"xaxis": rank_axis(ranks, "rank r"), "yaxis": axis(score), "shapes": shapes})]


def of_parameters(table: pd.DataFrame) -> list[View]:
    """`accuracy_vs_parameters`: a mark for each run, the parameters on a logarithmic axis."""
    first, variants = table.iloc[0], table.groupby("variant", sort=False)
    traces = []
    for (variant, rows), look in zip(variants, looks(len(variants)), strict=True):
        means, (below, above), spread = intervals(rows, "trainable")
        arms = rows.groupby("trainable")[["arm", "rank"]].first()
        hover = [f"{plain(row['arm'])}, {size:,.0f} parameters" for size, row in arms.iterrows()]
        traces.append(
            scatter(
                f"{variant} ({spread})",
                means.index,
                means,
                mode="markers+text",
                text=["" if rank != rank else f"{rank:.0f}" for rank in arms["rank"].astype(float)],
                textposition="middle right",
                error_y=bars([*means], [*(means - below)], [*(means + above)]) if any((*below, *above)) else None,
                customdata=hover,
                hovertemplate="%{customdata}<br>%{y:.4f}<extra></extra>",
                marker=look["marker"] | {"size": 9},
            )
        )
        several = len(set(rows["seed"])) > 1
        traces += _seeds(str(variant), rows, rows["trainable"], look) if several else []
    traces += _crosses(table, "trainable", lambda sizes: [float(size) for size in sizes])
    traces += constant_level(table, (float(table["trainable"].min()), float(table["trainable"].max())))
    score = score_label(f"{first['split']} {first['metric']}", table)
    horizontal = axis("parameters trained, the head included; number: rank", type="log", exponentformat="SI")
    return [View("", traces, {"xaxis": horizontal | {"dtick": "D2"}, "yaxis": axis(score)})]


def of_memory(table: pd.DataFrame) -> list[View]:
    """`memory`: a bar for each arm, stacked by category."""
    from matplotlib.colors import to_hex
    from plotly.graph_objects import Bar

    rows = table if table["arm"].nunique() <= memory.MOST else table[table["best"]]
    arms = list(dict.fromkeys(rows["arm"]))
    traces = []
    colours = [to_hex(colour) for colour in style.colours(len(memory.CATEGORIES))]
    for category, colour, pattern in zip(memory.CATEGORIES, colours, PATTERNS, strict=True):
        means = rows[rows["category"] == category].groupby("arm")["mib"].mean()
        name = category.replace("_", " ")
        look: dict[str, Any] = {
            "color": colour,
            "pattern": {"shape": pattern, "size": 6, "fgcolor": "#ffffff", "fillmode": "overlay"},
        }
        values = {"x": numbers(means[arm] for arm in arms), "y": [folded(arm) for arm in arms], "marker": look}
        bar = Bar(name=name, orientation="h", hovertemplate="%{y}: %{x:,.1f} MiB", **values)
        traces.append(dict(bar.to_plotly_json()))
    vertical = axis("", autorange="reversed", type="category")
    size = {"height": max(320, 170 + 26 * len(arms))}
    horizontal = axis("MiB at the peak of a step")
    return [View("", traces, {"barmode": "stack", "xaxis": horizontal, "yaxis": vertical} | size)]


def _with_range(name: str, rows: pd.DataFrame, column: str, look: dict[str, Any]) -> list[Trace]:
    """The means over seeds, and how far the seeds reach; with one seed the interval over its examples."""
    if rows.empty:
        return []
    means, (below, above), spread = intervals(rows, column)
    sizes = [int(size) for size in means.index]
    reach = bars([*means], [*(means - below)], [*(means + above)]) if any((*below, *above)) else None
    settings = {"mode": "lines+markers"} | look | {"customdata": sizes, "error_y": reach}
    word = "rank" if column == "rank" else column
    text = f"{word} %{{customdata:,}}: %{{y:.4f}}"
    return [scatter(f"{name} ({spread})", places(sizes), means, hovertemplate=text, **settings)]


def _seeds(name: str, rows: pd.DataFrame, where: Any, look: dict[str, Any]) -> Iterator[Trace]:
    """A small hollow mark for each run, beside its mean."""
    marker = {"color": look["marker"]["color"], "symbol": "circle-open", "size": 5}
    text = [f"seed {seed}" for seed in rows["seed"]]
    hover = "%{customdata}: %{y:.4f}"
    group = {"legendgroup": plain(name), "showlegend": False, "opacity": 0.6}
    yield scatter(
        name, where, rows["score"], mode="markers", marker=marker, customdata=text, hovertemplate=hover, **group
    )


def _crosses(rows: pd.DataFrame, column: str, where: Callable[[Any], list[float]] = places) -> list[Trace]:
    if COLLAPSED not in rows or not rows[COLLAPSED].any():
        return []
    of = rows[rows[COLLAPSED]]
    text = [f"{plain(arm)}, seed {seed}" for arm, seed in zip(of["arm"], of["seed"], strict=True)]
    hover = "%{customdata}<extra>collapsed</extra>"
    return [
        scatter(
            "collapsed run",
            where(of[column].astype(float)),
            of["score"],
            mode="markers",
            marker=COLLAPSED_MARK,
            customdata=text,
            hovertemplate=hover,
        )
    ]


VIEWS: dict[str, Callable[[pd.DataFrame], list[View]]] = {
    "functional_rank": of_cuts,
    "accuracy_vs_rank": of_ranks,
    "accuracy_vs_parameters": of_parameters,
    "memory": of_memory,
    "singular_values": of_singular_values,
    "effective_rank": of_layers,
}
"""By the name of the figure. One that is not here is shown as the picture that matplotlib draws of it."""
