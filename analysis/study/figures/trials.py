"""The choice of each arm's learning rate."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from lorax_lab.record.direction import oriented

from ... import constant, style
from ...scores import cross, higher_is_better, score_label, short, split_label
from ...variants import COLLAPSED
from .. import comparison
from ..records import Records, models_of

TITLE = "the choice of each arm's learning rate"
CROSSED, DIVERGED, CHOSEN = "a trial collapsed", "a trial diverged", "chosen, with its score"
LINE, BAR = 0.17, 0.8
"""Inches of an arm's line, and of the bar of colours."""
SQUARE: dict[str, Any] = {"marker": "s", "s": 46, "linewidths": 0.9}


def table(records: Records) -> pd.DataFrame:
    """`comparison.trials`, with what one answer for every input scores on validation."""
    return constant.with_constants(records, comparison.trials(records), "validation")


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel per task: a line of squares per arm, each a learning rate, darker the more score it loses against the
    arm's best."""
    by_task, arms = table.groupby("task", sort=False), list(dict.fromkeys(table["arm"]))
    figure, panels = style.panels(len(by_task), 0.55 + LINE * len(arms), "learning rate", "", room=0.9 + BAR)
    rates = means(table)
    rates["place"] = rates["arm"].map(arms.index)
    norm = PowerNorm(0.5, vmin=0, vmax=max(float(rates["lost"].max()), 1e-3))
    for axes, (task, rows) in zip(panels, by_task, strict=True):
        _panel(axes, rates[rates["task"] == task], norm, panels[0])
        answer = constant.of_rows(rows)
        level = f"\n{answer[1]}: {short(answer[0])}" if answer else ""
        axes.set_title(score_label(str(task), rows, "\n") + level)
    panels[0].set_yticks(range(len(arms)), arms)
    panels[0].set_ylim(len(arms) - 0.4, -0.6)
    place: dict[str, Any] = {"location": "bottom", "shrink": 0.5, "aspect": 40, "pad": 0.2 / figure.get_figheight()}
    bar = figure.colorbar(ScalarMappable(norm, style.PALETTE), ax=panels, **place)
    ticks = norm.inverse(np.linspace(0, 1, 6)).tolist()  # evenly spaced: round numbers would meet near 0
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
    bar.minorticks_off()
    bar.set_label(f"score on {split_label('validation', table)} lost against the arm's best rate")
    count = table["seed"].nunique()
    text = f"the choice of each arm's learning rate, by the mean of {count} seed{'s' * (count > 1)}"
    return style.finish(figure, f"{models_of(table)}: {text}", panels[0], columns=4)


def means(table: pd.DataFrame) -> pd.DataFrame:
    """One row per task, arm and rate: the mean score, what it loses against the arm's best, and how its trials ended.
    A rate of which a trial diverged has no mean."""
    rows = table.assign(**{COLLAPSED: table.get(COLLAPSED, False)}, lacks=table["status"] != "completed")
    by_rate = rows.groupby(["task", "arm", "learning_rate"], sort=False)
    scores = by_rate["validation"].mean().mask(by_rate["lacks"].any())
    facts = scores.rename("mean").reset_index()
    facts["chosen"], facts[COLLAPSED] = by_rate["chosen"].any().to_numpy(), by_rate[COLLAPSED].any().to_numpy()
    higher = dict(table.groupby("task").apply(higher_is_better))
    facts["gain"] = [oriented(mean, higher[task]) for mean, task in zip(facts["mean"], facts["task"], strict=True)]
    best = facts.groupby(["task", "arm"], sort=False)["gain"].transform("max")
    return facts.assign(lost=best - facts["gain"])


def _panel(axes: Axes, rows: pd.DataFrame, norm: PowerNorm, legend: Axes) -> None:
    scored, diverged, chosen = rows[rows["mean"].notna()], rows[rows["mean"].isna()], rows[rows["chosen"]]
    axes.set_xscale("log")
    axes.scatter(scored["learning_rate"], scored["place"], c=scored["lost"], cmap=style.PALETTE, norm=norm, **SQUARE)
    frame = SQUARE | {"facecolor": "none", "edgecolor": "black", "s": 70}
    axes.scatter(chosen["learning_rate"], chosen["place"], label=CHOSEN if axes is legend else "_", **frame)
    right: dict[str, Any] = {"textcoords": "offset points", "va": "center_baseline", "ha": "left"} | style.halo()
    for mean, place in zip(chosen["mean"], chosen["place"], strict=True):
        axes.annotate(short(mean), (1.0, place), (2, 0), xycoords=("axes fraction", "data"), **right)
    if len(diverged):
        empty = SQUARE | {"facecolor": "none", "edgecolor": "0.6"}
        axes.scatter(diverged["learning_rate"], diverged["place"], **empty)
        if DIVERGED not in legend.get_legend_handles_labels()[1]:
            legend.scatter([], [], label=DIVERGED, **empty)
    collapsed = scored[scored[COLLAPSED]]
    cross(axes, collapsed["learning_rate"], collapsed["place"], legend, CROSSED)
    axes.tick_params(axis="y", length=0)
