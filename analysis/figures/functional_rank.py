"""The answer figure: validation score of the full update cut to its top k directions, and of LoRA at rank k.

How low is the rank of the update that fine-tuning makes, and what rank does LoRA need to match it? The cut model
is W0 + [ΔW]_k in every measured matrix, the remainder W0 + ΔW − [ΔW]_k; All other parameters stay as trained, so k = 0
shows the effect of these alone.
"""

from __future__ import annotations

import math
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorax_lab.record.direction import oriented

from .. import constant, scores, style
from ..groups import CannotDraw, Group
from ..variants import COLLAPSED, REFERENCE, best_of, collapsed, of_collapsed, shared

TITLE = "validation score of the full update cut at k, and of LoRA trained at rank k: the answer"
PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "cut": ("cut: W₀ + [ΔW]ₖ", {"marker": "o", "linestyle": "-"}),
    "remainder": ("remainder: W₀ + ΔW − [ΔW]ₖ", {"marker": "s", "linestyle": "--", "fillstyle": "none"}),
}
CLOSE = 0.01
"""If the metric has no standard error, a score that is worse than the whole update's by at most this share of it
matches it. Where lower is better, it is a share of what training gained: of a log loss, all may lie within 1 %."""
GAINED = "gained"
"""The column of what full fine-tuning gained on test. A table has it only where lower is better and that is known."""
UNTRAINED = f"{scores.BEFORE}untrained"


def table(group: Group) -> pd.DataFrame:
    """One row per seed, part and k: `cut` and `remainder` of the full update, and `trained` at rank k.

    Columns: model, task, settings, metric, examples, those of `group.columns`, part, k, score.

    Raises:
        CannotDraw: there is no completed full fine-tune.
    """
    full, cuts = group.full, group.truncation
    if full.empty or cuts.empty:
        raise CannotDraw(f"there is no completed full fine-tune; type {group.command(f'method={REFERENCE}')}")
    cuts = cuts[cuts["part"].isin(PARTS) & (cuts["module"].isna() if "module" in cuts else True)]
    cuts = cuts[["run_id", "part", "k"]].assign(score=cuts[group.metric])
    cuts = full[["run_id", *group.columns]].merge(cuts, on="run_id")
    trained = scores.scores(group, "validation").dropna(subset="rank")
    trained = trained.assign(part="trained", k=trained["rank"].astype(int))
    columns = [*group.columns, "part", "k", "score"]
    rows = pd.concat([part[columns] for part in (cuts, trained) if len(part)], ignore_index=True)
    same: dict[str, Any] = {**group.title, "metric": group.metric}
    same["examples"] = int(full["inputs.examples.validation"].iloc[0])
    rows = rows.astype({"rank": "Int64"}).assign(**same)[[*same, *columns]]
    rows = rows.assign(**{scores.SCORED: split}) if (split := group.scored_on("")) else rows
    rows = constant.with_constant(rows, group, "validation")
    if not group.higher_is_better:
        runs = scores.with_baselines(scores.scores(group, "test"), group)
        runs = runs[runs["method"] == REFERENCE]
        if UNTRAINED in runs:
            rows = rows.assign(**{GAINED: float((runs[UNTRAINED] - runs["score"]).mean())})
    return scores.directed(rows, group.higher_is_better)


def finding(table: pd.DataFrame) -> str:
    """What the figure shows, in a sentence or two, from the numbers of its table.

    A rank matches where its mean score, and that of every larger one, is worse than the whole update's by at most one
    standard error; where the metric has none, by at most 1 %, or 1 % of what training gained where lower is better. No
    rank is told where that is not known, and by a full fine-tune that collapsed.
    """
    cuts = table[table["part"] == "cut"]
    if COLLAPSED in cuts and cuts[COLLAPSED].all():
        return "every full fine-tune collapsed, so its cuts say nothing of the rank"
    means, (whole_score, error) = cuts.groupby("k")["score"].mean(), _whole(table)
    allowed, full = _allowed(table), int(means.index.max())
    close = "within one standard error of"
    if math.isnan(error):
        of_gain = f"at most {CLOSE:.0%} of training's gain short of"
        close = f"within {CLOSE:.0%} of" if scores.higher_is_better(table) else of_gain
    if math.isnan(allowed):
        return f"the whole update reaches {whole_score:.3f}"
    k = _from_where(table, "cut", allowed)
    if k is None or k == full:
        first = f"only the whole update reaches its {whole_score:.3f}; no cut of its {full:,} directions is {close} it"
    else:
        part = f"the top {k:,} of each matrix's {full:,} directions reach" if k else "without any update it reaches"
        first = f"{part} {means[k]:.3f}, {close} the whole update's {whole_score:.3f}"
    trained = table[table["part"] == "trained"]
    return f"{first}; {_of_trained(trained, _from_where(table, 'trained', allowed))}" if len(trained) else first


