"""Scores of a grid against the learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .. import style
from .comparison import Group
from .table import FULL

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 2.3
"""Inches of a row of panels."""
MOST_NAMED, ACROSS, LEGEND_LINES, LEGEND_LINE = 40, 5, 3, 0.17
"""Arms of which each has its name in the legend; columns of the legend; its lines for which a figure has room, and the
inches that another takes."""
BEST = "the best rate"
REFERENCE: dict[str, Any] = {"color": "black", "linestyle": "--", "marker": "s"}
OFF, ROOM = 4.0, 0.08
"""How many times as far from the best score as the median is an axis reaches, with a line going off it beyond; the room
at its ends, as a share."""


def table(groups: list[Group], score: str, higher_is_better: bool, remark: str) -> pd.DataFrame:
    """One row per run that chose a rate: group, arm, method, rank, learning rate, seed, score (NaN where it failed),
    and whether its rate is the best one.

    Args:
        score: what the scores are, for the axis.
        remark: what the figure's title says first.
    """
    import pandas as pd

    rows = []
    for group in groups:
        for arm in group.arms:
            of = {"group": group.name, "arm": str(arm.arm), "method": arm.arm.method, "rank": arm.arm.rank}
            for rate, scores in arm.cells.items():
                at = {"learning_rate": rate, "best": rate == arm.best}
                for seed, value in scores.items():
                    rows.append(of | at | {"seed": seed, "score": math.nan if value is None else value})
    found = pd.DataFrame(rows).astype({"rank": "Int64"})
    return found.assign(higher_is_better=higher_is_better, axis=score, remark=remark)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel per group: the mean score of each arm over the learning rate, its seeds, and its best rate ringed."""
    groups = list(dict.fromkeys(table["group"]))
    rows, across = -(-len(groups) // 3), min(len(groups), 3)
    figure = style.canvas(style.PAGE, 1.0 + HEIGHT * rows * (1.4 if len(groups) == 1 else 1.0))
    panels = list(figure.subplots(rows, across, squeeze=False).flat)
    looks = _looks(table)
    for axes, name in zip(panels, groups, strict=False):
        _panel(axes, table[table["group"] == name], looks)
        axes.set_title(name if len(groups) > 1 else "", parse_math=False)
    for axes in panels[len(groups) :]:
        axes.remove()
    for place, axes in enumerate(panels[: len(groups)]):
        axes.set_xlabel("learning rate")
        axes.set_ylabel(table["axis"].iloc[0] if place % across == 0 else "", parse_math=False)
    seeds = "; small: its seeds" if table.duplicated(["group", "arm", "learning_rate"]).any() else ""
    off = "; a line that leaves the axis goes to a far worse score" if _any_off(table) else ""
    many = f"; {len(looks)} arms are too many for a legend, the table beside the figure names them"
    many = many if len(looks) > MOST_NAMED else ""
    style.title(figure, f"{table['remark'].iloc[0]}\nThe score that chooses each arm's learning rate{seeds}{off}{many}")
    _legend(figure, panels[0], table, looks)
    return figure


def _looks(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Settings of each arm's line: colour by rank, dashes and marks by method; full is black."""
    arms = table.drop_duplicates("arm")
    methods = [method for method in dict.fromkeys(arms["method"]) if method != FULL]
    ranks = sorted(set(arms["rank"].dropna()))
    shades = dict(zip(ranks, style.colours(len(ranks)), strict=True))
    of_method = dict(zip(methods, style.looks(len(methods)), strict=True))
    return {
        str(arm): REFERENCE
        if method == FULL
        else of_method[method] | ({"color": shades[rank]} if rank in shades else {})
        for arm, method, rank in zip(arms["arm"], arms["method"], arms["rank"], strict=True)
    }


def _panel(axes: Axes, rows: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    axes.set_xscale("log")
    for arm, of in rows.groupby("arm", sort=False):
        look = looks[str(arm)]
        scores = of.groupby("learning_rate")["score"]
        lacks = scores.size() < of["seed"].nunique(dropna=False)  # the rate does not count as tried
        means = scores.mean().mask(scores.apply(lambda column: column.isna().any()) | lacks)
        axes.plot(means.index, means, **look)
        if len(of) > len(means):
            axes.scatter(of["learning_rate"], of["score"], s=4, color=look["color"], alpha=0.6, zorder=3)
        best = of[of["best"]].groupby("learning_rate")["score"].mean()
        axes.scatter(best.index, best, s=70, facecolor="none", edgecolor=look["color"], linewidths=1.1, zorder=4)
        failed = sorted(set(of.loc[of["score"].isna(), "learning_rate"]))
        place = [0.03 if _is_higher(rows) else 0.97] * len(failed)
        axes.scatter(failed, place, marker="x", s=24, color=look["color"], transform=axes.get_xaxis_transform())
    known = rows["score"].dropna()
    if len(known):
        low, high = _ends(known, _is_higher(rows))
        room = ROOM * (high - low or abs(high) or 1.0)
        axes.set_ylim(low - room, high + room)


def _ends(scores: pd.Series[float], higher_is_better: bool) -> tuple[float, float]:
    """What an axis of scores shows: all, but no more than `OFF` times as far from the best one as the median is, so
    that a run that collapsed does not press the others together."""
    low, high, middle = float(scores.min()), float(scores.max()), float(scores.median())
    if middle == (high if higher_is_better else low):
        return low, high
    if higher_is_better:
        return max(low, high - OFF * (high - middle)), high
    return low, min(high, low + OFF * (middle - low))


def _any_off(table: pd.DataFrame) -> bool:
    for _, rows in table.dropna(subset=["score"]).groupby("group"):
        low, high = _ends(rows["score"], _is_higher(rows))
        if rows["score"].min() < low or rows["score"].max() > high:
            return True
    return False


def _is_higher(rows: pd.DataFrame) -> bool:
    return bool(rows["higher_is_better"].iloc[0])


def _legend(figure: Figure, axes: Axes, table: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    """Below the figure, which many arms make higher. Matplotlib leaves a label out that begins with `_`, so that a
    blank goes before it."""
    named = looks if len(looks) <= MOST_NAMED else {}
    for arm, look in named.items():
        axes.plot([], [], label=f" {arm}" if arm.startswith("_") else arm, **look)
    axes.scatter([], [], s=70, facecolor="none", edgecolor="0.3", label=BEST)
    if table["score"].isna().any():
        axes.scatter([], [], s=24, marker="x", color="0.3", label="a run failed")
    more = max(0, -(-(len(named) + 2) // ACROSS) - LEGEND_LINES)
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE * more)
    style.legend(figure, axes, columns=ACROSS)
