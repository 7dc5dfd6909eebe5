"""Memory at the peak of one training step, by what it holds: what does a lower rank save, and where?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis import style
from analysis.groups import Group

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "peak memory of a training step, by category"
CATEGORIES = ("weights", "gradients", "optimizer_states", "activations", "temporaries")
PREFIX = "memory.by_category."


def table(group: Group) -> pd.DataFrame:
    """One row per arm and category, MiB (2²⁰ bytes), the mean over seeds; `phase` is where the peak fell."""
    import pandas as pd

    rows = []
    for arm, runs in group.best.groupby("arm", sort=False):
        first = runs.iloc[0]
        about = group.title | {"batch": " × ".join(map(str, first["memory.batch_shape"])), "arm": arm}
        about |= {"method": first["method"], "rank": first["rank"], "phase": first["memory.phase"]}
        rows += [about | {"category": c, "mib": runs[PREFIX + c].mean() / 2**20} for c in CATEGORIES]
    return pd.DataFrame(rows).astype({"rank": "Int64"})


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A stacked bar per arm, hatched by category, its total on top."""
    arms = list(dict.fromkeys(table["arm"]))
    figure = style.canvas(max(style.COLUMN, 1 + 0.75 * len(arms)), 3.4)
    axes = figure.add_subplot()
    bottom = [0.0] * len(arms)
    looks = zip(style.colours(len(CATEGORIES)), style.HATCHES, strict=True)
    for category, (colour, hatch) in zip(CATEGORIES, looks, strict=True):
        heights = [float(mib) for mib in table[table["category"] == category]["mib"]]
        look: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0, "width": 0.7}
        axes.bar(range(len(arms)), heights, bottom=bottom, label=category.replace("_", " "), **look)
        bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
    for place, total in enumerate(bottom):
        axes.annotate(f"{total:,.0f}", (place, total), (0, 2), textcoords="offset points", ha="center")
    axes.set_xticks(range(len(arms)), [arm.replace(" ", "\n", 1) for arm in arms])
    axes.margins(y=0.1)
    first = table.iloc[0]
    axes.set(ylabel="memory at the peak, MiB")
    style.title(figure, f"{first['model']} on {first['task']}: a training step of {first['batch']} tokens")
    style.legend(figure, axes, columns=2)
    return figure
