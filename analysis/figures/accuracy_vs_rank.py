"""Test score against rank, and full fine-tuning as a band where it was run: what rank is enough to match it?"""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from .. import constant, style
from ..groups import CannotDraw, Group
from ..scores import (
    BEFORE,
    CROSSED,
    interval,
    intervals,
    mark_collapsed,
    score_label,
    scores,
    with_baselines,
    without_interval,
)
from ..variants import REFERENCE, best_of, collapsed, of_collapsed, shared

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "test score against rank"
FEW = 3
"""Up to so many variants have room in a column."""


def table(group: Group) -> pd.DataFrame:
    """One row per run, as `scores.scores` gives it, with the model's scores before training where there are any, and
    what one answer for every input scores.

    Raises:
        CannotDraw: there is no run with a rank.
    """
    rows = scores(group, "test")
    if rows["rank"].isna().all():
        raise CannotDraw(f"there is no run with a rank; type {group.command('rank=4,8,16')}")
    return constant.with_constant(with_baselines(rows, group), group)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A line through each variant's means, with the range of its seeds, which stand beside them, or the interval of one
    seed's examples; the band of the reference. A method without a rank is a level line, and so is a score before
    training, and that of one answer for every input."""
    count = table["variant"].nunique()
    width, height = (style.COLUMN, 2.7 + 0.3 * count) if count <= FEW else (style.PAGE, 3.6 + 0.15 * count)
    figure = style.canvas(width, height)
    axes = figure.add_subplot()
    others, full = table[table["method"] != REFERENCE], table[table["method"] == REFERENCE]
    if len(full):
        _band(axes, full)
    variants = others.groupby("variant", sort=False)
    for number, ((variant, rows), look) in enumerate(zip(variants, style.looks(len(variants)), strict=True)):
        if rows["rank"].isna().all():
            level = {"color": look["color"], "linestyle": look["linestyle"]}
            axes.axhline(rows["score"].mean(), label=f"{variant}{of_collapsed(rows)}", **level)
            continue
        several, shift = len(set(rows["seed"])) > 1, style.spread_out(number, len(variants), 2 * style.BESIDE)
        means, ends, spread = intervals(rows, "rank")
        label = f"{variant}: mean, {spread}; beside: each" if several else f"{variant}, {spread}"
        style.bars(axes, means.index.astype(int), means, ends, shift, label=label, capsize=2, **look)
        if several:
            beside = style.shifted(axes, shift + style.BESIDE)
            seeds = {"color": look["color"], "marker": look["marker"], "linestyle": "", "markersize": 2.5, "alpha": 0.6}
            axes.plot(rows["rank"].astype(int), rows["score"], transform=beside, **seeds)
        mark_collapsed(axes, rows, "rank", shift + several * style.BESIDE)
    constant.draw_line(axes, table, axes)
    before = [column for column in map(str, table) if column.startswith(BEFORE)]
    for column, line in zip(before, cycle((":", "-.")), strict=False):
        axes.axhline(table[column].mean(), color="0.5", linewidth=0.7, linestyle=line, label=column.replace("_", " "))
    style.rank_axis(axes, sorted({int(rank) for rank in table["rank"].dropna()}))
    first = table.iloc[0]
    axes.set(xlabel="rank r", ylabel=score_label(f"{first['split']} {first['metric']}", table))
    heading = f"{first['model']} on {first['task']}: {first['split']} {first['metric']} by rank"
    style.title(figure, heading + shared(table) + without_interval(table) + collapsed(table, CROSSED))
    style.legend(figure, axes, columns=1 if count <= FEW else 2)
    return figure


def _band(axes: Axes, full: pd.DataFrame) -> None:
    low, high, spread = interval(full)
    label = f"{full['variant'].iloc[0]}{best_of(full)}, {spread}{of_collapsed(full)}"
    axes.axhline(full["score"].mean(), color="0.25", linewidth=1, label=label)
    if low < high:
        axes.axhspan(low, high, color="0.88", zorder=0, linewidth=0)
