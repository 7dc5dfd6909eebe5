"""Every measure of the updates against the rank, means over a run's matrices, beside what noise has.

`spectra.MEASURES` says which measures there are: a new one has its panel, and its rows in the table, by itself.
"""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import style
from ..groups import NULL, CannotDraw, Group
from ..variants import REFERENCE, collapsed, shared

TITLE = "every measure of the update against the rank, beside that of noise"


def table(group: Group) -> pd.DataFrame:
    """One row per run and measure: its mean over the run's matrices, NaN where one of them has none, and in `null` that
    of noise of the same shapes and rank, NaN where that of the method is not known.

    Raises:
        CannotDraw: no matrix was measured.
    """
    from lorax_lab.record.measures import LIKE_NOISE

    means = group.measures
    if means.empty:
        raise CannotDraw(f"no update was measured; type {group.command('rank=4,8,16')}")
    runs = group.runs[["run_id", *group.columns]].merge(means, on="run_id").astype({"rank": "Int64"})
    parts = []
    for name in (column for column in map(str, means) if not column.startswith(NULL)):
        null = runs[NULL + name] if NULL + name in runs else pd.Series(float("nan"), runs.index)
        null = null.where(runs["method"].isin(LIKE_NOISE))  # what another method makes of noise depends on its form
        parts.append(runs[group.columns].assign(measure=name, value=runs[name], null=null))
    rows = pd.concat(parts, ignore_index=True).assign(**group.title)
    return rows[[*group.title, *group.columns, "measure", "value", "null"]]


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel for each measure: a line for each variant over its ranks, with the range of its seeds; a method without a
    rank is a level. The hollow points and dotted lines are of noise."""
    measures = list(dict.fromkeys(table["measure"]))
    figure, panels = style.panels(len(measures), 1.7, "rank r", "directions")
    ranks = sorted({int(rank) for rank in table["rank"].dropna()})
    variants = list(dict.fromkeys(table["variant"]))
    looks = dict(zip(variants, style.looks(len(variants)), strict=True))
    for axes, measure in zip(panels, measures, strict=True):
        for variant, rows in table[table["measure"] == measure].groupby("variant", sort=False):
            _line(axes, rows, looks[str(variant)])
        axes.set_title(measure.replace("_", " "))
    if ranks:
        style.rank_axis(panels[0], ranks)
    panels[0].set_yscale("log", base=2)
    panels[0].yaxis.set_major_formatter("{x:g}")
    first = table.iloc[0]
    heading = f"{first['model']} on {first['task']}: measures of ΔW, mean over its matrices; dotted: noise"
    return style.finish(figure, heading + shared(table) + collapsed(table), panels[0], columns=2)


def _line(axes: Axes, rows: pd.DataFrame, look: dict[str, Any]) -> None:
    variant, colour = rows["variant"].iloc[0], look["color"]
    if rows["rank"].isna().all():
        black = {"color": "black"} if rows["method"].iloc[0] == REFERENCE else {"color": colour}
        axes.axhline(rows["value"].mean(), label=variant, linestyle=look["linestyle"], **black)
        axes.axhline(rows["null"].mean(), linestyle=":", linewidth=0.8, **black)
        return
    by_rank = rows.astype({"rank": int}).groupby("rank")
    means, low, high = by_rank["value"].mean(), by_rank["value"].min(), by_rank["value"].max()
    style.bars(axes, means.index, means, low, high, label=variant, capsize=2, **look)
    axes.plot(by_rank["null"].mean(), color=colour, linestyle=":", linewidth=0.8, marker=look["marker"], mfc="white")
