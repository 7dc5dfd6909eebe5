"""Log loss on test over LoRA's rank, beside the score (Table 18 of the LoRA paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorax_lab.store.direction import oriented

from ... import style
from ...scores import higher_is_better, intervals_over, score_label
from .. import comparison, rates
from ..latex import INTERVAL, Column, document, escaped, number, of_interval, units
from ..paper import LOSSES
from ..records import Records, every, models_of, with_direction, with_model

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "log loss on test over LoRA's rank, beside the score (Table 18 of the LoRA paper)"
LOSS, SCORE = "loss_difference", "difference"
THEIRS = "GPT-2 medium, E2E"
"""The column of the paper's own losses."""


def table(records: Records) -> pd.DataFrame | None:
    """The rows of `comparison.table` of the arms that differ in their rank alone, with the margins of both endpoints
    and the paper's loss at that rank; None where there are no such arms, or no log loss."""
    ranked = {arm.name for arm in records.protocol.ranked()}
    rows = comparison.with_ends_of_one_seed(records, every(records, comparison.table))
    if not ranked or LOSS not in rows:
        return None
    rows = rows[rows["arm"].isin(ranked) & rows[LOSS].notna()]
    if rows.empty:
        return None
    margins = {"margin": records.protocol.margin, "loss_margin": records.protocol.loss_margin}
    rows = rows.assign(**margins, **{THEIRS: rows["rank"].map(LOSSES)})
    return with_model(records, with_direction(records, rows))


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
    """A row for each rank: the differences of both endpoints for each task, and the paper's loss."""
    scale, digits, unit = units(table)
    tasks = list(dict.fromkeys(table["task"]))
    head = [Column("rank", align="r")]
    for task in tasks:
        head += [Column(escaped(f"{task}, loss"), "nats", INTERVAL), Column("score", unit, INTERVAL)]
    head.append(Column(THEIRS, "nats", "r"))
    rows = []
    for rank, of_rank in table.groupby("rank", sort=True):
        by_task, cells = of_rank.set_index("task"), [str(rank)]
        for task in tasks:
            for key, by, places in ((LOSS, 1.0, 3), (SCORE, scale, digits)):
                mean, low, high = (float(by_task.loc[task, f"{key}{end}"]) for end in ("", "_low", "_high"))
                cells.append(of_interval(mean, low, high, True, by, places))
        rows.append([*cells, number(float(of_rank[THEIRS].iloc[0]), 2)])
    notes = [
        f"{escaped(models_of(table))}.",
        f"Differences from full fine-tuning on test: mean of {int(table['seeds'].max())} seeds, 95\\,\\% intervals.",
        "Last column: validation loss of Hu et al.\\ 2021, one seed.",
        *rates.notes(table),
    ]
    return document(head, rows, notes)
