"""Test score against LoRA rank, with full fine-tuning as a band: what rank does LoRA need to match it?"""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

from analysis import style
from analysis.groups import CannotDraw, Group
from analysis.scores import interval, scores

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "test score against rank, with full fine-tuning as a band"


def table(group: Group) -> pd.DataFrame:
    """One row per run, as `scores.scores` gives it.

    Raises:
        CannotDraw: there is no run with a rank.
    """
    rows = scores(group, "test")
    if rows["rank"].isna().all():
        raise CannotDraw(f"there is no LoRA run; type {group.command('rank=4,8,16', '-m')}")
    return rows


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A line through each variant's means over seeds, a hollow mark per seed, and the band of full."""
    figure = style.canvas(style.COLUMN, 3.1)
    axes = figure.add_subplot()
    ranked, full = table[table["rank"].notna()], table[table["method"] == "full"]
    if len(full):
        _band(axes, full)
    variants = ranked.groupby("variant", sort=False)
    looks = zip(style.colours(len(variants))[::-1], cycle(style.MARKERS), cycle(style.LINES), strict=False)
    for (variant, rows), (colour, marker, line) in zip(variants, looks, strict=False):
        means = rows.groupby("rank")["score"].mean()
        label = f"{variant}: mean of seeds; hollow: each" if len(set(rows["seed"])) > 1 else variant
        axes.plot(means.index.astype(int), means, color=colour, marker=marker, linestyle=line, label=label)
        hollow: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "", "fillstyle": "none", "alpha": 0.6}
        axes.plot(rows["rank"].astype(int), rows["score"], **hollow)
    style.rank_axis(axes, sorted({int(rank) for rank in ranked["rank"]}))
    first = table.iloc[0]
    axes.set(xlabel="LoRA rank r", ylabel=f"{first['split']} {first['metric']}")
    style.title(figure, f"{first['model']} on {first['task']}: {first['split']} {first['metric']} by LoRA rank")
    style.legend(figure, axes, columns=1)
    return figure


def _band(axes: Axes, full: pd.DataFrame) -> None:
    low, high, words = interval(full)
    axes.axhline(full["score"].mean(), color="0.25", linewidth=1, label=f"full fine-tuning, {words}")
    if low < high:
        axes.axhspan(low, high, color="0.88", zorder=0, linewidth=0)
