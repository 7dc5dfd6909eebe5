"""Figures of arms against the reference: every arm's difference below each other, and log losses over LoRA's rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lorax_lab.record.direction import oriented
from lorax_lab.study.answers import log_losses

from ... import style
from ...scores import higher_is_better, intervals_over, score_label, split_label
from .. import comparison
from ..paper import theirs
from ..records import Records, every, models_of, with_direction, with_model

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.17
"""Inches of an arm."""
LOSS, SCORE = "loss_difference", "difference"


def arms_table(records: Records) -> pd.DataFrame:
    """`comparison.table` of every task, with the declared margin, and a column of the paper's numbers for each that it
    has of these arms."""
    facts = comparison.with_ends_of_one_seed(records, every(records, comparison.table))
    rows = with_model(records, with_direction(records, facts))
    paper = {name: rows["arm"].map(of_arm) for name, of_arm in theirs(records.name).items()}
    paper = {name: column for name, column in paper.items() if column.notna().any()}
    return rows.assign(margin=records.protocol.margin, **paper)


@style.styled
def arms_draw(table: pd.DataFrame) -> Figure:
    """A panel for each task on a common scale; a point is filled where the arm is surely within the margin, and a
    diamond where LoRA was trained at another learning rate than most of its arms."""
    tasks = list(dict.fromkeys(table["task"]))
    arms = [arm for arm in dict.fromkeys(table["arm"]) if table.loc[table["arm"] == arm, "matches"].notna().any()]
    across = min(len(tasks), 3)
    down = -(-len(tasks) // across)
    figure = style.canvas(style.PAGE, 1.2 + down * (0.6 + ROW * len(arms)))
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    panels = list(grid.flat)
    for axes in panels[len(tasks) :]:
        axes.remove()
    for axes, task in zip(panels, tasks, strict=False):
        _arms(axes, table[table["task"] == task], arms)
        axes.set_title(score_label(task, table[table["task"] == task], "\n"))
    for axes in panels[max(0, len(tasks) - across) : len(tasks)]:
        axes.set_xlabel("difference in score")
        axes.tick_params(labelbottom=True)
    panels[0].set_yticks(range(len(arms)), arms)
    panels[0].invert_yaxis()
    text = f"{models_of(table)}: differences from full fine-tuning on {split_label('test', table)}, "
    text += f"{intervals_over(table, 'difference')}; filled: surely within the margin of {table['margin'].iloc[0]:g}"
    if any(comparison.unlike_rates(of_task) for _, of_task in table.groupby("task")):
        text += "; diamonds: LoRA at another learning rate than most of its arms"
    style.title(figure, text)
    return figure


def _arms(axes: Axes, rows: pd.DataFrame, arms: list[str]) -> None:
    of_arm = rows.set_index("arm").loc[[arm for arm in arms if arm in set(rows["arm"])]]
    places = np.array([arms.index(arm) for arm in of_arm.index])
    ends = [of_arm["difference"] - of_arm["difference_low"], of_arm["difference_high"] - of_arm["difference"]]
    look: dict[str, Any] = {"color": style.distinct(1)[0], "linestyle": "", "marker": "o", "markersize": 4}
    axes.errorbar(of_arm["difference"], places, xerr=ends, elinewidth=0.9, capsize=2, **(look | {"marker": ""}))
    short = ~of_arm["matches"].fillna(value=False).astype(bool).to_numpy()
    unlike = comparison.has_unlike_rate(of_arm)
    for marker, kind in (("o", ~unlike), ("D", unlike)):
        for mark, subset in ((look, kind & ~short), (look | {"mfc": "white"}, kind & short)):
            axes.plot(of_arm["difference"][subset], places[subset], **(mark | {"marker": marker, "zorder": 4}))
    for place in (0.0, oriented(-float(rows["margin"].iloc[0]), higher_is_better(rows))):
        axes.axvline(place, color="0.4", linewidth=0.8, linestyle="-" if place == 0 else "--", zorder=0)


def losses_table(records: Records) -> pd.DataFrame | None:
    """The rows of `comparison.table` of the arms that differ in their rank alone, with their log loss, the margins of
    both endpoints, and the paper's loss and BLEU at that rank; None where there are no such arms, or no log loss."""
    ranked = {arm.name for arm in records.protocol.ranked()}
    rows = comparison.with_ends_of_one_seed(records, every(records, comparison.table))
    if not ranked or LOSS not in rows:
        return None
    rows = rows[rows["arm"].isin(ranked) & rows[LOSS].notna()].copy()
    if rows.empty:
        return None
    margins = {"margin": records.protocol.margin, "loss_margin": records.protocol.loss_margin}
    paper = {name: rows["rank"].astype(str).map(subset) for name, subset in theirs("paper_rank_by_loss").items()}
    own = {task: mean_losses(records, task) for task in records.conditions}
    rows["loss"] = [own[task].get(arm) for task, arm in zip(rows["task"], rows["arm"], strict=True)]
    rows = rows.assign(**margins, **paper)
    return with_model(records, with_direction(records, rows))


