"""The third part of `python -m analysis planted`: a rank that is planted in every matrix of a model at once.

The table is made by `python -m experiments.planted_everywhere`, which trains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.errors import ConfigError

from . import estimates, style
from .planted_trained import octaves

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NAME = "planted_everywhere"
MARGIN = 0.02
"""What a cut may lose of the whole update's share of right answers."""
K_STAR = "k*, all matrices cut at once"
NAMES = (K_STAR, "effective rank", "stable rank", "participation ratio", "90 % of the energy")
RIGHT = "right"
"""The quantity of the share of right answers."""
NOISES = {math.inf: "no noise", 3.0: "iid noise, a third of the signal's norm"}


def read(folder: Path) -> tuple[pd.DataFrame | None, str]:
    """The rows of the table, or why there are none to draw."""
    import pandas as pd

    path, what = folder / f"{NAME}.csv", "a rank in every matrix is not drawn"
    if not path.is_file():
        return None, f"{what}: there is no table at {path}; type: python -m experiments.planted_everywhere"
    return pd.read_csv(path), ""


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per noise, planted rank and estimator.

    Columns: ratio (‖signal‖ over ‖noise‖), rank (planted), estimator, draws, mean, low, high (of the estimates: their
    mean, least and most), error (mean octaves from the planted rank), whole, without (share of right answers with the
    whole update and with none, mean over draws).
    """
    import pandas as pd

    lacking = rows["value"].isna() | rows.duplicated(["ratio", "rank", "draw", "quantity", "k"])
    keys = ["ratio", "rank", "draw"]
    sizes = list(rows.groupby(keys).size())
    is_whole = len(set(sizes)) == 1 and len(sizes) == math.prod(rows[keys].nunique())
    known = set(rows["ratio"]) == set(NOISES) and set(rows["quantity"]) == {RIGHT, *NAMES[1:]}
    if lacking.any() or not (is_whole and known):
        raise ConfigError(f"{NAME}.csv has holes, or rows twice; type: python -m experiments.planted_everywhere")
    made = []
    for (ratio, _), cell in rows.groupby(["ratio", "rank"], sort=False):
        planted = int(cell["rank"].iloc[0])
        right = cell[cell["quantity"] == RIGHT].pivot_table(index="draw", columns="k", values="value")
        found = {K_STAR: [k_star(dict(zip(right.columns, scores, strict=True))) for _, scores in right.iterrows()]}
        found |= {name: list(cell.loc[cell["quantity"] == name, "value"]) for name in NAMES[1:]}
        ends = {"whole": right.iloc[:, -1].mean(), "without": right.iloc[:, 0].mean()}
        for name, values in found.items():
            spread = {"draws": len(values), "mean": sum(values) / len(values), "low": min(values), "high": max(values)}
            error = sum(octaves(value, planted) for value in values) / len(values)
            made.append({"ratio": ratio, "rank": planted, "estimator": name} | spread | {"error": error} | ends)
    return pd.DataFrame(made)


def k_star(right: Mapping[Any, float]) -> float:
    """The smallest k from which on every cut that was tried loses at most `MARGIN` against the largest k, the whole.

    >>> k_star({0: 0.3, 1: 0.9, 2: 0.8, 4: 0.9, 8: 0.91})
    4
    """
    whole = right[max(right)]
    enough = max(right)
    for k in sorted(right, reverse=True):
        if right[k] < whole - MARGIN:
            break
        enough = k
    return enough


def summary(rows: pd.DataFrame) -> list[str]:
    """A line per noise and estimator: how far it is from the planted rank, below full rank."""
    low = rows[rows["rank"] < rows["rank"].max()]
    lines = [f"the same rank in every matrix, up to {low['rank'].max()}; mean error in octaves:"]
    for (ratio, name), of in low.groupby(["ratio", "estimator"], sort=False):
        lines.append(f"  {name + ', ' + NOISES[ratio].partition(',')[0]:<50}{of['error'].mean():.2f}")
    return lines


@style.styled
def draw(rows: pd.DataFrame) -> Figure:
    """A panel per noise: the estimates over the planted rank, their range over draws, and the diagonal."""
    figure = style.canvas(style.PAGE, 4.0)
    panels = figure.subplots(1, len(NOISES), sharex=True, sharey=True)
    for axes, (ratio, words) in zip(panels, NOISES.items(), strict=True):
        estimates.ranges(axes, rows[rows["ratio"] == ratio], NAMES)
        axes.set_title(words)
        axes.set_xlabel("planted rank, directions")
    estimates.planted_axes(panels[0], sorted({int(rank) for rank in rows["rank"]}))
    stars = rows[(rows["estimator"] == K_STAR) & (rows["rank"] < rows["rank"].max())]
    errors = [f"{stars.loc[stars['ratio'] == ratio, 'error'].mean():.2f}" for ratio in NOISES]
    style.title(
        figure,
        f"MiniLM, an update of known rank in every matrix at once: k* is {errors[0]} octaves from it without noise and "
        f"{errors[1]} with noise, in the mean below full rank; means and ranges over {int(rows['draws'].max())} draws",
    )
    style.legend(figure, panels[0], columns=3)
    return figure
