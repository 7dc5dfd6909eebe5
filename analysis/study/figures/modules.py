"""The difference in score when one type of matrix is cut to k directions, the others whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import style
from ...scores import score_label, split_label
from .. import update
from ..records import Records, every, with_direction

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LATEX = False


def table(records: Records) -> pd.DataFrame | None:
    """`update.functional` of every task, one type of matrix cut alone; None where that was not measured."""
    if not update.has_cuts(records):
        return None
    rows = every(records, update.functional)
    rows = rows[rows["module"] != update.ALL]
    return with_direction(records, rows) if len(rows) else None


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """The difference from the whole update when one type of matrix is cut to k directions, a panel per type."""
    names, tasks = update.modules(table), list(dict.fromkeys(table["task"]))
    figure, panels = style.panels(len(names), 1.7, "k", "difference in score")
    for axes, name in zip(panels, names, strict=True):
        for task, look in zip(tasks, style.looks(len(tasks)), strict=True):
            rows = table[table["task"] == task]
            cut = update.cut_intervals(rows, "cut", name)
            means = [interval.mean for interval in cut.values()]
            bars = [[f.mean - f.low for f in cut.values()], [f.high - f.mean for f in cut.values()]]
            axes.errorbar(list(cut), means, bars, capsize=2, label=score_label(task, rows), **look)
        style.rank_axis(axes, list(cut))
        axes.axhline(0, color="0.4", linewidth=0.8)
        axes.set_title(name, fontsize=7.5)
    split = split_label("validation", table)
    text = f"one type of matrix cut to k directions, the others whole; {split}, 95 % intervals over the seeds"
    style.title(figure, text)
    style.legend(figure, figure.axes[0], columns=min(len(tasks), 4))
    return figure
