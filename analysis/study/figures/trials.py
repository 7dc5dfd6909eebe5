"""The choice of each arm's learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lorax_lab.record.direction import oriented

from ... import style
from ...constant import CONSTANT, IS
from ...scores import cross, higher_is_better, score_label, short, split_label
from ...variants import COLLAPSED
from .. import comparison
from ..constants import with_constants
from ..records import Records, models_of, with_direction, with_model

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CROSSED, DIVERGED, CHOSEN = "a trial collapsed", "a trial diverged", "chosen, with its score"
LINE, BAR = 0.17, 0.8
"""Inches of an arm's line, and of the bar of colours."""
SQUARE: dict[str, Any] = {"marker": "s", "s": 46, "linewidths": 0.9}


def table(records: Records) -> pd.DataFrame:
    """`comparison.trials`, with what one answer for every input scores on validation."""
    return with_model(
        records, with_direction(records, with_constants(records, comparison.trials(records), "validation"))
    )


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel per task: a line of squares per arm, each a learning rate, darker the more score it loses against the
    arm's best."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import PowerNorm

    tasks, arms = (list(dict.fromkeys(table[column])) for column in ("task", "arm"))
    figure, panels = style.panels(len(tasks), 0.55 + LINE * len(arms), "learning rate", "")
    figure.set_figheight(figure.get_figheight() + BAR)
    rates = means(table)
    norm = PowerNorm(0.5, vmin=0, vmax=max(float(rates["lost"].max()), 1e-3))
    for axes, task in zip(panels, tasks, strict=True):
        rows = rates[rates["task"] == task].assign(place=lambda subset: subset["arm"].map(arms.index))
        _panel(axes, rows, norm, panels[0])
        whole = table[table["task"] == task]
        axes.set_title(score_label(task, whole, "\n") + _constant(whole))
    panels[0].set_yticks(range(len(arms)), arms)
    panels[0].set_ylim(len(arms) - 0.4, -0.6)
    colour = ScalarMappable(norm, style.PALETTE)
    split = split_label("validation", table)
    bar = figure.colorbar(colour, ax=panels, location="bottom", shrink=0.5, aspect=40, pad=0.2 / figure.get_figheight())
    ticks = norm.inverse(np.linspace(0, 1, 6)).tolist()  # evenly spaced: round numbers would meet near 0
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
    bar.minorticks_off()
    bar.set_label(f"score on {split} lost against the arm's best rate")
    count = table["seed"].nunique()
    text = f"the choice of each arm's learning rate, by the mean of {count} seed{'s' * (count > 1)}"
    style.title(figure, f"{models_of(table)}: {text}")
    style.legend(figure, panels[0], columns=4)
    return figure


def means(table: pd.DataFrame) -> pd.DataFrame:
    """One row per task, arm and rate: the mean score, what it loses against the arm's best, and how its trials ended.
    A rate of which a trial diverged has no mean."""
    rows = table.assign(**{COLLAPSED: table.get(COLLAPSED, False)}, lacks=table["status"] != "completed")
    by_rate = rows.groupby(["task", "arm", "learning_rate"], sort=False)
    scores = by_rate["validation"].mean().mask(by_rate["lacks"].any())
    facts = scores.rename("mean").reset_index()
    facts["chosen"], facts[COLLAPSED] = by_rate["chosen"].any().to_numpy(), by_rate[COLLAPSED].any().to_numpy()
    higher = {task: higher_is_better(subset) for task, subset in table.groupby("task", sort=False)}
    facts["gain"] = [oriented(mean, higher[task]) for mean, task in zip(facts["mean"], facts["task"], strict=True)]
    best = facts.groupby(["task", "arm"], sort=False)["gain"].transform("max")
    return facts.assign(lost=best - facts["gain"])


def _panel(axes: Axes, rows: pd.DataFrame, norm: Any, legend: Axes) -> None:
    known, chosen = rows[rows["mean"].notna()], rows[rows["chosen"]]
    diverged = rows[rows["mean"].isna()]
    first = axes is legend
    axes.set_xscale("log")
    axes.scatter(known["learning_rate"], known["place"], c=known["lost"], cmap=style.PALETTE, norm=norm, **SQUARE)
    frame = SQUARE | {"facecolor": "none", "edgecolor": "black", "s": 70}
    axes.scatter(chosen["learning_rate"], chosen["place"], label=CHOSEN if first else "_", **frame)
    for _, row in chosen.iterrows():
        beside: dict[str, Any] = {"textcoords": "offset points", "va": "center_baseline", "ha": "left"} | style.halo()
        axes.annotate(short(row["mean"]), (1.0, row["place"]), (2, 0), xycoords=("axes fraction", "data"), **beside)
    if len(diverged):
        empty = SQUARE | {"facecolor": "none", "edgecolor": "0.6"}
        axes.scatter(diverged["learning_rate"], diverged["place"], label=DIVERGED, **empty)
        if not first and DIVERGED not in legend.get_legend_handles_labels()[1]:
            legend.scatter([], [], label=DIVERGED, **empty)
    subset = rows[rows[COLLAPSED] & rows["mean"].notna()]
    cross(axes, subset["learning_rate"], subset["place"], legend, CROSSED)
    axes.tick_params(axis="y", length=0)


def _constant(rows: pd.DataFrame) -> str:
    known = rows[rows[CONSTANT].notna()] if CONSTANT in rows else rows[:0]
    return f"\n{known[IS].iloc[0]}: {short(known[CONSTANT].iloc[0])}" if len(known) else ""
