"""What each arm scores, and r* and k*, over the number of training examples."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ... import constant, style
from ...constant import CONSTANT, IS
from ...scores import score_label, split_label
from .. import comparison, update
from ..paper import theirs
from ..records import Records, every, models_of

TITLE = "scores, r* and k* over the number of training examples (the LoRA paper's Table 16 has the scores)"
R_STAR, K_STAR = "r*", "k*"
STARS = {R_STAR: "r*, LoRA's rank", K_STAR: "k*, directions of the full update"}
ARROWS = "↑ at least this; ⇑ above the largest tried"
APART = 3.0
THEIRS = "GPT-3, MNLI"
"""The column of the paper's own accuracies, in per cent."""
OF_THE_PAPER = "paper_data_sizes"
"""The study that has it."""
COLUMNS = ("task", "examples", "steps", "what", "rank", "value", "low", "high", "tried", "margin", "seeds")


def table(records: Records) -> pd.DataFrame | None:
    """One row per condition and arm with its score on test, and one per condition and `r*` or `k*`; None where two
    conditions have as many training examples, or no full update was cut.

    Columns: task, examples (of training), steps (of training), what (the arm, `r*` or `k*`), rank (of LoRA), value (NaN
    where none is found), low, high (the 95 % interval: of a score over seeds, of a star over seeds and test examples;
    NaN where it is open), tried (the largest size), margin, seeds, model; of the study that asks as the paper did, its
    accuracies.
    """
    lines = {task: records.lines_in(task, "final") for task in records.conditions}
    done = {task: [line for line in lines[task] if line["status"] == "completed"] for task in lines}
    counts = {task: {(x["inputs"]["examples"]["train"], x["time"]["steps"]) for x in done[task]} for task in done}
    sizes = {task: next(iter(pairs)) for task, pairs in counts.items() if len(pairs) == 1}
    if len({examples for examples, _ in sizes.values()}) < max(2, len(lines)) or not update.has_cuts(records):
        return None
    arms = every(records, comparison.table).rename(columns={"test": "value", "test_low": "low", "test_high": "high"})
    stars: list[dict[str, Any]] = []
    for task in records.conditions:
        for name, star in ((R_STAR, comparison.enough(records, task)), (K_STAR, update.functional_rank(records, task))):
            if star:
                stars.append({"task": task, "what": name} | vars(star))
    numbers = dict.fromkeys(("value", "low", "high", "tried"), float)
    star_rows = pd.DataFrame(stars).rename(columns={"size": "value"}).astype(numbers)
    rows = pd.concat([arms.assign(what=arms["arm"]), star_rows], ignore_index=True)
    rows = rows.assign(margin=records.protocol.margin)
    rows[["examples", "steps"]] = [sizes[task] for task in rows["task"]]
    if records.name == OF_THE_PAPER:
        pairs = zip(rows["what"], rows["examples"], strict=True)
        rows[THEIRS] = [theirs(records.name).get(arm, {}).get(str(examples), math.nan) for arm, examples in pairs]
    columns = [column for column in (*COLUMNS, THEIRS) if column in rows]
    ordered = rows[columns].sort_values("examples", kind="stable", ignore_index=True)
    return constant.with_constants(records, ordered, comparison.SPLIT)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Left the score of each arm, right r* and k*, both over the number of training examples."""
    figure = style.canvas(style.PAGE, 3.3)
    left, right = figure.subplots(1, 2)
    is_star = table["what"].isin(STARS)
    _scores(left, table[~is_star])
    _ranks(right, table[is_star])
    for axes in (left, right):
        style.rank_axis(axes, sorted({int(count) for count in table["examples"]}))
        axes.set_xlabel("training examples")
    left.set_ylabel(score_label(f"score on {split_label('test', table)}", table, "\n"))
    right.set_ylabel("directions")
    text = f"{models_of(table)}: scores, and the smallest rank and cut that are surely within "
    text += f"{table['margin'].iloc[0]:g}, over the number of training examples. Training took {_steps(table)} steps"
    count = int(table["seeds"].max())
    over = f"95 % intervals; those of scores are over {count} seeds alone" if count > 1 else "One seed, no interval"
    return style.finish(figure, f"{text}. {over}", left, columns=3)


def _steps(table: pd.DataFrame) -> str:
    """The steps of training in words, in the order of the sizes."""
    by_size = dict(zip(table["examples"], table["steps"], strict=True))
    counts = [f"{steps:,}" for _, steps in sorted(by_size.items())]
    return counts[0] if len(set(counts)) == 1 else ", ".join(counts)


def _scores(axes: Axes, rows: pd.DataFrame) -> None:
    ranks = sorted({int(rank) for rank in rows["rank"].dropna()})
    by_rank = dict(zip(ranks, style.colours(len(ranks)), strict=True))
    for arm, look, shift in style.lines(list(dict.fromkeys(rows["what"])), APART):
        points = rows[rows["what"] == arm]
        rank = points["rank"].iloc[0]
        look |= {"color": "black" if pd.isna(rank) else by_rank[int(rank)], "markersize": 3.5, "linewidth": 1}
        ends = points["value"], points["low"], points["high"]
        style.bars(axes, points["examples"], *ends, shift=shift, elinewidth=0.7, label=arm, **look)
    if CONSTANT in rows and len(points := rows.dropna(subset=[CONSTANT]).drop_duplicates("examples")):
        axes.plot(points["examples"], points[CONSTANT], label=str(points[IS].iloc[0]), **constant.LOOK)


def _ranks(axes: Axes, rows: pd.DataFrame) -> None:
    """r* and k* with their intervals. A line is broken where none was found: an arrow stands at the least that the rank
    may be, a double one above the largest tried where even that fell short."""
    for name, look, shift in style.lines(list(STARS), APART):
        points = rows[rows["what"] == name]
        at, tried = (points[key].to_numpy(float) for key in ("examples", "tried"))
        mean, low, high = (np.maximum(points[key].to_numpy(float), style.LEAST) for key in ("value", "low", "high"))
        ends = [np.where(np.isnan(end), mean, end) for end in (low, high)]
        look |= {"markersize": 4, "capsize": 1.5, "elinewidth": 0.7, "label": STARS[name]}
        style.bars(axes, at, mean, *ends, shift=shift, **look)
        is_open, is_above = np.isnan(mean) & ~np.isnan(low), np.isnan(mean) & np.isnan(low)
        arrows: dict[str, Any] = {"color": look["color"], "linestyle": "", "markersize": 7}
        arrows["transform"] = style.shifted(axes, shift)
        axes.plot(at[is_open], low[is_open], marker=r"$\uparrow$", **arrows)
        axes.plot(at[is_above], style.ABOVE * tried[is_above], marker=r"$\Uparrow$", **arrows)
    style.estimate_axis(axes, float(rows[["value", "high", "low", "tried"]].max().max()))
    axes.set_title(ARROWS)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