def mean_losses(records: Records, task: str) -> dict[str, float]:
    """The mean log loss on test over an arm's final runs, in nats, by arm; without arms of which a run diverged, or
    whose lines have no losses."""
    means = {}
    for arm in (arm.name for arm in records.protocol.arms):
        losses = [log_losses(line) for line in comparison.seeds_of(records, task, arm).values()]
        known = [subset for subset in losses if subset is not None]
        if known and len(known) == len(losses) and not comparison.is_lost(records, task, arm):
            means[arm] = float(np.mean(known))
    return means


@style.styled
def losses_draw(table: pd.DataFrame) -> Figure:
    """A row of panels for each task: left the log loss, where lower is better, right the score. A point is hollow where
    the rank was trained at another learning rate than most."""
    tasks = list(dict.fromkeys(table["task"]))
    figure = style.canvas(style.PAGE, 1.0 + 1.8 * len(tasks))
    grid = figure.subplots(len(tasks), 2, squeeze=False, sharex=True)
    for row, task in zip(grid, tasks, strict=True):
        subset = table[table["task"] == task]
        margin = subset["loss_margin"].iloc[0]
        _line(row[0], subset, LOSS, None if margin is None or margin != margin else float(margin))
        _line(row[1], subset, SCORE, float(oriented(-subset["margin"].iloc[0], higher_is_better(subset))))
        note = comparison.unlike_rates(subset)
        row[0].set_title(f"{task}; hollow: {note}" if note else task)
        row[0].set_ylabel("difference in log loss, nats")
        row[1].set_ylabel(score_label("difference in score", subset, "\n"))
    for axes in grid[-1]:
        axes.set_xlabel("rank of LoRA")
    text = f"{models_of(table)}: LoRA against full fine-tuning on test; {intervals_over(table, LOSS)}"
    style.title(figure, f"{text}; dashed: the margins")
    return figure


def _line(axes: Axes, rows: pd.DataFrame, key: str, margin: float | None) -> None:
    ranks = [int(rank) for rank in rows["rank"]]
    ends = [rows[key] - rows[f"{key}_low"], rows[f"{key}_high"] - rows[key]]
    look: dict[str, Any] = {"color": style.distinct(1)[0], "marker": "o", "markersize": 3.5}
    style.bars(axes, ranks, rows[key], ends, capsize=2, **look)
    unlike = rows[comparison.has_unlike_rate(rows)]
    axes.plot(unlike["rank"].astype(int), unlike[key], **(look | {"linestyle": "", "mfc": "white", "zorder": 4}))
    axes.axhline(0, color="0.4", linewidth=0.8)
    if margin is not None:
        axes.axhline(margin, color="0.4", linewidth=0.8, linestyle="--")
    style.rank_axis(axes, ranks)
