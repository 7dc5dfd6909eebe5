"""The share that each base keeps, by rank, by directions and by dimension, a row of panels for each task."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lorax_lab.record.share import MOST

from ... import style
from .. import share
from ..bases import is_of_bases, places
from ..records import Records

LIMITS = (-20, 140)
"""Per cent that are drawn."""


def table(records: Records) -> pd.DataFrame | None:
    """`share.table` with the columns base and learned, the task; None where the bases are no factor of the study, or
    nothing is learned."""
    rows = share.table(records) if is_of_bases(records) else None
    if rows is None:
        return None
    names = {condition: (base, task) for condition, base, task, _ in places(records)}
    bases, learned = zip(*(names[condition] for condition in rows["task"]), strict=True)
    return rows.assign(base=bases, learned=learned)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A row for each task, a column for each side, a line for each base that learns the task."""
    tasks, bases = (list(dict.fromkeys(table[column])) for column in ("learned", "base"))
    sides = [side for side in share.SIDES if (table["side"] == side).any()]
    figure = style.canvas(style.PAGE, 1.2 + 1.6 * len(tasks))
    grid = figure.subplots(len(tasks), len(sides), sharey=True, sharex="col", squeeze=False)
    for row, task in zip(grid, tasks, strict=True):
        for axes, side in zip(row, sides, strict=True):
            rows = table[(table["learned"] == task) & (table["side"] == side)]
            for base, look, shift in style.lines(bases, 1.6):
                points = rows[rows["base"] == base].sort_values("size")
                ends = [np.clip(100 * points[f"share{end}"].to_numpy(float), *LIMITS) for end in ("", "_low", "_high")]
                look |= {"capsize": 1.5, "elinewidth": 0.7, "markersize": 3.5, "label": base}
                style.bars(axes, points["size"], *ends, shift=shift, **look)
            axes.axhline(100, color="0.3", linewidth=0.8, zorder=0)
            axes.axhline(100 * MOST, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
            axes.set_ylim(*LIMITS)
        row[0].set_ylabel(f"{task}: share, %")
    for axes, side in zip(grid[-1], sides, strict=True):
        sizes = sorted({int(size) for size in table.loc[table["side"] == side, "size"]})
        style.rank_axis(axes, sizes)
        axes.set_xlabel(SHORT[side])
    text = "share kept of what full fine-tuning brings on the same base; 95 % intervals over seeds and examples"
    return style.finish(figure, text, grid[0][0], columns=4)


SHORT = {"rank": "rank of LoRA", "k": "directions kept, k", "dimension": "dimension d"}


def claim(table: pd.DataFrame) -> str:
    """From which rank on LoRA keeps 90 % in the mean, by base, over the tasks that it learns."""
    parts = []
    for base, rows in table[table["side"] == "rank"].groupby("base", sort=False):
        of_tasks = rows.groupby("learned", sort=False)
        sizes = {str(task): share.enough(of_task, MOST).mean or "none" for task, of_task in of_tasks}
        parts.append(f"{base} {', '.join(f'{size} on {task}' for task, size in sizes.items())}")
    return f"Rank from which on LoRA keeps {100 * MOST:.0f} % in the mean: {'; '.join(parts)}"
