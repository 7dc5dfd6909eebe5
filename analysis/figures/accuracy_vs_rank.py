"""Test score against rank, with full fine-tuning as a band: what rank does a method need to match it?"""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

from .. import style
from ..groups import CannotDraw, Group
from ..scores import BEFORE, CROSSED, interval, mark_collapsed, score_label, scores, with_baselines
from ..variants import REFERENCE, best_of, collapsed, of_collapsed, shared

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "test score against rank, with full fine-tuning as a band"


def table(group: Group) -> pd.DataFrame:
    """One row per run, as `scores.scores` gives it, with the model's scores before training where there are any.

    Raises:
        CannotDraw: there is no run with a rank.
    """
    rows = scores(group, "test")
    if rows["rank"].isna().all():
        raise CannotDraw(f"there is no run with a rank; type {group.command('rank=4,8,16')}")
    return with_baselines(rows, group)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A line through each variant's means over seeds, a hollow mark per seed, and the band of the reference. A method
    without a rank is a level line, and so is a score before training, a thin one."""
    figure = style.canvas(style.COLUMN, 2.7 + 0.3 * table["variant"].nunique())
    axes = figure.add_subplot()
    others, full = table[table["method"] != REFERENCE], table[table["method"] == REFERENCE]
    if len(full):
        _band(axes, full)
    variants = others.groupby("variant", sort=False)
    looks = zip(style.colours(len(variants))[::-1], cycle(style.MARKERS), cycle(style.LINES), strict=False)
    for (variant, rows), (colour, marker, line) in zip(variants, looks, strict=False):
        several = "mean of seeds; hollow: each" if len(set(rows["seed"])) > 1 else ""
        label = ": ".join(filter(None, (str(variant), several)))
        if rows["rank"].isna().all():
            axes.axhline(rows["score"].mean(), color=colour, linestyle=line, label=label + of_collapsed(rows))
            continue
        means = rows.groupby("rank")["score"].mean()
        axes.plot(means.index.astype(int), means, color=colour, marker=marker, linestyle=line, label=label)
        hollow: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "", "fillstyle": "none", "alpha": 0.6}
        axes.plot(rows["rank"].astype(int), rows["score"], **hollow)
    mark_collapsed(axes, others.dropna(subset="rank"), "rank")
    before = [column for column in map(str, table) if column.startswith(BEFORE)]
    for column, line in zip(before, cycle((":", "-.")), strict=False):
        axes.axhline(table[column].mean(), color="0.5", linewidth=0.7, linestyle=line, label=column.replace("_", " "))
    style.rank_axis(axes, sorted({int(rank) for rank in table["rank"].dropna()}))
    first = table.iloc[0]
    axes.set(xlabel="rank r", ylabel=score_label(f"{first['split']} {first['metric']}", table))
    heading = f"{first['model']} on {first['task']}: {first['split']} {first['metric']} by rank"
    style.title(figure, heading + shared(table) + collapsed(table, CROSSED))
    style.legend(figure, axes, columns=1)
    return figure


def _band(axes: Axes, full: pd.DataFrame) -> None:
    low, high, spread = interval(full)
    label = f"{full['variant'].iloc[0]}{best_of(full)}, {spread}{of_collapsed(full)}"
    axes.axhline(full["score"].mean(), color="0.25", linewidth=1, label=label)
    if low < high:
        axes.axhspan(low, high, color="0.88", zorder=0, linewidth=0)
