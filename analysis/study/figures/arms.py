"""Figures of arms against the reference: every arm's difference below each other, and log losses over LoRA's rank."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorax_lab.study.answers import LOSSES, by_example

from ... import style
from ...scores import intervals_over, score_label, split_label, worse_by_margin
from .. import comparison
from ..paper import theirs
from ..records import Records, every, models_of, with_direction, with_model

ARMS_TITLE = "every arm's difference in score from full fine-tuning, in its CSV beside the LoRA paper's numbers"
LOSSES_TITLE = "log loss on test over LoRA's rank, beside the score (Table 18 of the LoRA paper)"
ROW = 0.17
"""Inches of an arm."""
LOSS, SCORE = "loss_difference", "difference"
AND_EXAMPLES = " and test examples"


def arms_table(records: Records) -> pd.DataFrame:
    """`comparison.table` of every task, with the declared margin, and a column of the paper's numbers for each that it
    has of these arms."""
    rows = with_model(records, with_direction(records, every(records, comparison.table)))
    paper = {name: rows["arm"].map(numbers) for name, numbers in theirs(records.name).items()}
    paper = {name: column for name, column in paper.items() if column.notna().any()}
    return rows.assign(margin=records.protocol.margin, **paper)


@style.styled
def arms_draw(table: pd.DataFrame) -> Figure:
    """A panel for each task on a common scale; a point is filled where the arm is surely within the margin, and a
    diamond where LoRA was trained at another learning rate than most of its arms."""
    arms = list(dict.fromkeys(table.loc[table["matches"].notna(), "arm"]))
    by_task = table.groupby("task", sort=False)
    height = 0.6 + ROW * len(arms)
    figure, panels = style.panels(len(by_task), height, "difference in score", "", room=1.2)
    for axes, (task, rows) in zip(panels, by_task, strict=True):
        _arms(axes, rows.set_index("arm").loc[[arm for arm in arms if arm in set(rows["arm"])]], arms)
        axes.set_title(score_label(str(task), rows, "\n"))
    panels[0].set_yticks(range(len(arms)), arms)
    panels[0].invert_yaxis()
    text = f"{models_of(table)}: differences from full fine-tuning on {split_label('test', table)}, "
    text += f"{intervals_over(table, AND_EXAMPLES)}; filled: surely within the margin of {table['margin'].iloc[0]:g}"
    if any(comparison.unlike_rates(rows) for _, rows in by_task):
        text += "; diamonds: at another learning rate than most ranks"
    style.title(figure, text)
    return figure


def _arms(axes: Axes, rows: pd.DataFrame, arms: list[str]) -> None:
    places = np.array([arms.index(arm) for arm in rows.index])
    ends = [rows["difference"] - rows["difference_low"], rows["difference_high"] - rows["difference"]]
    look: dict[str, Any] = {"color": style.distinct(1)[0], "linestyle": "", "markersize": 4}
    axes.errorbar(rows["difference"], places, xerr=ends, elinewidth=0.9, capsize=2, **look)
    within, unlike = rows["matches"].astype(bool).to_numpy(), comparison.has_unlike_rate(rows)
    for marker, has_marker in (("o", ~unlike), ("D", unlike)):
        for fill, is_filled in (({}, within), ({"mfc": "white"}, ~within)):
            points = has_marker & is_filled
            axes.plot(rows["difference"][points], places[points], marker=marker, zorder=4, **(look | fill))
    for place, line in ((0.0, "-"), (worse_by_margin(rows), "--")):
        axes.axvline(place, color="0.4", linewidth=0.8, linestyle=line, zorder=0)
    axes.locator_params(axis="x", nbins=5)  # more labels run into each other


def losses_table(records: Records) -> pd.DataFrame | None:
    """The rows of `comparison.table` of the arms that differ in their rank alone, with their log loss, the margins of
    both endpoints, and the paper's loss and BLEU at that rank; None where there are no such arms, or no log loss."""
    rows = every(records, comparison.table)
    rows = rows[rows["arm"].isin([arm.name for arm in records.protocol.ranked()])]
    if LOSS not in rows or rows[LOSS].isna().all():
        return None
    rows = rows[rows[LOSS].notna()].copy()
    means = {task: mean_losses(records, task) for task in records.conditions}
    rows["loss"] = [means[task].get(arm) for task, arm in zip(rows["task"], rows["arm"], strict=True)]
    margins = {"margin": records.protocol.margin, "loss_margin": records.protocol.loss_margin}
    paper = {name: rows["rank"].astype(str).map(numbers) for name, numbers in theirs("paper_rank_by_loss").items()}
    return rows.assign(**margins, **paper)


def mean_losses(records: Records, task: str) -> dict[str, float]:
    """The mean log loss on test over an arm's final runs, in nats, by arm; without arms of which a run diverged, or
    whose lines have no losses."""
    means = {}
    for arm in (arm.name for arm in records.protocol.arms):
        lines = comparison.seeds_of(records, task, arm).values()
        losses = [loss for line in lines if (loss := by_example(line, LOSSES)) is not None]
        if losses and len(losses) == len(lines) and not comparison.is_lost(records, task, arm):
            means[arm] = float(np.mean(losses))
    return means


@style.styled
def losses_draw(table: pd.DataFrame) -> Figure:
    """A row of panels for each task: left the log loss, where lower is better, right the score. A point is hollow where
    the rank was trained at another learning rate than most."""
    by_task = table.groupby("task", sort=False)
    figure = style.canvas(style.PAGE, 1.0 + 1.8 * len(by_task))
    grid = figure.subplots(len(by_task), 2, squeeze=False, sharex=True)
    for (left, right), (task, rows) in zip(grid, by_task, strict=True):
        margin = rows["loss_margin"].iloc[0]
        _line(left, rows, LOSS, None if pd.isna(margin) else float(margin))
        _line(right, rows, SCORE, worse_by_margin(rows))
        note = comparison.unlike_rates(rows)
        left.set_title(f"{task}; hollow: {note}" if note else task)
        left.set_ylabel("difference in log loss, nats")
        right.set_ylabel(score_label("difference in score", rows, "\n"))
    for axes in grid[-1]:
        axes.set_xlabel("rank of LoRA")
    text = f"{models_of(table)}: LoRA against full fine-tuning on test; {intervals_over(table, AND_EXAMPLES)}"
    style.title(figure, f"{text}; dashed: the margins")
    return figure


def _line(axes: Axes, rows: pd.DataFrame, key: str, margin: float | None) -> None:
    ranks = [int(rank) for rank in rows["rank"]]
    look: dict[str, Any] = {"color": style.distinct(1)[0], "marker": "o", "markersize": 3.5}
    style.bars(axes, ranks, rows[key], rows[f"{key}_low"], rows[f"{key}_high"], capsize=2, **look)
    unlike = rows[comparison.has_unlike_rate(rows)]
    axes.plot(unlike["rank"].astype(int), unlike[key], **(look | {"linestyle": "", "mfc": "white", "zorder": 4}))
    style.zero_and_margin(axes, margin)
    style.rank_axis(axes, ranks)
