"""The answer figure: validation score of the full update cut to its top k directions, and of LoRA at rank k.

How low is the rank of the update that fine-tuning makes, and what rank does LoRA need to match it? The cut model
is W0 + [ΔW]_k in every measured matrix, the remainder W0 + ΔW − [ΔW]_k; All other parameters stay as trained, so k = 0
shows the effect of these alone.
"""

import math
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorax_lab.record.folder import HEAD_ON_VALIDATION

from .. import constant, scores, style
from ..groups import CannotDraw, Group
from ..variants import REFERENCE, best_of, collapsed, of_collapsed, shared

TITLE = "validation score of the full update cut at k, and of LoRA trained at rank k: the answer"
PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "cut": ("cut: W₀ + [ΔW]ₖ", {"marker": "o", "linestyle": "-"}),
    "remainder": ("remainder: W₀ + ΔW − [ΔW]ₖ", {"marker": "s", "linestyle": "--", "fillstyle": "none"}),
}
ZERO = "head_alone"
"""The column of what a head that was fitted alone scores on validation, by seed. A table has it where that is known."""
ANSWER = "answer"
"""The column of what all runs of the group say, on test (`record.answer`)."""
WHOLE = "whole update: W₀ + ΔW"


def table(group: Group) -> pd.DataFrame:
    """One row per seed, part and k: `cut` and `remainder` of the full update, and `trained` at rank k. A search scores
    other cuts of each seed.

    Columns: model, task, settings, metric, answer, examples, those of `group.columns`, part, k, score.

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
    same: dict[str, Any] = {**group.title, "metric": group.metric, ANSWER: group.answer}
    same["examples"] = int(full["inputs.examples.validation"].iloc[0])
    rows = rows.astype({"rank": "Int64"}).assign(**same)[[*same, *columns]]
    rows = rows.assign(**{scores.SCORED: split}) if (split := group.scored_on("")) else rows
    rows = constant.with_constant(rows, group, "validation")
    column = f"baselines.{HEAD_ON_VALIDATION}/{group.metric}"
    if column in full and full[column].notna().all():
        rows[ZERO] = rows["seed"].map(full.set_index("seed")[column])
    return scores.directed(rows, group.higher_is_better)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Lines for cut and remainder over k, of each k that every seed has, diamonds for trained ranks, and the whole
    update's score."""
    figure = style.canvas(style.PAGE, 3.9)
    axes, first, trained = figure.add_subplot(), table.iloc[0], table[table["part"] == "trained"]
    update = table[table["part"].isin(PARTS)]
    seeds = update.groupby(["part", "k"])["seed"].transform("nunique")
    update = update[seeds == update["seed"].nunique()]  # a search scores other cuts of each seed
    cuts = update[update["part"] == "cut"]
    all_directions = cuts[cuts["k"] == cuts["k"].max()]
    axes.axhline(all_directions["score"].mean(), color="0.25", linewidth=0.8, label=WHOLE + of_collapsed(cuts))
    if ZERO in table:
        axes.axhline(all_directions[ZERO].mean(), color="0.5", linewidth=0.8, linestyle=":", label="head alone, fitted")
    for (part, (label, look)), colour in zip(PARTS.items(), style.distinct(2), strict=True):
        if (update["part"] == part).any():
            _draw_part(axes, update[update["part"] == part], label, {"color": colour, **look})
    _draw_trained(axes, trained)
    style.rank_axis(axes, sorted({*update["k"].astype(int), *trained["k"].astype(int)}))
    axes.set(xlabel="k: directions of the update kept or removed; rank trained")
    constant.draw_line(axes, table, axes)
    has_error = not math.isnan(scores.standard_error(0.5, first["metric"], first["examples"]))
    one = "\n95 % interval over the examples" if has_error else ""
    over = "\nmean and range of seeds" if len(set(table["seed"])) > 1 else one
    axes.set(ylabel=scores.score_label(f"{scores.split_label('validation', table)} {first['metric']}", table) + over)
    heading = f"{first['model']} on {first['task']}: {first[ANSWER]}{shared(table)}"
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
    variants = style.lines(list(rows.groupby("variant", sort=False)))
    for ((variant, part), _, shift), marker in zip(variants, cycle("DPX^v<>hp*"), strict=False):
        means, _ = scores.intervals(part, "k")
        look |= {"marker": marker, "zorder": 5, "label": f"{variant}, trained at rank k"}
        style.bars(axes, means.index, means["mean"], means["low"], means["high"], shift=shift, **look)
        scores.mark_collapsed(axes, part, "k", shift)
