"""The figures of `analysis.study.figures` as plotly draws them, each from the table that the figure itself has."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from lorax_lab.record.direction import oriented

from ..scores import higher_is_better, score_label, split_label
from ..study import update
from ..study.figures import cost, functional, losses, spectral
from ..variants import COLLAPSED
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
    level,
    looks,
    places,
    plain,
    rank_axis,
    scatter,
)
from .trials import of_trials

if TYPE_CHECKING:
    import pandas as pd

SIDES = {"rank": "LoRA of rank r against full fine-tuning", "k": "full update cut to k directions, against the whole"}
LOGARITHMIC = {"type": "log", "exponentformat": "SI", "dtick": 1}
FARTHER, BEYOND = 3.0, "a double click shows what lies beyond"
"""How many times as far as what matters all has to reach, so that the axis begins without it; and what says so."""
ASIDE = 0.11
"""How far beside its mean a seed's point stands, on the axis of log₂."""


def of_answer(table: pd.DataFrame) -> list[View]:
    """A view for each task: LoRA over its rank and the cut update over k, on one scale, with the margin."""
    views = []
    for task, rows in table.groupby("task", sort=False):
        ends = ends_of(rows["size"])
        traces = [level("as good as the reference", 0.0, ends)]
        margin = float(oriented(-rows["margin"].iloc[0], higher_is_better(rows)))
        traces.append(level(f"the margin, {rows['margin'].iloc[0]:g}", margin, ends, dash="dash"))
        for (side, name), look, aside in zip(SIDES.items(), looks(3)[1:], (-ASIDE, ASIDE), strict=True):
            of = rows[rows["side"] == side]
            star = f"{'r*' if side == 'rank' else 'k*'} = {of['enough'].iloc[0]}"
            means = of.drop_duplicates("size").sort_values("size")
            traces.append(_means(f"{name}: {star} ({of['split'].iloc[0]})", means, look, side))
            traces.append(_dots(of, look, side, aside))
        crossed = rows[rows[COLLAPSED]] if COLLAPSED in rows else rows[:0]
        if len(crossed):
            where, name = places(crossed["size"]), "collapsed run, or full fine-tune of its seed"
            traces.append(scatter(name, where, crossed["difference"], mode="markers", marker=COLLAPSED_MARK))
        score, shown = score_label("difference in score", rows), _shown(rows, margin)
        horizontal = rank_axis(rows["size"], "rank r of LoRA; directions k kept of the full update")
        vertical = axis(f"{score}; {BEYOND}", range=shown) if shown else axis(score)
        views.append(View(str(task), traces, {"xaxis": horizontal, "yaxis": vertical}))
    return views


def _shown(rows: pd.DataFrame, margin: float) -> list[float] | None:
    """The part of the axis that is shown at first, where a few cuts would leave nothing to be seen of the rest: LoRA
    and four margins. None where all fits on it."""
    ends = ["mean", "low", "high", "difference"]
    of_lora = rows.loc[rows["side"] == "rank", ends].abs().to_numpy()
    reach = max(4 * abs(margin), float(of_lora.max(initial=0.0)))
    if rows[ends].abs().to_numpy().max() <= FARTHER * reach:
        return None
    better = float(oriented(rows[ends], margin < 0).to_numpy().max())
    return sorted((math.copysign(1.1 * reach, margin), -math.copysign(1.1 * max(better, abs(margin)), margin)))


def _means(name: str, rows: pd.DataFrame, look: dict[str, Any], side: str) -> Trace:
    hover = f"{side} %{{customdata:,}}: %{{y:+.4f}}"
    error = bars([*rows["mean"]], [*rows["low"]], [*rows["high"]])
    settings = look | {"mode": "lines+markers", "error_y": error, "customdata": [int(size) for size in rows["size"]]}
    return scatter(name, places(rows["size"]), rows["mean"], hovertemplate=hover, **settings)


