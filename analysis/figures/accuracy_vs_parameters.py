"""Test score against the number of parameters trained: what each point of accuracy costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import constant, style
from ..groups import Group
from ..scores import CROSSED, intervals, mark_collapsed, score_label, scores, without_interval
from ..variants import REFERENCE, best_of, collapsed, shared

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "test score against the parameters trained, the head included"
FEW = 3
"""Up to so many variants have room in a column."""
CLOSE = 1.2
"""Numbers of parameters within this factor have one rank's number above them."""


def table(group: Group) -> pd.DataFrame:
    """One row per run, as `scores.scores` gives it: `trainable` counts the head, `head` is its part; and what one
    answer for every input scores."""
    return constant.with_constant(scores(group, "test"), group)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A mark per arm at its mean, with the range of its seeds, which stand beside it, or the interval of one seed's
    examples; the rank above as a number. Variants stand beside each other."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    count = table["variant"].nunique()
    width, height = (style.COLUMN, 2.7 + 0.3 * count) if count <= FEW else (style.PAGE, 3.6 + 0.15 * count)
    figure = style.canvas(width, height)
    axes = figure.add_subplot()
    variants = table.groupby("variant", sort=False)
    ranked = [name for name, rows in variants if rows["rank"].notna().any()]
    for (variant, rows), look in zip(variants, style.looks(len(variants)), strict=True):
        chosen = best_of(rows) if rows["method"].iloc[0] == REFERENCE else ""
        place = ranked.index(variant) if variant in ranked else (len(ranked) - 1) / 2
        shift = style.spread_out(place, max(len(ranked), 1), 2 * style.BESIDE)
        black = {"color": "black"} if rows["method"].iloc[0] == REFERENCE else {}
        _points(axes, rows, f"{variant}{chosen}", shift, look | {"linestyle": ""} | black)
    constant.draw_line(axes, table, axes)
    for rank, trainable, top in _numbers(table):
        axes.annotate(f"{rank:.0f}", (trainable, top), (0, 3), textcoords="offset points", ha="center")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())  # numbers between these would lie over each other
    axes.margins(x=0.1, y=0.12)
    first = table.iloc[0]
    score = score_label(f"{first['split']} {first['metric']}", table)
    axes.set(xlabel="parameters trained, the head included", ylabel=score)
    heading = f"{first['model']} on {first['task']}: {first['split']} {first['metric']} by parameters"
    number = "\nnumber: rank" if table["rank"].notna().any() else ""
    style.title(figure, heading + number + shared(table) + without_interval(table) + collapsed(table, CROSSED))
    style.legend(figure, axes, columns=1 if count <= FEW else 2)
    return figure


def _points(axes: Axes, rows: pd.DataFrame, variant: str, shift: float, look: dict[str, Any]) -> None:
    several, (means, ends, spread) = len(set(rows["seed"])) > 1, intervals(rows, "trainable")
    label = f"{variant}: mean, {spread}; beside: each" if several else f"{variant}, {spread}"
    style.bars(axes, means.index, means, ends, shift, label=label, elinewidth=0.8, capsize=2, **look)
    if several:
        beside = look | {"transform": style.shifted(axes, shift + style.BESIDE), "markersize": 2.5, "alpha": 0.6}
        axes.plot(rows["trainable"], rows["score"], **beside)
    mark_collapsed(axes, rows, "trainable", shift + several * style.BESIDE)


def _numbers(table: pd.DataFrame) -> list[tuple[float, float, float]]:
    """Each rank, where its number stands among the parameters, and above which score: once for all that lie close."""
    found = []
    for _, rows in table.groupby("rank"):
        places = sorted({float(trainable) for trainable in rows["trainable"]})
        while places:
            close = [place for place in places if place <= CLOSE * places[0]]
            of = rows[rows["trainable"].isin(close)]
            tops = [intervals(part, "trainable") for _, part in of.groupby("variant", sort=False)]
            top = max(float((means + high).max()) for means, (_, high), _ in tops)
            found.append((float(rows["rank"].iloc[0]), (close[0] * close[-1]) ** 0.5, top))
            places = [place for place in places if place not in close]
    return found
