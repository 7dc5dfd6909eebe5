"""What a rank costs, and what it scores: parameters, memory, seconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ... import constant, style
from ...scores import cross, score_label, short, split_label
from ...variants import COLLAPSED
from .. import comparison
from ..constants import with_constants
from ..records import Records, every, models_of, with_direction, with_model
from ..words import listed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
LORA, FULL = "LoRA", "full fine-tuning"
TEST = ("test", "test_low", "test_high")


def table(records: Records) -> pd.DataFrame | None:
    """`comparison.table` of every task, with what one answer for every input scores on test; None where no arms differ
    in their rank alone."""
    if not records.protocol.ranked():
        return None
    rows = every(records, comparison.table)
    return with_model(records, with_direction(records, with_constants(records, rows, comparison.SPLIT)))


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Above, costs over the rank as shares of full fine-tuning's, a line per task; below, a panel of scores per task,
    on a scale of its own."""
    tasks = list(dict.fromkeys(table["task"]))
    headings = {task: _heading(task, table[table["task"] == task]) for task in tasks}
    down, lines = math.ceil(len(tasks) / ACROSS), 1 + max(text.count("\n") for text in headings.values())
    high, low = 1.9 + 0.15 * math.ceil(len(tasks) / 3), (1.4 + 0.15 * lines) * down
    figure = style.canvas(style.PAGE, 1.2 + high + low)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(high, low + 0.6))[:, 0]
    _costs(above, table, tasks)
    panels = list(below.subplots(down, ACROSS, squeeze=False).flat)
    for axes in panels[len(tasks) :]:
        axes.remove()
    for axes, task in zip(panels, tasks, strict=False):
        _scores(axes, table[table["task"] == task], panels[0])
        axes.set_title(headings[task])
    for axes in panels[max(0, len(tasks) - ACROSS) : len(tasks)]:
        axes.set_xlabel("rank of LoRA")
    for axes in panels[: len(tasks) : ACROSS]:
        axes.set_ylabel(f"score on {split_label('test', table)}")
    text = f"{models_of(table)}: what a rank costs, the head not counted, as a share of full's; what it scores"
    style.title(figure, f"{text}, each panel on its own scale. {SECONDS}")
    below.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
    return figure


def _costs(figure: Any, table: pd.DataFrame, tasks: list[str]) -> None:
    for axes, (key, label) in zip(figure.subplots(1, len(COSTS)), COSTS.items(), strict=True):
        alike, highest = len(tasks) > 1 and table.groupby("arm")[key].nunique().max() == 1, 1.0
        for task, look in zip(tasks, style.looks(len(tasks)), strict=True):
            rows = table[table["task"] == task]
            lora, full = rows[rows["rank"].notna()], reference_of(rows)
            shares = lora[key] / full[key] if full[key] > 0 else lora[key] * math.nan
            settings = (
                look | {"markersize": 3, "linewidth": 1} | ({"color": "black", "linestyle": "-"} if alike else {})
            )
            highest = max([highest, *shares.dropna()])
            axes.plot(lora["rank"].astype(int), shares, label=task, **(settings | ({"marker": "."} if alike else {})))
        axes.axhline(1, color="black", linewidth=0.8)
        if key == "trained_body":
            axes.set_yscale("log")
        else:
            axes.set_ylim(0, ABOVE * highest)
        style.rank_axis(axes, sorted({int(rank) for rank in table["rank"].dropna()}))
        axes.set_title(f"{label}, alike for all tasks" if alike else label)
    figure.axes[0].set_ylabel("share of full's (line at 1)")
    if len(tasks) > 1:
        handles, labels = figure.axes[1].get_legend_handles_labels()
        columns = 4 if max(map(len, labels)) <= SHORT else 3
        figure.legend(handles, labels, loc="outside lower left", ncols=columns, handlelength=2.6)


def _scores(axes: Axes, rows: pd.DataFrame, legend: Axes) -> None:
    lora, full = rows[rows["rank"].notna()], reference_of(rows)
    ranks, first, is_near = lora["rank"].astype(int), axes is legend, set(_near(rows))
    bars = [lora["test"] - lora["test_low"], lora["test_high"] - lora["test"]]
    others = rows[_is_other(rows)]
    for (_, other), look in zip(others.iterrows(), style.looks(1 + len(others))[1:], strict=True):
        if other["arm"] in is_near:
            line = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 1}
            _level(axes, float(other["test"]), legend, str(other["arm"]), line)
    axes.axhspan(full["test_low"], full["test_high"], color="0.85", linewidth=0, zorder=0)
    axes.axhline(full["test"], color="0.25", linewidth=1, label=of_full(rows) if first else "_")
    points: dict[str, Any] = {"color": style.distinct(1)[0], "marker": "o", "capsize": 2, "markersize": 3.5}
    axes.errorbar(ranks, lora["test"], bars, label=f"{LORA}, {over(rows)}" if first else "_", **points)
    if (one := constant.of_rows(rows)) and one[1] in is_near:
        constant.draw_line(axes, rows, legend)
    if COLLAPSED in lora:
        collapsed = lora[COLLAPSED] > 0
        cross(axes, ranks[collapsed], lora["test"][collapsed], legend, "a run collapsed")
    style.rank_axis(axes, [int(rank) for rank in ranks])


def _level(axes: Axes, score: float, legend: Axes, label: str, look: dict[str, Any]) -> None:
    """A level line, which stands once in the legend of the axes `legend`."""
    is_new = label not in legend.get_legend_handles_labels()[1]
    axes.axhline(score, label=label if axes is legend and is_new else "_", **look)
    if axes is not legend and is_new:
        legend.plot([], [], label=label, **look)


def _is_other(rows: pd.DataFrame) -> pd.Series[bool]:
    """The arms without a rank, but for the one that the others are compared with."""
    return rows["rank"].isna() & (rows["arm"] != reference_of(rows)["arm"])


def _levels(rows: pd.DataFrame) -> dict[str, float]:
    """The scores of the arms without a rank, and of one answer for every input, by name."""
    others = rows[_is_other(rows) & rows["test"].notna()]
    one = constant.of_rows(rows)
    return dict(zip(others["arm"], others["test"], strict=True)) | ({one[1]: one[0]} if one else {})


def _near(rows: pd.DataFrame) -> dict[str, float]:
    """The levels that are drawn: those near LoRA's and full fine-tuning's scores and intervals."""
    ends = rows.loc[~_is_other(rows), [*TEST]].to_numpy(float)
    ends = ends[ends == ends]
    if not len(ends):
        return _levels(rows)
    reach = REACH * max(float(ends.max() - ends.min()), LEAST)
    low, high = float(ends.min()) - reach, float(ends.max()) + reach
    return {name: score for name, score in _levels(rows).items() if low <= score <= high}


def over(table: pd.DataFrame) -> str:
    """What the points and intervals of scores are."""
    if int(table["seeds"].max()) > 1:
        return "mean and 95 % interval over seeds"
    return "one seed, 95 % interval over its test examples" if has_ends(table) else "one seed, no interval"


def of_full(table: pd.DataFrame) -> str:
    """What the level of full fine-tuning is, and the band around it."""
    return f"{FULL}, in grey its interval" if has_ends(table) else FULL


def has_ends(table: pd.DataFrame) -> bool:
    """Whether any score has an interval: of one seed, that of a metric of which it is known."""
    return bool(table["test_low"].notna().any())


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
