"""The choice of each arm's learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import style
from ...scores import cross, score_label, split_label
from ...variants import COLLAPSED
from .. import comparison
from ..records import Records, with_direction

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LATEX = False
CROSSED = "a trial collapsed"


def table(records: Records) -> pd.DataFrame:
    """`comparison.trials`."""
    return with_direction(records, comparison.trials(records))


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Validation score over the learning rate, a line per arm, the chosen rate ringed."""
    tasks = list(dict.fromkeys(table["task"]))
    figure, panels = style.panels(len(tasks), 2.3, "learning rate", f"score on {split_label('validation', table)}")
    for axes, task in zip(panels, tasks, strict=True):
        rows = table[table["task"] == task]
        arms = list(dict.fromkeys(rows["arm"]))
        for arm, look in zip(arms, style.looks(len(arms)), strict=True):
            of = rows[rows["arm"] == arm]
            means = of.groupby("learning_rate")["validation"].mean()
            axes.plot(means.index, means, label=arm, **(look | {"markersize": 3}))
            best = of[of["chosen"]]["learning_rate"].unique()
            ring: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 9, "markerfacecolor": "none"}
            axes.plot(best, means[best], color=look["color"], **ring)
            if COLLAPSED in of:
                rates = sorted(of[of[COLLAPSED]]["learning_rate"].unique())
                cross(axes, rates, means[rates], panels[0], CROSSED)
        axes.set_xscale("log")
        axes.set_title(score_label(task, rows))
    count = table["seed"].nunique()
    style.title(figure, f"the choice of each arm's learning rate (ringed), mean of {count} seed{'s' * (count > 1)}")
    style.legend(figure, figure.axes[0], columns=4)
    return figure
