"""What a rank costs, and what it scores: parameters, memory, seconds."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from ... import constant, style
from ...scores import cross, score_label, short, split_label
from ...variants import COLLAPSED
from .. import comparison
from ..records import Records, every, models_of
from ..words import listed

TITLE = "what each arm scores, and what a rank costs in parameters, memory and time, the head not counted"
COSTS = {
    "trained_body": "trained parameters",
    "peak_mib": "peak memory of a step",
    "train_seconds": "seconds of training",
}
"""Columns of the costs that are shares of full fine-tuning's."""
ACROSS = 3
ABOVE = 1.08
"""How far above the largest share its axis ends, so that no mark is cut off."""
REACH, LEAST = 1.0, 0.01
"""A level, such as one answer's for every input, is drawn up to so many times the height of LoRA's and full
fine-tuning's scores away from them, and no height is less than this; one that is farther stands in the heading."""
WIDTH = 36
"""Letters of a line of a heading."""
SHORT = 18
"""Letters of a task's name up to which four stand side by side in the legend; of longer ones three do."""
SECONDS = "Runs may have shared a machine, so that seconds tell orders of magnitude, not differences"


def table(records: Records) -> pd.DataFrame | None:
    """`comparison.table` of every task, with what one answer for every input scores on test; None where no arms differ
    in their rank alone."""
    if not records.protocol.ranked():
        return None
    rows, ranked = every(records, comparison.table), [arm.name for arm in records.protocol.ranked()]
    rows["rank"] = rows["rank"].where(rows["arm"].isin(ranked))  # another method, or other matrices, are no line
    return constant.with_constants(records, rows, comparison.SPLIT)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Above, costs over the rank as shares of full fine-tuning's, a line per task; below, a panel of scores per task,
    on a scale of its own."""
    by_task = dict(iter(table.groupby("task", sort=False)))
    headings = [_heading(str(task), rows) for task, rows in by_task.items()]
    down, lines = math.ceil(len(by_task) / ACROSS), 1 + max(text.count("\n") for text in headings)
    high, low = 1.9 + 0.15 * math.ceil(len(by_task) / 3), (1.4 + 0.15 * lines) * down
    figure = style.canvas(style.PAGE, 1.2 + high + low)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(high, low + 0.6))[:, 0]
    _costs(above, table)
    score = f"score on {split_label('test', table)}"
    panels = style.panels_in(below, len(by_task), down, ACROSS, "rank of LoRA", score)
    for axes, rows, heading in zip(panels, by_task.values(), headings, strict=True):
        _scores(axes, rows, panels[0])
        axes.set_title(heading)
    text = f"{models_of(table)}: what a rank costs, the head not counted, as a share of full's; what it scores"
    style.title(figure, f"{text}, each panel on its own scale. {SECONDS}")
    below.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
    return figure


def _costs(figure: SubFigure, table: pd.DataFrame) -> None:
    by_task = table.groupby("task", sort=False)
    for axes, (key, label) in zip(figure.subplots(1, len(COSTS)), COSTS.items(), strict=True):
        is_alike, highest = len(by_task) > 1 and table.groupby("arm")[key].nunique().max() == 1, 1.0
        for (task, rows), look in zip(by_task, style.looks(len(by_task)), strict=True):
            lora, full = rows[rows["rank"].notna()], reference_of(rows)
            shares = lora[key] / full[key] if full[key] > 0 else lora[key] * math.nan
            highest = max([highest, *shares.dropna()])
            look |= {"color": "black", "linestyle": "-", "marker": "."} if is_alike else {}
            axes.plot(lora["rank"].astype(int), shares, label=task, markersize=3, linewidth=1, **look)
        axes.axhline(1, color="black", linewidth=0.8)
        if key == "trained_body":
            axes.set_yscale("log")
        else:
            axes.set_ylim(0, ABOVE * highest)
        style.rank_axis(axes, sorted({int(rank) for rank in table["rank"].dropna()}))
        axes.set_title(f"{label}, alike for all tasks" if is_alike else label)
    figure.axes[0].set_ylabel("share of full's (line at 1)")
    if len(by_task) > 1:
        handles, labels = figure.axes[1].get_legend_handles_labels()
        columns = 4 if max(map(len, labels)) <= SHORT else 3
        figure.legend(handles, labels, loc="outside lower left", ncols=columns, handlelength=2.6)


def _scores(axes: Axes, rows: pd.DataFrame, legend: Axes) -> None:
    lora, full, drawn = rows[rows["rank"].notna()], reference_of(rows), _near(rows)
    ranks, is_first = lora["rank"].astype(int), axes is legend
    unranked = rows[_is_unranked(rows)]
    for (_, arm), look in zip(unranked.iterrows(), style.looks(1 + len(unranked))[1:], strict=True):
        if arm["arm"] in drawn:
            constant.draw_level(axes, arm["test"], str(arm["arm"]), legend, look | {"marker": "", "linewidth": 1})
    axes.axhspan(full["test_low"], full["test_high"], color="0.85", linewidth=0, zorder=0)
    name = "full fine-tuning, in grey its interval" if is_first else "_"
    axes.axhline(full["test"], color="0.25", linewidth=1, label=name)
    ends = [lora["test"] - lora["test_low"], lora["test_high"] - lora["test"]]
    points: dict[str, Any] = {"color": style.distinct(1)[0], "marker": "o", "capsize": 2, "markersize": 3.5}
    over = "mean and 95 % interval over seeds" if rows["seeds"].max() > 1 else "one seed, no interval"
    name = f"LoRA, {over}" if is_first else "_"
    axes.errorbar(ranks, lora["test"], ends, label=name, **points)
    if (answer := constant.of_rows(rows)) and answer[1] in drawn:
        constant.draw_line(axes, rows, legend)
    if COLLAPSED in lora:
        collapsed = lora[COLLAPSED] > 0
        cross(axes, ranks[collapsed], lora["test"][collapsed], legend, "a run collapsed")
    style.rank_axis(axes, [int(rank) for rank in ranks])


def _is_unranked(rows: pd.DataFrame) -> pd.Series[bool]:
    """The arms without a rank, but for the one that the others are compared with."""
    return rows["rank"].isna() & (rows["arm"] != reference_of(rows)["arm"])


def _levels(rows: pd.DataFrame) -> dict[str, float]:
    """The scores of the arms without a rank, and of one answer for every input, by name."""
    unranked = rows[_is_unranked(rows) & rows["test"].notna()]
    answer = constant.of_rows(rows)
    return dict(zip(unranked["arm"], unranked["test"], strict=True)) | ({answer[1]: answer[0]} if answer else {})


def _near(rows: pd.DataFrame) -> dict[str, float]:
    """The levels that are drawn: those near LoRA's and full fine-tuning's scores and intervals."""
    ends = rows.loc[~_is_unranked(rows), ["test", "test_low", "test_high"]].melt()["value"].dropna()
    if ends.empty:
        return _levels(rows)
    reach = REACH * max(ends.max() - ends.min(), LEAST)
    low, high = ends.min() - reach, ends.max() + reach
    return {name: score for name, score in _levels(rows).items() if low <= score <= high}


def reference_of(rows: pd.DataFrame) -> pd.Series[Any]:
    """The row of the arm that the others are compared with: it alone neither matches nor does not."""
    return rows[rows["matches"].isna()].iloc[0]


def ended_badly(rows: pd.DataFrame) -> list[str]:
    """What is to be said of how a task's runs ended: which ranks have no score, and why, and how many of full
    fine-tuning's collapsed."""
    lora, full = rows[rows["rank"].notna()], reference_of(rows)
    lost = listed(lora.loc[lora["test"].isna(), "rank"].astype(int))
    count = int(full.get(COLLAPSED, 0))
    parts = [f"rank {lost}: a run diverged"] if lost else []
    return [*parts, f"full: {count} of {int(full['seeds'])} collapsed"] if count else parts


def _heading(task: str, rows: pd.DataFrame) -> str:
    """The task, what is to be said of its runs, and below it the levels that have no place in its panel."""
    far = [f"{name}: {short(score)}" for name, score in _levels(rows).items() if name not in _near(rows)]
    lines = ["; ".join([score_label(task, rows, "\n"), *ended_badly(rows)]), *far]
    return "\n".join(style.wrapped(line, WIDTH) for line in "\n".join(lines).split("\n"))