def _of_trained(trained: pd.DataFrame, rank: int | None) -> str:
    names = list(dict.fromkeys(trained["variant"]))
    who = names[0] if len(names) == 1 else "the best variant trained at each rank"
    if rank is None:
        return f"{who} does not up to rank {trained['k'].max():,}"
    return f"{who} does from rank {rank:,}{', the lowest trained' if rank == trained['k'].min() else ''}"


def _whole(table: pd.DataFrame) -> tuple[float, float]:
    """The mean score of the whole update, and its standard error."""
    means, first = table[table["part"] == "cut"].groupby("k")["score"].mean(), table.iloc[0]
    score = float(means.iloc[-1])
    return score, scores.standard_error(score, first["metric"], first["examples"])


def _allowed(table: pd.DataFrame) -> float:
    """How much worse than the whole update's a score is that matches it; NaN where lower is better and it is not known
    that training gained anything."""
    score, error = _whole(table)
    if not math.isnan(error):
        return error
    gained = float(table[GAINED].iloc[0]) if GAINED in table else math.nan
    gained = abs(score) if scores.higher_is_better(table) else gained
    return CLOSE * gained if gained > 0 else math.nan


def _from_where(table: pd.DataFrame, part: str, allowed: float) -> int | None:
    """The smallest k of which the mean score, of the best variant, and those of all larger k match the whole update's;
    None where the largest k does not."""
    higher = scores.higher_is_better(table)
    means = table[table["part"] == part].groupby(["k", "variant"])["score"].mean()
    gains = oriented(means, higher).groupby("k").max()
    short = gains.index[gains < oriented(_whole(table)[0], higher) - allowed]
    reached = gains.index[gains.index > max(short, default=-1)]
    return int(reached.min()) if len(reached) else None


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Lines for cut and remainder over k, diamonds for trained ranks, and the whole update's score."""
    figure = style.canvas(style.PAGE, 3.9)
    axes, first, cuts = figure.add_subplot(), table.iloc[0], table[table["part"] == "cut"]
    score, error = _whole(table)
    label = "whole update: W₀ + ΔW"
    if not math.isnan(error):
        axes.axhspan(score - error, score + error, color="0.9", linewidth=0, zorder=0)
        label += f" ± 1 standard error, {first['examples']:,} examples"
    axes.axhline(score, color="0.25", linewidth=0.8, label=label + of_collapsed(cuts))
    for (part, (label, look)), colour in zip(PARTS.items(), style.distinct(2), strict=True):
        _draw_part(axes, table[table["part"] == part], label, {"color": colour, **look})
    _draw_trained(axes, table[table["part"] == "trained"])
    style.rank_axis(axes, sorted({int(k) for k in table["k"]}))
    axes.set(xlabel="k: directions of the update kept or removed; rank trained")
    constant.draw_line(axes, table, axes)
    one = "" if math.isnan(error) else "\n95 % interval over the examples"
    over = "\nmean and range of seeds" if len(set(table["seed"])) > 1 else one
    axes.set(ylabel=scores.score_label(f"{scores.split_label('validation', table)} {first['metric']}", table) + over)
    heading = f"{first['model']} on {first['task']}: {finding(table)}{shared(table)}"
    if chosen := best_of(cuts):
        heading += f"\nthe update is that of {cuts['arm'].iloc[0]}{chosen}"
    heading += scores.without_interval(table) + collapsed(table, scores.CROSSED)
    return style.finish(figure, heading, axes, columns=2)


def _draw_part(axes: Axes, rows: pd.DataFrame, label: str, look: dict[str, Any]) -> None:
    """A line, and a band over its seeds or, of one seed, over the examples."""
    by_k = rows.groupby("k")
    low, high, means = by_k["score"].min(), by_k["score"].max(), by_k["score"].mean()
    if len(set(rows["seed"])) == 1:
        first = rows.iloc[0]
        ends = means.map(lambda score: scores.of_examples(score, first["metric"], first["examples"]))
        low, high = (ends.str[side].fillna(means) for side in (0, 1))
    axes.plot(means, label=label, **look)
    axes.fill_between(low.index, low, high, color=look["color"], alpha=0.2, linewidth=0)


def _draw_trained(axes: Axes, rows: pd.DataFrame) -> None:
    look: dict[str, Any] = {"linestyle": "", "markersize": 6.5, "color": "black", "markerfacecolor": "white"}
    variants = list(rows.groupby("variant", sort=False))
    for number, ((variant, part), marker) in enumerate(zip(variants, cycle("DPX^v<>hp*"), strict=False)):
        means, _ = scores.intervals(part, "k")
        shift = style.spread_out(number, len(variants), 2 * style.BESIDE)
        look |= {"marker": marker, "zorder": 5, "label": f"{variant}, trained at rank k"}
        style.bars(axes, means.index, means["mean"], means["low"], means["high"], shift=shift, **look)
        scores.mark_collapsed(axes, part, "k", shift)