def _dots(rows: pd.DataFrame, look: dict[str, Any], side: str, aside: float) -> Trace:
    """The seeds, small and beside the means."""
    marker = {"color": look["marker"]["color"], "size": 4}
    text = [f"{side} {size:,}, seed {seed}" for size, seed in zip(rows["size"], rows["seed"], strict=True)]
    where = [place + aside for place in places(rows["size"])]
    settings = {"showlegend": False, "opacity": 0.5, "hovertemplate": "%{customdata}: %{y:+.4f}<extra></extra>"}
    return scatter(
        f"seeds, {side}", where, rows["difference"], mode="markers", marker=marker, customdata=text, **settings
    )


def of_cost(table: pd.DataFrame) -> list[View]:
    """A view for the scores of each task, and one for each cost of all tasks, over the rank."""
    views = [_scores(str(task), rows) for task, rows in table.groupby("task", sort=False)]
    horizontal = rank_axis(table["rank"].dropna(), "rank of LoRA")
    for key, name in cost.COSTS.items():
        kind = LOGARITHMIC if key == "trained_body" else {"rangemode": "tozero"}
        views.append(View(name, list(_cost(table, key)), {"xaxis": horizontal, "yaxis": axis(name, **kind)}))
    return views


def _scores(task: str, rows: pd.DataFrame) -> View:
    """LoRA over its rank; arms without a rank are levels, full fine-tuning's with a band, its interval."""
    full, ranks = cost.reference_of(rows), rows["rank"].dropna()
    vertical = axis(score_label(f"score on {split_label('test', rows)}", rows))
    shapes = [band(full["test_low"], full["test_high"])] if math.isfinite(full["test_low"]) else []
    layout = {"xaxis": rank_axis(ranks, "rank of LoRA"), "yaxis": vertical, "shapes": shapes}
    return View(f"score, {task}", list(_scored(rows, str(full["arm"]), ends_of(ranks))), layout)


def _scored(rows: pd.DataFrame, reference: str, ends: tuple[float, float]) -> Iterator[Trace]:
    lora, others = rows[rows["rank"].notna()], rows[rows["rank"].isna() & rows["test"].notna()]
    look, *more = looks(1 + len(others))
    hover = {"customdata": [int(rank) for rank in lora["rank"]], "hovertemplate": "rank %{customdata:,}: %{y:.4f}"}
    error = bars(*([*lora[part]] for part in cost.TEST))
    settings = look | hover | {"mode": "lines+markers", "error_y": error}
    yield scatter(f"{cost.LORA}, {cost.over(rows)}", places(lora["rank"]), lora["test"], **settings)
    for (_, other), own in zip(others.iterrows(), more, strict=True):
        is_full = other["arm"] == reference
        name, line = (cost.of_full(rows), {}) if is_full else (other["arm"], own["line"])
        yield level(name, other["test"], ends, **line)
    crossed = lora[lora[COLLAPSED] > 0] if COLLAPSED in lora else lora[:0]
    if len(crossed):
        where = places(crossed["rank"])
        yield scatter("a run collapsed", where, crossed["test"], mode="markers", marker=COLLAPSED_MARK)
    yield from constant_level(rows, ends)


def _cost(table: pd.DataFrame, key: str) -> Iterator[Trace]:
    """A line for each task; full fine-tuning is a dashed level of its colour."""
    tasks, ends = table.groupby("task", sort=False), ends_of(table["rank"].dropna())
    for (task, rows), look in zip(tasks, looks(len(tasks)), strict=True):
        lora, full = rows[rows["rank"].notna()], cost.reference_of(rows)
        settings = look | {"customdata": [int(rank) for rank in lora["rank"]], "mode": "lines+markers"}
        hover = "rank %{customdata:,}: %{y:,.5g}"
        yield scatter(f"{task}, LoRA", places(lora["rank"]), lora[key], hovertemplate=hover, **settings)
        if math.isfinite(full[key]):
            yield level(f"{task}, {full['arm']}", full[key], ends, color=look["line"]["color"], dash="dash")


