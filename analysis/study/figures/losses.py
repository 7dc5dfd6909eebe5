"""Log loss on test over LoRA's rank, beside the score (Table 18 of the LoRA paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lorax_lab.record.direction import oriented
from lorax_lab.study.answers import log_losses

from ... import style
from ...scores import higher_is_better, intervals_over, score_label
from .. import comparison, rates
from ..latex import BOTH, INTERVAL, NONE, Column, document, escaped, number, of_interval, units
from ..paper import BLEU, LOSSES
from ..records import Records, every, models_of, with_direction, with_model

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "log loss on test over LoRA's rank, beside the score (Table 18 of the LoRA paper)"
LOSS, SCORE = "loss_difference", "difference"
MEAN = "loss"
"""The column of the arms' own log losses."""
THEIRS, THEIR_BLEU = "GPT-2 medium, E2E", "GPT-2 medium, E2E, BLEU"
"""The columns of the paper's own losses and scores."""


def table(records: Records) -> pd.DataFrame | None:
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
    theirs = {THEIRS: rows["rank"].map(LOSSES), THEIR_BLEU: rows["rank"].map(BLEU)}
    own = {task: mean_losses(records, task) for task in records.conditions}
    rows[MEAN] = [own[task].get(arm) for task, arm in zip(rows["task"], rows["arm"], strict=True)]
    rows = rows.assign(**margins, **theirs)
    return with_model(records, with_direction(records, rows))


def mean_losses(records: Records, task: str) -> dict[str, float]:
    """The mean log loss on test over an arm's final runs, in nats, by arm; without arms of which a run diverged, or
    whose lines have no losses."""
    means = {}
    for arm in (arm.name for arm in records.protocol.arms):
        losses = [log_losses(line) for line in comparison.seeds_of(records, task, arm).values()]
        known = [of for of in losses if of is not None]
        if known and len(known) == len(losses) and not comparison.is_lost(records, task, arm):
            means[arm] = float(np.mean(known))
    return means


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A row of panels for each task: left the log loss, where lower is better, right the score. A point is hollow where
    the rank was trained at another learning rate than most."""
    tasks = list(dict.fromkeys(table["task"]))
    figure = style.canvas(style.PAGE, 1.0 + 1.8 * len(tasks))
    grid = figure.subplots(len(tasks), 2, squeeze=False, sharex=True)
    for row, task in zip(grid, tasks, strict=True):
        of = table[table["task"] == task]
        margin = of["loss_margin"].iloc[0]
        _line(row[0], of, LOSS, None if margin is None or margin != margin else float(margin))
        _line(row[1], of, SCORE, float(oriented(-of["margin"].iloc[0], higher_is_better(of))))
        told = rates.others(of)
        row[0].set_title(f"{task}; hollow: {told}" if told else task)
        row[0].set_ylabel("difference in log loss, nats")
        row[1].set_ylabel(score_label("difference in score", of, "\n"))
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
    unlike = rows[rates.is_unlike(rows)]
    axes.plot(unlike["rank"].astype(int), unlike[key], **(look | {"linestyle": "", "mfc": "white", "zorder": 4}))
    axes.axhline(0, color="0.4", linewidth=0.8)
    if margin is not None:
        axes.axhline(margin, color="0.4", linewidth=0.8, linestyle="--")
    style.rank_axis(axes, ranks)


def latex(table: pd.DataFrame) -> str:
    """A part for each task with a row for each rank: its loss, the differences of both endpoints, and the paper's loss
    and score; at the end the ranks that the paper alone has."""
    scale, digits, unit = units(table)
    head = [Column("rank", align="r"), Column("log loss", "nats", "r"), Column("difference in it", "nats", INTERVAL)]
    head += [Column("in score", unit, INTERVAL), Column(escaped(THEIRS), "nats", "r"), Column("", "BLEU", "r")]
    rows: list[list[str]] = []
    for task, of in table.groupby("task", sort=False):
        rows.append([escaped(str(task))])
        for rank, row in of.sort_values("rank").set_index("rank").iterrows():
            cells = [str(rank), number(float(row[MEAN]), 3)]
            for key, by, places in ((LOSS, 1.0, 3), (SCORE, scale, digits)):
                mean, low, high = (float(row[f"{key}{end}"]) for end in ("", "_low", "_high"))
                cells.append(of_interval(mean, low, high, True, by, places))
            rows.append([*cells, *_theirs(int(str(rank)))])
    if others := sorted(set(LOSSES) - set(table["rank"])):
        rows.append(["the paper alone"])
        rows += [[str(rank), *["", BOTH, BOTH], *_theirs(rank)] for rank in others]
    notes = [
        f"{escaped(models_of(table))}.",
        f"Log loss on test, and differences from full fine-tuning: mean of {int(table['seeds'].max())} seeds, "
        "95\\,\\% intervals.",
        "Last columns: validation loss and BLEU of Hu et al.\\ 2021, Table 18, one seed.",
        *rates.notes(table),
    ]
    return document(head, rows, notes)


def _theirs(rank: int) -> list[str]:
    return [number(of[rank], 2) if rank in of else NONE for of in (LOSSES, BLEU)]
