"""What is left of the full update's score when it is changed: cuts, remainders, and their controls."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ... import constant, style
from ...scores import of_examples, score_label, split_label
from .. import comparison, update
from ..constants import with_constants
from ..records import Records, every, models_of, with_direction, with_model

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "what is left of the full update's score when it is cut, and under the controls"
NOISE = "gaussian"
LOW, HIGH = "low", "high"
"""The columns of the interval over the examples, where a task has one seed."""
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
    drawn = rows[(rows["module"] == update.ALL) & rows["part"].isin([*PARTS, NOISE])].drop(columns="module")
    return with_model(
        records, with_direction(records, with_constants(records, _with_ends(records, drawn), "validation"))
    )


def _with_ends(records: Records, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the interval of each score over its validation examples, `low` and `high`, where a task has one
    seed alone and its metric such an interval; a score and the number of examples are all that it takes."""
    ends = dict[Any, tuple[float, float]]()
    for task, of in rows.groupby("task", sort=False):
        if len(set(of["seed"])) == 1:
            [line] = comparison.seeds_of(records, str(task), records.protocol.reference).values()
            about = line["metric"], int(line["inputs"]["examples"]["validation"])
            ends |= {at: of_examples(float(score), *about) for at, score in zip(of.index, of["score"], strict=True)}
    if not ends or all(math.isnan(low) for low, _ in ends.values()):
        return rows
    sides = ([ends.get(at, (math.nan, math.nan))[side] for at in rows.index] for side in (0, 1))
    return rows.assign(**dict(zip((LOW, HIGH), sides, strict=True)))


def ends_of(rows: pd.DataFrame) -> tuple[pd.Series[float], pd.Series[float]]:
    """How far the scores of one part reach, by k: from the lowest to the highest seed, or of one seed over its
    examples."""
    by_k = rows.groupby("k")
    if len(set(rows["seed"])) == 1 and LOW in rows and rows[LOW].notna().all():
        return by_k[LOW].first(), by_k[HIGH].first()
    return by_k["score"].min(), by_k["score"].max()


def over(table: pd.DataFrame) -> str:
    """What points and bands are."""
    count = int(table.groupby("task")["seed"].nunique().max())
    if count > 1:
        return f"mean and range of {count} seeds"
    split = split_label("validation", table)
    return f"one seed, 95 % interval over its {split} examples" if LOW in table else "one seed, no interval"


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
                low, high = ends_of(rows[rows["part"] == part])
                axes.fill_between(low.index, low, high, color=colour, alpha=0.15, linewidth=0)
        noise = rows[rows["part"] == NOISE]["score"]
        if len(noise):
            name = "Gaussian noise of its norm"
            axes.axhline(noise.mean(), color="0.4", linewidth=0.9, linestyle=(0, (1, 3)), label=name)
        constant.draw_line(axes, rows, panels[0])
        style.rank_axis(axes, sorted({int(k) for k in rows[rows["part"] == "cut"]["k"]}))
        axes.set_title(score_label(task, rows, "\n"))
    style.title(
        figure, f"{models_of(table)}: what is left of the full update's score when it is changed; {over(table)}"
    )
    style.legend(figure, figure.axes[0], columns=3)
    return figure