def of_arms(table: pd.DataFrame) -> list[View]:
    """A view for each task: every arm's difference from the reference, with the margin."""
    views = []
    for task, rows in table.groupby("task", sort=False):
        others = rows[rows["matches"].notna()]
        error = bars(*([*others[part]] for part in cost.DIFFERENCE))
        settings: dict[str, Any] = looks(1)[0] | {"mode": "markers", "error_y": error}
        traces = [
            scatter("difference", others["arm"], others["difference"], hovertemplate="%{x}: %{y:+.4f}", **settings)
        ]
        margin = float(oriented(-rows["margin"].iloc[0], higher_is_better(rows)))
        lines = [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y} for y in (0.0, margin)]
        dashes = [{"color": INK, "width": 1}, {"color": INK, "width": 1, "dash": "dash"}]
        shapes = [line | {"line": look} for line, look in zip(lines, dashes, strict=True)]
        horizontal = axis("arm", type="category", tickangle=-35)
        vertical = axis(score_label("difference in score", rows))
        views.append(View(str(task), traces, {"xaxis": horizontal, "yaxis": vertical, "shapes": shapes}))
    return views


def of_losses(table: pd.DataFrame) -> list[View]:
    """A view for each task: the difference in log loss over LoRA's rank."""
    views = []
    for task, rows in table.groupby("task", sort=False):
        ends = ends_of(rows["rank"])
        error = bars(*([*rows[f"{losses.LOSS}{end}"]] for end in ("", "_low", "_high")))
        settings: dict[str, Any] = looks(1)[0] | {"mode": "lines+markers", "error_y": error}
        settings |= {"customdata": [int(rank) for rank in rows["rank"]]}
        hover = "rank %{customdata:,}: %{y:+.4f}"
        loss = scatter("log loss", places(rows["rank"]), rows[losses.LOSS], hovertemplate=hover, **settings)
        traces = [level("as good as the reference", 0.0, ends), loss]
        margin = rows["loss_margin"].iloc[0]
        if margin is not None and math.isfinite(margin):
            traces.append(level(f"the margin, {margin:g}", float(margin), ends, dash="dash"))
        layout = {"xaxis": rank_axis(rows["rank"], "rank of LoRA"), "yaxis": axis("difference in log loss, nats")}
        views.append(View(str(task), traces, layout))
    return views


def of_spectral(table: pd.DataFrame) -> list[View]:
    """A view for each task and way of grouping: spectral ranks as shares of what noise has."""
    views = []
    for (task, by), rows in table.groupby(["task", "by"], sort=False):
        traces = []
        groups = [plain(group) for group in dict.fromkeys(rows["group"])]
        for measure, look in zip(spectral.SHOWN, looks(len(spectral.SHOWN)), strict=True):
            of = rows[rows["measure"] == measure]
            share, low, high = ([*(of[key] / of["null"])] for key in ("mean", "low", "high"))
            hover = [f"{mean:.4g}, noise {null:.4g}" for mean, null in zip(of["mean"], of["null"], strict=True)]
            settings: dict[str, Any] = look | {"customdata": hover, "error_y": bars(share, low, high)}
            settings |= {"mode": "markers", "hovertemplate": "%{x}: share %{y:.3f} (%{customdata})"}
            traces.append(scatter(measure.replace("_", " "), map(plain, of["group"]), share, **settings))
        horizontal = axis("type of matrix" if by == "module" else "layer", type="category", tickangle=-35)
        horizontal |= {"categoryorder": "array", "categoryarray": groups}
        one = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": {"color": INK, "width": 1}}
        vertical = axis("share of what noise has", rangemode="tozero")
        views.append(View(f"{task}, by {by}", traces, {"xaxis": horizontal, "yaxis": vertical, "shapes": [one]}))
    return views


