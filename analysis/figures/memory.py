"""Memory at the peak of one training step, by category: how much does a lower rank save, and where?"""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from .. import style
from ..groups import Group
from ..variants import choice, collapsed, of_collapsed, shared

TITLE = "peak memory of a training step, by category"
CATEGORIES = ("weights", "gradients", "optimizer_states", "activations", "temporaries")
PREFIX = "memory.by_category."
MOST = 24
"""Most bars. If there are more arms, only the best variant of each method and rank is drawn. The table has all arms."""
WIDTH = 34
"""Most letters of an arm's name on a line."""
LINE = 0.13
"""Inches that a line of an arm's name takes."""


def table(group: Group) -> pd.DataFrame:
    """One row per run and category, MiB (2²⁰ bytes); `phase` is where the peak fell, `batch` the inputs' shape."""
    shapes = group.runs["memory.batch_shape"]  # that of images or sounds is not in tokens
    batches = [" × ".join(map(str, shape)) + " tokens" * (len(shape) == 2) for shape in shapes]
    rows = group.runs.assign(**group.title, batch=batches).astype({"rank": "Int64"})
    rows = rows.rename(columns={"memory.phase": "phase"} | {PREFIX + category: category for category in CATEGORIES})
    places = [*group.title, *group.columns, "best", "batch", "phase"]
    rows = rows.melt(places, [*CATEGORIES], "category", "mib")
    return rows.assign(mib=rows["mib"] / 2**20)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A bar per arm, the mean over its seeds, stacked and hatched by category, with its total at the end."""
    few = table["arm"].nunique() <= MOST
    rows = table if few else table[table["best"]]
    arms = list(dict.fromkeys(rows["arm"]))
    names = [style.wrapped(f"{arm}{of_collapsed(rows[rows['arm'] == arm])}", WIDTH) for arm in arms]
    lines = max(name.count("\n") + 1 for name in names)
    figure = style.canvas(style.PAGE, 1.3 + max(0.27, 0.05 + LINE * lines) * len(arms))
    axes = figure.add_subplot()
    left = [0.0] * len(arms)
    looks = zip(style.distinct(len(CATEGORIES)), style.HATCHES, strict=True)
    for category, (colour, hatch) in zip(CATEGORIES, looks, strict=True):
        means = rows[rows["category"] == category].groupby("arm")["mib"].mean()
        widths = [float(means[arm]) for arm in arms]
        look: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0, "height": 0.7}
        axes.barh(range(len(arms)), widths, left=left, label=category.replace("_", " "), **look)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, total in enumerate(left):
        axes.annotate(f"{total:,.0f}", (total, place), (3, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(arms)), names)
    axes.invert_yaxis()
    axes.margins(x=0.08)
    first = rows.iloc[0]
    axes.set(xlabel="memory at the peak, MiB")
    heading = f"{first['model']} on {first['task']}: a training step of {first['batch']}"
    heading += shared(table) + ("" if few else choice(table)) + collapsed(rows)
    return style.finish(figure, heading, axes, columns=5)
