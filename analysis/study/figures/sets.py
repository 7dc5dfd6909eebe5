"""LoRA in some matrices over its rank, and the full update cut in the same matrices (Tables 6 and 15 of the paper)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import style
from ...axes import margin_axis, scale_of, worse_by_margin
from ...scores import score_label
from .. import comparison
from ..records import Records, models_of, with_direction, with_model
from ..statistics import Interval, Smallest, crossed, smallest

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "sets"
"""Of the rows that `lorax_lab.afterwards.sets` makes."""
WHOLE = "whole"
EVERY, PLAIN = "all", "LoRA"
"""The set of all matrices, and how its arms begin."""
SIDES = {"rank": ("rank of LoRA in these matrices", "r*"), "k": ("directions kept of the full update, k", "k*")}
APART = 2.4
NEIGHBOURS = (
    "The other matrices have no update on the left, and keep all of theirs on the right, so that r* and k* answer two "
    "questions"
)


def table(records: Records) -> pd.DataFrame | None:
    """One row for each task, set of matrices, side (`rank` or `k`) and size; None where the sets were not cut.

    Columns: `mean`, `low`, `high` of the difference on test, from full fine-tuning or from the whole update, in the
    metric's own direction, over seeds and test examples; `within` the margin surely; `enough`, r* or k* of the set.
    """
    import pandas as pd

    if not records.rows.get(NAME):
        return None
    rows = [row for task in records.conditions for row in _of_task(records, task)]
    facts = pd.DataFrame(rows).assign(margin=records.protocol.margin)
    return with_model(records, with_direction(records, facts))


def _of_task(records: Records, task: str) -> Iterator[dict[str, Any]]:
    names = list(dict.fromkeys(row["set"] for row in records.rows[NAME] if row["condition"] == task))
    gains = comparison.gains(records, task)
    for name in names:
        yield from _rows(records, task, name, "rank", _by_rank(records, gains, name))
        yield from _rows(records, task, name, "k", _by_k(records, task, name))


def sets_of(records: Records, task: str) -> dict[str, Smallest]:
    """k* of each set of matrices; empty where no set was cut."""
    names = dict.fromkeys(row["set"] for row in records.rows.get(NAME, ()) if row["condition"] == task)
    return {name: smallest(_by_k(records, task, name), records.protocol.margin) for name in names}


def _rows(records: Records, task: str, name: str, side: str, gains: dict[int, Interval]) -> Iterator[dict[str, Any]]:
    margin, higher = records.protocol.margin, records.higher_is_better(task)
    enough: Smallest = smallest(gains, margin)
    for size, gain in sorted(gains.items()):
        shown = gain.oriented(higher)
        row = {"task": task, "set": name, "side": side, "size": size}
        row |= {"mean": shown.mean, "low": shown.low, "high": shown.high, "seeds": shown.count}
        yield row | {"within": gain.low > -margin, "enough": str(enough)}


def _by_rank(records: Records, gains: dict[str, Interval], name: str) -> dict[int, Interval]:
    """The gains of the arms of a set that differ in their rank alone."""
    begins = f"{PLAIN if name == EVERY else name} r="
    arms = [arm for arm in records.protocol.arms if arm.name.startswith(begins) and " " not in arm.name[len(begins) :]]
    return {int(arm.name[len(begins) :]): gains[arm.name] for arm in arms if arm.name in gains}


def _by_k(records: Records, task: str, name: str) -> dict[int, Interval]:
    """The gains of the update that is cut in a set over the whole one, from the answers of each seed."""
    rows = [row for row in records.rows[NAME] if (row["condition"], row["set"]) == (task, name)]
    right = {(row["k"], row["seed"]): row["correct"].astype(float) for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    sizes = [k for k in dict.fromkeys(row["k"] for row in rows) if k != WHOLE]
    return {
        int(k): crossed(np.stack([right[k, seed] - right[WHOLE, seed] for seed in seeds])).interval() for k in sizes
    }


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A row of panels for each task: left over LoRA's rank, right over k, a line for each set of matrices."""
    tasks, names = list(dict.fromkeys(table["task"])), list(dict.fromkeys(table["set"]))
    figure = style.canvas(style.PAGE, 1.2 + 2.1 * len(tasks))
    grid = figure.subplots(len(tasks), 2, squeeze=False, sharey="row")
    for row, task in zip(grid, tasks, strict=True):
        for axes, (side, (label, star)) in zip(row, SIDES.items(), strict=True):
            subset = table[(table["task"] == task) & (table["side"] == side)]
            _lines(axes, subset, names)
            facts = "; ".join(f"{name} {_short(subset, name)}" for name in names if name in set(subset["set"]))
            axes.set_title(style.wrapped(f"{score_label(task, subset)}: {star} of {facts}", 52))
            axes.set_xlabel(label if task == tasks[-1] else "")
        subset = table[table["task"] == task]
        margin_axis(row[0], subset[["mean", "low", "high"]].to_numpy(float), worse_by_margin(subset))
        row[0].set_ylabel("difference in score")
    count = int(table["seeds"].max())
    margin = float(table["margin"].iloc[0])
    scale = f"; {scale_of(margin)}" if margin > 0 else ""
    covered = f"95 % intervals over {count} seeds and test examples" if count > 1 else "one seed, no interval"
    text = f"left, from full fine-tuning; right, from the whole update; test, {covered}"
    text += f"; dashed: the margin{scale}. {NEIGHBOURS}"
    style.title(figure, f"{models_of(table)}: LoRA in some matrices, and the full update cut in the same\n{text}")
    style.legend(figure, grid[0][0], columns=5)
    return figure


def _lines(axes: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    for place, (name, look) in enumerate(zip(names, style.looks(len(names)), strict=True)):
        subset = rows[rows["set"] == name].sort_values("size")
        bars = [subset["mean"] - subset["low"], subset["high"] - subset["mean"]]
        fine = {"markersize": 3, "linewidth": 0.9, "elinewidth": 0.6, "label": name}
        style.bars(
            axes, subset["size"], subset["mean"], bars, style.spread_out(place, len(names), APART), **(look | fine)
        )
    for end in (0.0, worse_by_margin(rows)):
        axes.axhline(end, color="0.4", linewidth=0.8, linestyle="-" if end == 0 else "--", zorder=0)
    style.rank_axis(axes, sorted({int(size) for size in rows["size"]}))


def _short(rows: pd.DataFrame, name: str) -> str:
    return str(rows.loc[rows["set"] == name, "enough"].iloc[0]).partition(" (")[0]