def of_functional(table: pd.DataFrame) -> list[View]:
    """A view for each task: what is left of the score when the full update is changed, mean and range of the seeds."""
    views = []
    for task, rows in table.groupby("task", sort=False):
        shown = [part for part in functional.PARTS if part in set(rows["part"])]
        traces = []
        for part, look in zip(shown, looks(len(shown))[::-1], strict=True):
            scores = rows[rows["part"] == part].groupby("k")["score"]
            means, sizes = scores.mean(), [int(k) for k in scores.mean().index]
            settings: dict[str, Any] = look | {"customdata": sizes, "mode": "lines+markers"}
            low, high = functional.ends_of(rows[rows["part"] == part])
            settings |= {"error_y": bars([*means], [*low], [*high])}
            hover = "k = %{customdata:,}: %{y:.4f}"
            traces.append(scatter(functional.PARTS[part][0], places(sizes), means, hovertemplate=hover, **settings))
        noise = rows[rows["part"] == functional.NOISE]["score"]
        if len(noise):
            traces.append(
                level("Gaussian noise of its norm", noise.mean(), ends_of(rows["k"]), color=QUIET, dash="dot")
            )
        traces += constant_level(rows, ends_of(rows["k"]))
        score = score_label(f"score on {split_label('validation', rows)}", rows)
        layout = {"xaxis": rank_axis(rows[rows["part"] == "cut"]["k"], "k"), "yaxis": axis(score)}
        views.append(View(str(task), traces, layout))
    return views


def of_modules(table: pd.DataFrame) -> list[View]:
    """A view for each type of matrix that is cut alone: the difference in score, 95 % intervals over the seeds."""
    views = []
    for name in update.modules(table):
        tasks = table.groupby("task", sort=False)
        traces = [level("the whole update", 0.0, ends_of(table["k"]))]
        for (task, rows), look in zip(tasks, looks(len(tasks)), strict=True):
            cut = update.cut_intervals(rows, "cut", name)
            intervals = list(cut.values())
            error = bars(*([getattr(one, part) for one in intervals] for part in ("mean", "low", "high")))
            settings: dict[str, Any] = look | {"customdata": list(cut), "error_y": error, "mode": "lines+markers"}
            hover = "k = %{customdata:,}: %{y:+.4f}"
            means = [one.mean for one in intervals]
            traces.append(scatter(score_label(str(task), rows), places(cut), means, hovertemplate=hover, **settings))
        vertical = axis(f"difference in score on {split_label('validation', table)}")
        views.append(View(name, traces, {"xaxis": rank_axis(table["k"], "k"), "yaxis": vertical}))
    return views


def of_shared(table: pd.DataFrame) -> list[View]:
    """A view for each space: φ(k, k) of pairs of full updates, beside what random subspaces have."""
    views = []
    for side, of_side in table.groupby("side", sort=False):
        kinds, traces = of_side.groupby("pair", sort=False), []
        for (kind, rows), look in zip(kinds, looks(len(kinds)), strict=True):
            error = bars(*([*rows[part]] for part in ("similarity", "low", "high")))
            settings: dict[str, Any] = look | {"customdata": [int(k) for k in rows["k"]], "error_y": error}
            settings |= {"mode": "lines+markers", "hovertemplate": "k = %{customdata:,}: φ = %{y:.4f}"}
            traces.append(scatter(kind, places(rows["k"]), rows["similarity"], **settings))
        chance = of_side[of_side["pair"] == of_side["pair"].iloc[0]]
        line = {"color": QUIET, "dash": "dash"}
        traces.append(scatter("random subspaces", places(chance["k"]), chance["random"], mode="lines", line=line))
        vertical = axis("φ(k, k)", rangemode="tozero")
        views.append(View(f"{side} space", traces, {"xaxis": rank_axis(of_side["k"], "k"), "yaxis": vertical}))
    return views


VIEWS: dict[str, Callable[[pd.DataFrame], list[View]]] = {
    "answer": of_answer,
    "cost": of_cost,
    "arms": of_arms,
    "losses": of_losses,
    "spectral": of_spectral,
    "functional": of_functional,
    "modules": of_modules,
    "shared": of_shared,
    "trials": of_trials,
}
"""By the name of the figure. One that is not here is shown as the picture that matplotlib draws of it."""
