"""Test score against the number of parameters trained: what each point of accuracy costs."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

from .. import style
from ..groups import Group
from ..scores import CROSSED, mark_collapsed, score_label, scores
from ..variants import REFERENCE, best_of, collapsed, shared

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "test score against the parameters trained, the head included"


def table(group: Group) -> pd.DataFrame:
    """One row per run, as `scores.scores` gives it: `trainable` counts the head, `head` is its part."""
    return scores(group, "test")


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A mark per arm at its mean over seeds, a hollow mark per seed, the rank above as a number."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    figure = style.canvas(style.COLUMN, 2.7 + 0.3 * table["variant"].nunique())
    axes = figure.add_subplot()
    variants = table.groupby("variant", sort=False)
    looks = zip(style.colours(len(variants))[::-1], cycle(style.MARKERS), strict=False)
    for (variant, rows), (colour, marker) in zip(variants, looks, strict=False):
        chosen = best_of(rows) if rows["method"].iloc[0] == REFERENCE else ""
        _points(axes, rows, f"{variant}{chosen}", {"color": colour, "marker": marker, "linestyle": ""})
    mark_collapsed(axes, table, "trainable")
    for (rank, trainable), rows in table.groupby(["rank", "trainable"]):
        ends = rows.groupby("variant")[["score", "error"]].mean().sum(axis=1)
        top = max(rows["score"].max(), ends.max())
        axes.annotate(f"{rank:.0f}", (trainable, top), (0, 3), textcoords="offset points", ha="center")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())  # numbers between these would lie over each other
    axes.margins(x=0.1, y=0.12)
    first = table.iloc[0]
    bars = f"\n± 1 standard error, {first['examples']:,} examples" if table["error"].notna().any() else ""
    score = score_label(f"{first['split']} {first['metric']}", table)
    axes.set(xlabel="parameters trained, the head included", ylabel=f"{score}{bars}")
    heading = f"{first['model']} on {first['task']}: {first['split']} {first['metric']} by parameters"
    style.title(figure, heading + shared(table) + collapsed(table, CROSSED))
    style.legend(figure, axes, columns=1)
    return figure


def _points(axes: Axes, rows: pd.DataFrame, variant: str, look: dict[str, Any]) -> None:
    arms = rows.groupby("trainable")
    mean, number = arms["score"].mean(), "; number: rank" if rows["rank"].notna().any() else ""
    error = arms["error"].mean() if rows["error"].notna().any() else None
    axes.errorbar(mean.index, mean, error, elinewidth=0.8, capsize=2, label=f"{variant}{number}", **look)
    axes.plot(rows["trainable"], rows["score"], fillstyle="none", alpha=0.6, **look)
