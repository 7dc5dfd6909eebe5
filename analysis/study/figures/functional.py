"""What is left of the full update's score when it is changed: cuts, remainders, and their controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import constant, style
from ...scores import score_label, split_label
from .. import update
from ..constants import with_constants
from ..records import Records, every, with_direction

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "what is left of the full update's score when it is cut, and under the controls"
NOISE = "gaussian"
PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "cut": ("top k directions", {"marker": "o"}),
    "remainder": ("all but the top k", {"marker": "s", "linestyle": "--"}),
    "random": ("k random directions", {"marker": "^", "linestyle": ":"}),
    "random_at_norm": ("k random directions at the cut's norm", {"marker": "^", "linestyle": ":"}),
    "bottom_at_norm": ("last k directions at the cut's norm", {"marker": "v", "linestyle": (0, (5, 1))}),
    "scaled": ("whole update at the cut's norm", {"marker": "D", "linestyle": "-."}),
}


def table(records: Records) -> pd.DataFrame | None:
    """The parts of `update.functional` that are drawn, of every task, all matrices changed at once, with what one
    answer for every input scores on validation; None where no update was cut."""
    if not update.has_cuts(records):
        return None
    rows = every(records, update.functional)
    drawn = rows[(rows["module"] == update.ALL) & rows["part"].isin([*PARTS, NOISE])]
    return with_direction(records, with_constants(records, drawn.drop(columns="module"), "validation"))


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Scores over k of the cut and its controls, mean and range of the seeds."""
    tasks = list(dict.fromkeys(table["task"]))
    figure, panels = style.panels(len(tasks), 2.3, "k", f"score on {split_label('validation', table)}")
    for axes, task in zip(panels, tasks, strict=True):
        rows = table[table["task"] == task]
        shown = [part for part in PARTS if part in set(table["part"])]
        for part, colour in zip(shown, style.distinct(len(shown)), strict=True):
            label, look = PARTS[part]
            scores = rows[rows["part"] == part].groupby("k")["score"]
            if len(scores):
                axes.plot(scores.mean(), label=label, color=colour, **(look | {"markersize": 3.5}))
                axes.fill_between(scores.min().index, scores.min(), scores.max(), color=colour, alpha=0.15, linewidth=0)
        noise = rows[rows["part"] == NOISE]["score"]
        if len(noise):
            name = "Gaussian noise of its norm"
            axes.axhline(noise.mean(), color="0.4", linewidth=0.9, linestyle=(0, (1, 3)), label=name)
        constant.draw_line(axes, rows, panels[0])
        style.rank_axis(axes, sorted({int(k) for k in rows[rows["part"] == "cut"]["k"]}))
        axes.set_title(score_label(task, rows))
    count = table["seed"].nunique()
    seeds = f"mean and range of {count} seeds" if count > 1 else "one seed"
    style.title(figure, f"what is left of the full update's score when it is changed; {seeds}")
    style.legend(figure, figure.axes[0], columns=3)
    return figure
