"""What fine-tuning does to the loss on other texts, by arm: as trained, and at the norm of another arm's update."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ... import style
from ..records import Records
from ..statistics import Interval, crossed

TITLE = "what fine-tuning does to the loss on other texts, as trained and at another norm"
NAME = "forgetting"
BEFORE, TRAINED, AT_NORM = "before", "trained", "at the norm of"
"""Of the rows that `lorax_lab.afterwards.forgetting` makes."""
AS_TRAINED, GROWN, SHRUNK = SERIES = ("as trained", "grown to full's norm", "full, shrunk to this arm's norm")
Place = tuple[str, str, str, str]
"""Task, text, series, arm."""


def table(records: Records) -> pd.DataFrame | None:
    """One row for each task, text, series and arm; None where the study has no such rows.

    Columns: `series`, one of `SERIES` or what was taken away; `arm`, where full fine-tuning was shrunk the LoRA whose
    norm it has; `factor` and `removed` of `lorax_lab.afterwards.forgetting`, in the mean over seeds. `mean`, `low`,
    `high`: by how much the loss on the text rose, in nats a token. `full_more`, `full_more_low`, `full_more_high`: by
    how much more it rose with full fine-tuning, of the same norm in the last two series. Intervals are over seeds and
    test examples, and paired.
    """
    reference, rows = records.protocol.reference, list[dict[str, Any]]()
    facts, rises = _by_place(records)
    for place, rise in rises.items():
        task, text, series, arm = place
        row = dict(zip(("task", "text", "series", "arm"), place, strict=True)) | facts[place]
        row |= _numbers(("mean", "low", "high"), crossed(rise).interval())
        full, lora = (task, text, AS_TRAINED, reference), place
        if series == SHRUNK:
            full, lora = place, (task, text, AS_TRAINED, arm)
        more = rises[full] - rises[lora] if series in SERIES and full != lora else None
        ends = ("full_more", "full_more_low", "full_more_high")
        row |= dict.fromkeys(ends) if more is None else _numbers(ends, crossed(more).interval())
        rows.append(row | {"seeds": len(rise), "examples": rise.shape[1]})
    return pd.DataFrame(rows) if rows else None


def _numbers(names: tuple[str, ...], interval: Interval) -> dict[str, float]:
    return dict(zip(names, (interval.mean, interval.low, interval.high), strict=True))


def _by_place(records: Records) -> tuple[dict[Place, dict[str, Any]], dict[Place, np.ndarray]]:
    """Of each place its `factor` and `removed`, and by how much the loss rose, (seeds, examples): the linear part of
    the ratio of sums, whose mean is the rise in nats a token."""
    before, found = dict[tuple[str, str], Any](), defaultdict[Place, list[dict[str, Any]]](list)
    for row in records.rows.get(NAME, ()):
        if row["change"] == BEFORE:
            before[row["condition"], row["text"]] = row
        else:
            found[row["condition"], row["text"], *_series(row, records.protocol.reference)].append(row)
    facts, rises = {}, {}
    for place, rows in found.items():
        start = before[place[:2]]
        tokens = np.asarray(start["tokens"], float)
        rose = np.stack([row["nats"] - start["nats"] for row in sorted(rows, key=lambda row: int(row["seed"]))])
        rise = rose.sum(axis=1, keepdims=True) / tokens.sum()
        rises[place] = rise + (rose - rise * tokens) / tokens.mean()
        facts[place] = {key: _mean([row[key] for row in rows]) for key in ("factor", "removed")}
    return facts, rises


def _series(row: dict[str, Any], reference: str) -> tuple[str, str]:
    if row["change"] == AT_NORM:
        return (SHRUNK, row["of"]) if row["arm"] == reference else (GROWN, row["arm"])
    return (AS_TRAINED if row["change"] == TRAINED else row["change"]), row["arm"]


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A row of panels for each task, one for each text: the rise of the loss over the arms."""
    tasks, texts, arms = (list(dict.fromkeys(table[column])) for column in ("task", "text", "arm"))
    figure = style.canvas(style.PAGE, 1.4 + 1.9 * len(tasks))
    grid = figure.subplots(len(tasks), len(texts), sharex=True, squeeze=False)
    for panels, task in zip(grid, tasks, strict=True):
        for axes, text in zip(panels, texts, strict=True):
            rows = table[(table["task"] == task) & (table["text"] == text)]
            for series, look, shift in style.lines(SERIES):
                points = rows[rows["series"] == series]
                look |= {"linestyle": "none", "markersize": 3.5, "label": series}
                ends = (points[column] for column in ("mean", "low", "high"))
                style.bars(axes, points["arm"].map(arms.index), *ends, shift=shift, **look)
            axes.axhline(0, color="0.3", linewidth=0.8, zorder=0)
            axes.set_xlim(-0.6, len(arms) - 0.4)
            axes.set_xticks(range(len(arms)), [arm.removeprefix("LoRA ") for arm in arms], rotation=30)
            axes.set_title(style.wrapped(f"{task}: loss on {text}", 40))
        panels[0].set_ylabel("rise, nats a token")
    text = "rise of the loss on texts by fine-tuning; 95 % intervals over seeds and examples"
    return style.finish(figure, text, grid[0][0], columns=3)


def claim(table: pd.DataFrame) -> str:
    """How much more full fine-tuning raises the loss than LoRA, by text, as trained and at LoRA's norm: over tasks and
    ranks.

    >>> rows = pd.DataFrame({"text": "prose", "series": [AS_TRAINED, SHRUNK], "full_more": [0.21, -0.01]})
    >>> claim(rows)
    'Full fine-tuning raises the loss by 0.21 nats a token more than LoRA on prose, at equal norm by -0.01'
    """
    parts = []
    for text, rows in table.groupby("text", sort=False):
        trained, shrunk = (rows.loc[rows["series"] == name, "full_more"].mean() for name in (AS_TRAINED, SHRUNK))
        parts.append(f"{trained:.2f} nats a token more than LoRA on {text}, at equal norm by {shrunk:.2f}")
    return f"Full fine-tuning raises the loss by {'; by '.join(parts)}"
