"""LoRA in some matrices over its rank, and the full update cut in the same matrices (Tables 6 and 15 of the paper)."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorax_lab.record.clusters import GROUPS, pooled
from lorax_lab.record.statistics import Interval, crossed, smallest

from ... import style
from ...scores import intervals_over, score_label, worse_by_margin
from .. import comparison
from ..records import Records, models_of

TITLE = "LoRA in some matrices over its rank, and the full update cut in the same (Tables 6 and 15 of the LoRA paper)"
NAME = "sets"
"""Of the rows that `lorax_lab.afterwards.sets` makes."""
WHOLE = "whole"
EVERY, PLAIN = "all", "LoRA"
"""The set of all matrices, and how its arms begin."""
SIDES = {"rank": ("rank of LoRA in these matrices", "r*"), "k": ("directions kept of the full update, k", "k*")}
LINEAR = 2.0
"""Up to this multiple of the margin an axis of differences is linear, beyond it logarithmic."""
TICKS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Multiples of the margin that have a tick there."""
APART = 2.4
NEIGHBOURS = "The other matrices have no update on the left, and all of theirs on the right"


def table(records: Records) -> pd.DataFrame | None:
    """One row for each task, set of matrices, side (`rank` or `k`) and size; None where the sets were not cut.

    Columns: `mean`, `low`, `high` of the difference on test, from full fine-tuning or from the whole update, in the
    metric's own direction, over seeds and test examples; `within` the margin surely; `enough`, r* or k* of the set.
    """
    margin, rows = records.protocol.margin, []
    for task, name in dict.fromkeys((row["condition"], row["set"]) for row in records.rows.get(NAME, ())):
        for side, gains in (("rank", _by_rank(records, task, name)), ("k", _by_k(records, task, name))):
            for size, gain in sorted(gains.items()):
                shown = gain.oriented(records.higher_is_better(task))
                row = {"task": task, "set": name, "side": side, "size": size}
                row |= {"mean": shown.mean, "low": shown.low, "high": shown.high, "seeds": shown.count}
                rows.append(row | {"within": gain.low > -margin, "enough": str(smallest(gains, margin))})
    return pd.DataFrame(rows).assign(margin=margin) if rows else None


def _by_rank(records: Records, task: str, name: str) -> dict[int, Interval]:
    """The gains of the arms of a set that differ in their rank alone."""
    begins, gains = f"{PLAIN if name == EVERY else name} r=", comparison.gains(records, task)
    arms = [arm.name for arm in records.protocol.arms if arm.name.startswith(begins) and arm.name in gains]
    ranks = {arm: arm.removeprefix(begins) for arm in arms}
    return {int(rank): gains[arm] for arm, rank in ranks.items() if " " not in rank}


def _by_k(records: Records, task: str, name: str) -> dict[int, Interval]:
    """The gains of the update that is cut in a set over the whole one, from the answers of each seed."""
    rows = [row for row in records.rows[NAME] if (row["condition"], row["set"]) == (task, name)]
    reference = comparison.seeds_of(records, task, records.protocol.reference).values()
    groups = next((line[GROUPS] for line in reference if GROUPS in line), None)
    right = {(row["k"], row["seed"]): pooled(row["correct"].astype(float), groups) for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    sizes = [k for k in dict.fromkeys(row["k"] for row in rows) if k != WHOLE]
    differences = {int(k): np.stack([right[k, seed] - right[WHOLE, seed] for seed in seeds]) for k in sizes}
    return {k: crossed(by_seed).interval() for k, by_seed in differences.items()}


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A row of panels for each task: left over LoRA's rank, right over k, a line for each set of matrices."""
    by_task, names = table.groupby("task", sort=False), list(dict.fromkeys(table["set"]))
    figure = style.canvas(style.PAGE, 1.2 + 2.1 * len(by_task))
    grid = figure.subplots(len(by_task), 2, squeeze=False, sharey="row")
    for panels, (task, task_rows) in zip(grid, by_task, strict=True):
        for axes, (side, (_, star)) in zip(panels, SIDES.items(), strict=True):
            rows = task_rows[task_rows["side"] == side]
            _lines(axes, rows, names)
            stars = rows.groupby("set", sort=False)["enough"].first().str.partition(" (")[0]
            facts = "; ".join(f"{name} {stars[name]}" for name in names if name in stars)
            axes.set_title(style.wrapped(f"{score_label(str(task), rows)}: {star} of {facts}", 52))
        _margin_axis(panels[0], task_rows[["mean", "low", "high"]].to_numpy(float), worse_by_margin(task_rows))
        panels[0].set_ylabel("difference in score")
    for axes, (label, _) in zip(grid[-1], SIDES.values(), strict=True):
        axes.set_xlabel(label)
    margin = float(table["margin"].iloc[0])
    scale = f"; scale: linear up to {LINEAR * margin:g}, then logarithmic" if margin > 0 else ""
    text = f"{models_of(table)}: left, LoRA from full fine-tuning; right, the cut update from the whole one; test, "
    text += f"{intervals_over(table, ' and test examples')}; dashed: the margin{scale}. {NEIGHBOURS}"
    return style.finish(figure, text, grid[0][0], columns=5)


def _lines(axes: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    for name, look, shift in style.lines(names, APART):
        points = rows[rows["set"] == name].sort_values("size")
        look |= {"markersize": 3, "linewidth": 0.9, "elinewidth": 0.6, "label": name}
        style.bars(axes, points["size"], points["mean"], points["low"], points["high"], shift=shift, **look)
    style.zero_and_margin(axes, worse_by_margin(rows), zorder=0)
    style.rank_axis(axes, sorted({int(size) for size in rows["size"]}))


def _margin_axis(axes: Axes, values: np.ndarray, worse: float) -> None:
    """An axis that holds differences: linear around 0, logarithmic beyond, so that the margin is seen beside large
    losses."""
    margin = abs(worse)
    if not margin > 0:
        return
    axes.set_yscale("symlog", linthresh=LINEAR * margin, linscale=0.8)
    finite = values[np.isfinite(values)]
    low, high = min(0.0, worse, *finite), max(0.0, worse, *finite)
    low, high = (end + math.copysign(0.2 * margin + 0.25 * abs(end), way) for end, way in ((low, -1), (high, 1)))
    ticks = [sign * times * margin for times in TICKS for sign in (-1, 1)]
    shown = sorted({0.0, *(tick for tick in ticks if low <= tick <= high)})
    axes.set_ylim(low, high)
    axes.set_yticks(shown, [f"{tick:g}".replace("-", "−") for tick in shown])
    axes.minorticks_off()
