"""Test score against the number of parameters trained: what each point of accuracy costs."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from .. import constant, style
from ..groups import Group
from ..scores import draw_variant, finish, frame, interval, scores
from ..variants import REFERENCE, best_of

TITLE = "test score against the parameters trained, the head included"


def table(group: Group) -> pd.DataFrame:
    """One row per run, as `scores.scores` gives it: `trainable` counts the head, `head` is its part; and what one
    answer for every input scores."""
    return constant.with_constant(scores(group, "test"), group)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A mark per arm as `scores.draw_variant` draws it; the rank above as a number. Variants stand beside each
    other."""
    figure, axes = frame(table)
    variants = table.groupby("variant", sort=False)
    ranked = [name for name, rows in variants if rows["rank"].notna().any()]
    for (variant, rows), look in zip(variants, style.looks(len(variants)), strict=True):
        is_reference = rows["method"].iloc[0] == REFERENCE
        place = ranked.index(variant) if variant in ranked else (len(ranked) - 1) / 2
        shift = style.spread_out(place, max(len(ranked), 1), 2 * style.BESIDE)
        look |= {"linestyle": ""} | ({"color": "black"} if is_reference else {})
        draw_variant(axes, rows, "trainable", f"{variant}{best_of(rows) if is_reference else ''}", shift, **look)
    for (rank, trainable), rows in table.groupby(["rank", "trainable"]):
        tops = [interval(part)[1] for _, part in rows.groupby("variant")]
        top = max([rows["score"].max(), *(end for end in tops if end == end)])
        axes.annotate(f"{rank:.0f}", (trainable, top), (0, 3), textcoords="offset points", ha="center")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())  # numbers between these would lie over each other
    axes.margins(x=0.1, y=0.12)
    axes.set_xlabel("parameters trained, the head included")
    constant.draw_line(axes, table, axes)
    return finish(figure, table, "parameters" + ("\nnumber: rank" if table["rank"].notna().any() else ""))
