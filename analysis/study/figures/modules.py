"""The difference in score when one type of matrix is cut to k directions, the others whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import style
from ...scores import score_label, split_label
from .. import update
from ..records import Records, every, models_of, with_direction, with_model

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "the difference in score when one type of matrix is cut to k directions"
UNKNOWN = "the answers of these cuts are not kept"
APART = 2.2
"""Points between the lines at one k."""


def table(records: Records) -> pd.DataFrame | None:
    """`update.functional` of every task, one type of matrix cut alone; None where that was not measured."""
    if not update.has_cuts(records):
        return None
    rows = every(records, update.functional)
    rows = rows[rows["module"] != update.ALL]
    return with_model(records, with_direction(records, rows)) if len(rows) else None


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel per task, a line per type of matrix; the lines stand beside each other at each k."""
    names, tasks = update.modules(table), list(dict.fromkeys(table["task"]))
    figure, panels = style.panels(len(tasks), 1.9, "k", "difference in score")
    for axes, task in zip(panels, tasks, strict=True):
        rows = table[table["task"] == task]
        axes.axhline(0, color="0.4", linewidth=0.8)
        sizes = set[int]()
        for number, (name, look) in enumerate(zip(names, style.looks(len(names)), strict=True)):
            cut = update.cut_intervals(rows, "cut", name)
            sizes |= set(cut)
            means = [interval.mean for interval in cut.values()]
            bars = [[i.mean - i.low for i in cut.values()], [i.high - i.mean for i in cut.values()]]
            fine = {"markersize": 3, "linewidth": 0.9, "elinewidth": 0.6}
            beside = style.spread_out(number, len(names), APART)
            style.bars(axes, list(cut), means, bars, beside, label=name, **(look | fine))
        style.rank_axis(axes, sorted(sizes))
        axes.set_title(score_label(task, rows, "\n"))
    split = split_label("validation", table)
    several = len(set(table["seed"])) > 1
    covered = "95 % intervals over the seeds" if several else f"one seed, no interval: {UNKNOWN}"
    text = f"{models_of(table)}: one type of matrix cut to k directions, the others whole; {split}, {covered}"
    style.title(figure, text)
    style.legend(figure, figure.axes[0], columns=3)
    return figure
