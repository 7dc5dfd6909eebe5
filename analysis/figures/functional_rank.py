"""The answer figure: validation score of the full update cut to its top k directions, and of LoRA at rank k.

How low is the rank of the update that fine-tuning makes, and what rank does LoRA need to match it? The cut model
is W0 + [ΔW]_k in every measured matrix, the remainder W0 + ΔW − [ΔW]_k; All other parameters stay as trained, so k = 0
shows the effect of these alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorax_lab.record.direction import oriented

from .. import constant, style
from ..groups import CannotDraw, Group
from ..scores import (
    BEFORE,
    CROSSED,
    SCORED,
    directed,
    higher_is_better,
    intervals,
    mark_collapsed,
    of_examples,
    score_label,
    scores,
    split_label,
    standard_error,
    with_baselines,
    without_interval,
)
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
UNTRAINED = f"{BEFORE}untrained"


def table(group: Group) -> pd.DataFrame:
    """One row per seed, part and k: `cut` and `remainder` of the full update, and `trained` at rank k.

    Columns: model, task, settings, metric, examples, those of `group.columns`, part, k, score.

    Raises:
        CannotDraw: there is no completed full fine-tune.
    """
    full = group.full
    cuts = group.truncation[group.truncation["run_id"].isin(full["run_id"])] if len(group.truncation) else full[:0]
    if cuts.empty:
        raise CannotDraw(f"there is no completed full fine-tune; type {group.command(f'method={REFERENCE}')}")
    cuts = cuts[cuts["part"].isin(PARTS)]
    if "module" in cuts:
        cuts = cuts[cuts["module"].isna()]
    cuts = cuts[["run_id", "part", "k"]].assign(score=cuts[group.metric])
    cuts = group.runs[["run_id", *group.columns]].merge(cuts, on="run_id")
    trained = scores(group, "validation").dropna(subset="rank")
    trained = trained.assign(part="trained", k=trained["rank"].astype(int))
    columns = [*group.columns, "part", "k", "score"]
    rows = pd.concat([part.reindex(columns=columns) for part in (cuts, trained) if len(part)], ignore_index=True)
    rows = rows.astype({"rank": "Int64"})
    examples = int(full["inputs.examples.validation"].iloc[0])
    same = [*group.title, "metric", "examples"]
    rows = rows.assign(**group.title, metric=group.metric, examples=examples)[[*same, *columns]]
    rows = rows.assign(**{SCORED: split}) if (split := group.scored_on("")) else rows
    rows = constant.with_constant(rows, group, "validation")
    return directed(_with_gain(rows, group), group.higher_is_better)


def _with_gain(rows: pd.DataFrame, group: Group) -> pd.DataFrame:
    """The rows with what full fine-tuning gained over the model as it was, where `_reaches` needs it."""
    runs = with_baselines(scores(group, "test"), group)
    if group.higher_is_better or UNTRAINED not in runs:
        return rows
    full = runs[runs["method"] == REFERENCE]
    return rows.assign(**{GAINED: float((full[UNTRAINED] - full["score"]).mean())})


def finding(table: pd.DataFrame) -> str:
    """What the figure shows, in a sentence or two, from the numbers of its table.

    A rank matches where its mean score, and that of every larger one, is worse than the whole update's by at most one
    standard error; where the metric has none, by at most 1 %, or 1 % of what training gained where lower is better. No
    rank is told where that is not known, and by a full fine-tune that collapsed.
    """
    if COLLAPSED in table and table.loc[table["part"] == "cut", COLLAPSED].all():
        return "every full fine-tune collapsed, so its cuts say nothing of the rank"
    cut = _means(table, "cut")
    full = max(cut)
    score, error = _whole(table)
    close = "within one standard error of"
    if math.isnan(error):
        higher = higher_is_better(table)
        close = f"within {CLOSE:.0%} of" if higher else f"at most {CLOSE:.0%} of training's gain short of"
    reaches = _reaches(table)
    if reaches is None:
        return f"the whole update reaches {score:.3f}"
    k = _from_where(cut, reaches)
    if k is None or k == full:
        first = f"only the whole update reaches its {score:.3f}; no cut of its {full:,} directions is {close} it"
    else:
        part = f"the top {k:,} of each matrix's {full:,} directions reach" if k else "without any update it reaches"
        first = f"{part} {cut[k]:.3f}, {close} the whole update's {score:.3f}"
    return f"{first}; {_of_trained(table, reaches)}" if (table["part"] == "trained").any() else first


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Lines for cut and remainder over k, diamonds for trained ranks, and the whole update's score."""
    figure = style.canvas(style.PAGE, 3.9)
    axes = figure.add_subplot()
    first = table.iloc[0]
    _draw_whole(axes, table)
    for (part, (label, look)), colour in zip(PARTS.items(), style.distinct(2), strict=True):
        _draw_part(axes, table[table["part"] == part], label, {"color": colour, **look})
    trained = table[table["part"] == "trained"]
    _draw_trained(axes, trained)
    style.rank_axis(axes, sorted({int(k) for k in table["k"]}))
    axes.set(xlabel="k: directions of the update kept or removed; rank trained")
    constant.draw_line(axes, table, axes)
    one = "\n95 % interval over the examples" if not math.isnan(_whole(table)[1]) else ""
    several = "\nmean and range of seeds" if table["seed"].max() > table["seed"].min() else one
    axes.set(ylabel=score_label(f"{split_label('validation', table)} {first['metric']}", table) + several)
    heading = f"{first['model']} on {first['task']}: {finding(table)}{shared(table)}{_whose_update(table)}"
    style.title(figure, heading + without_interval(table) + collapsed(table, CROSSED))
    style.legend(figure, axes, columns=2)
    return figure


