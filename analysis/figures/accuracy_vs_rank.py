"""Test score against rank, and full fine-tuning as a band where it was run: what rank is enough to match it?"""

from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorax_lab.record.folder import HEAD_ALONE

from .. import constant, style
from ..groups import CannotDraw, Group
from ..scores import BEFORE, draw_variant, finish, frame, interval, scores, with_baselines
from ..variants import REFERENCE, best_of, of_collapsed

TITLE = "test score against rank"


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
    """A line through each variant's means, as `scores.draw_variant` draws it; the band of the reference. A method
    without a rank is a level line, and so is a score before training, and that of one answer for every input."""
    figure, axes = frame(table)
    if len(full := table[table["method"] == REFERENCE]):
        _band(axes, full)
    variants = table[table["method"] != REFERENCE].groupby("variant", sort=False)
    for (variant, rows), look, shift in style.lines(list(variants)):
        if rows["rank"].isna().all():
            level = {"color": look["color"], "linestyle": look["linestyle"]}
            axes.axhline(rows["score"].mean(), label=f"{variant}{of_collapsed(rows)}", **level)
        else:
            draw_variant(axes, rows, "rank", str(variant), shift, **look)
    constant.draw_line(axes, table, axes)
    before = [column for column in map(str, table) if column.startswith(BEFORE)]
    for column, line in zip(before, cycle((":", "-.")), strict=False):
        label = "head alone, fitted" if column == f"{BEFORE}{HEAD_ALONE}" else column.replace("_", " ")
        axes.axhline(table[column].mean(), color="0.5", linewidth=0.7, linestyle=line, label=label)
    style.rank_axis(axes, sorted({int(rank) for rank in table["rank"].dropna()}))
    axes.set_xlabel("rank r")
    return finish(figure, table, "rank")


def _band(axes: Axes, full: pd.DataFrame) -> None:
    low, high, spread = interval(full)
    label = f"{full['variant'].iloc[0]}{best_of(full)}, {spread}{of_collapsed(full)}"
    axes.axhline(full["score"].mean(), color="0.25", linewidth=1, label=label)
    if low < high:
        axes.axhspan(low, high, color="0.88", zorder=0, linewidth=0)