def _whose_update(table: pd.DataFrame) -> str:
    """Names the full fine-tune that is cut, if there are several."""
    cuts = table[table["part"] == "cut"]
    chosen = best_of(cuts)
    return f"\nthe update is that of {cuts['arm'].iloc[0]}{chosen}" if chosen else ""


def _draw_whole(axes: Axes, table: pd.DataFrame) -> None:
    score, error = _whole(table)
    label = "whole update: W₀ + ΔW"
    if not math.isnan(error):
        axes.axhspan(score - error, score + error, color="0.9", linewidth=0, zorder=0)
        label += f" ± 1 standard error, {table['examples'].iloc[0]:,} examples"
    label += of_collapsed(table[table["part"] == "cut"])
    axes.axhline(score, color="0.25", linewidth=0.8, label=label)


def _draw_part(axes: Axes, rows: pd.DataFrame, label: str, look: dict[str, Any]) -> None:
    """A line, and a band over its seeds or, of one seed, over the examples."""
    by_k = rows.groupby("k")
    low, high, means = by_k["score"].min(), by_k["score"].max(), by_k["score"].mean()
    if len(set(rows["seed"])) == 1:
        first = rows.iloc[0]
        ends = means.map(lambda score: of_examples(score, first["metric"], first["examples"]))
        low, high = (ends.str[side].fillna(means) for side in (0, 1))
    axes.plot(means, label=label, **look)
    axes.fill_between(low.index, low, high, color=look["color"], alpha=0.2, linewidth=0)


def _draw_trained(axes: Axes, rows: pd.DataFrame) -> None:
    look: dict[str, Any] = {"linestyle": "", "markersize": 6.5, "color": "black", "markerfacecolor": "white"}
    variants = list(rows.groupby("variant", sort=False))
    for number, ((variant, part), marker) in enumerate(zip(variants, cycle("DPX^v<>hp*"), strict=False)):
        means, _ = intervals(part, "k")
        shift = style.spread_out(number, len(variants), 2 * style.BESIDE)
        look |= {"marker": marker, "zorder": 5, "label": f"{variant}, trained at rank k"}
        style.bars(axes, means.index, means["mean"], means["low"], means["high"], shift=shift, **look)
        mark_collapsed(axes, part, "k", shift)


def _of_trained(table: pd.DataFrame, reaches: Callable[[float], bool]) -> str:
    trained = _means(table, "trained")
    names = list(dict.fromkeys(table[table["part"] == "trained"]["variant"]))
    who = names[0] if len(names) == 1 else "the best variant trained at each rank"
    rank = _from_where(trained, reaches)
    if rank is None:
        return f"{who} does not up to rank {max(trained):,}"
    lowest = ", the lowest trained" if rank == min(trained) else ""
    return f"{who} does from rank {rank:,}{lowest}"


def _means(table: pd.DataFrame, part: str) -> dict[int, float]:
    """The mean score over seeds by k; of what was trained that of the best variant."""
    rows, higher = table[table["part"] == part], higher_is_better(table)
    means = oriented(rows.groupby(["k", "variant"])["score"].mean(), higher)
    best = oriented(means.groupby("k").max(), higher)
    return dict(zip(best.index.astype(int).tolist(), best.tolist(), strict=True))


def _whole(table: pd.DataFrame) -> tuple[float, float]:
    """The mean score of the whole update, and its standard error."""
    cut, first = _means(table, "cut"), table.iloc[0]
    score = cut[max(cut)]
    return score, standard_error(score, first["metric"], first["examples"])


def _reaches(table: pd.DataFrame) -> Callable[[float], bool] | None:
    """Whether a score matches the whole update's; None where lower is better and it is not known that training gained
    anything."""
    (score, error), higher = _whole(table), higher_is_better(table)
    gained = abs(score) if higher else float(table[GAINED].iloc[0]) if GAINED in table else math.nan
    if math.isnan(error) and not gained > 0:
        return None
    allowed = CLOSE * gained if math.isnan(error) else error
    floor = oriented(score, higher) - allowed
    return lambda mean: oriented(mean, higher) >= floor


def _from_where(means: dict[int, float], reaches: Callable[[float], bool]) -> int | None:
    """The smallest k such that its score and those of all larger k match; None where the largest k does not."""
    short = [k for k, score in means.items() if not reaches(score)]
    reached = [k for k in means if k > max(short, default=-1)]
    return min(reached, default=None)
