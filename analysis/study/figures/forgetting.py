"""What fine-tuning does to the loss on other texts, by arm: as trained, and at the norm of another arm's update."""

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, StrMethodFormatter

from lorax_lab.record.clusters import GROUPS, pooled
from lorax_lab.record.statistics import crossed

from ... import style
from ..comparison import NONE
from ..records import Records

TITLE = "what fine-tuning does to the loss on other texts, as trained and at another norm"
NAME = "forgetting"
BEFORE, TRAINED, AT_NORM = "before", "trained", "at the norm of"
MATRICES, MATRICES_AT_NORM = "matrices alone", "matrices alone, at the norm of"
WITHOUT_INTRUDERS, WITH_NOISE = "without intruders", "with noise of their size"
"""Of the rows that `lorax_lab.afterwards.forgetting` makes."""
AS_TRAINED, AT_FULLS, FULL_AT = "as trained", "at full's norm", "full, at this norm"
MATRICES_AT = "full's matrices, at this norm"
AGAINST_FULL = (AS_TRAINED, AT_FULLS, FULL_AT, MATRICES_AT)
SERIES = (*AGAINST_FULL, MATRICES, WITHOUT_INTRUDERS, WITH_NOISE)
TICKS = (-10, -3, -1, 0, 1, 3, 10)
"""Numbers on an axis that is linear to ±1 and logarithmic beyond."""
Place = tuple[str, str, str, str]
"""Task, text, series, arm."""


def table(records: Records) -> pd.DataFrame | None:
    """One row for each task, text, series and arm; None where the study has no such rows.

    Columns: `series`, one of `SERIES`; `arm`, where full fine-tuning is at another norm the LoRA whose norm it has;
    `factor` and `removed` of `lorax_lab.afterwards.forgetting`, the mean over seeds. `mean`, `low`, `high`: by how much
    the loss on the text rose, in nats a token. `full_more`, `full_more_low`, `full_more_high`: by how much more it rose
    with full fine-tuning than with this LoRA, of the same norm in all but the first series of `AGAINST_FULL`, and with
    its matrices alone in the last. `beyond_noise`, `beyond_noise_low`, `beyond_noise_high`: by how much more it rose
    without intruders than with noise of their size taken away. Intervals are over seeds and test examples, and paired.
    """
    reference, rows = records.protocol.reference, list[dict[str, Any]]()
    no_lora = {arm.name for arm in records.protocol.arms if arm.rank is None}
    facts, rises = _by_place(records)
    for place, rise in rises.items():
        task, text, series, arm = place
        row = dict(zip(("task", "text", "series", "arm"), place, strict=True)) | facts[place]
        row |= _numbers(rise, "mean", "low", "high")
        full, lora = (task, text, AS_TRAINED, reference), place
        if series in (FULL_AT, MATRICES_AT):
            full, lora = place, (task, text, AS_TRAINED, arm)
        more = rises[full] - rises[lora] if series in AGAINST_FULL and arm not in no_lora else None
        row |= _numbers(more, "full_more")
        noisy = rises[task, text, WITH_NOISE, arm] if series == WITHOUT_INTRUDERS else None
        row |= _numbers(None if noisy is None else rise - noisy, "beyond_noise")
        rows.append(row | {"seeds": len(rise), "examples": rise.shape[1]})
    return pd.DataFrame(rows) if rows else None


def _numbers(differences: np.ndarray | None, name: str, *of_ends: str) -> dict[str, float]:
    """The mean of the differences, (seeds, examples), and the ends of its interval; NaN each where there are none."""
    interval = NONE if differences is None else crossed(differences).interval()
    names = (name, *(of_ends or (f"{name}_low", f"{name}_high")))
    return dict(zip(names, (interval.mean, interval.low, interval.high), strict=True))


def _by_place(records: Records) -> tuple[dict[Place, dict[str, Any]], dict[Place, np.ndarray]]:
    """Of each place its `factor` and `removed`, and by how much the loss rose, (seeds, examples): the linear part of
    the ratio of sums, whose mean is the rise in nats a token."""
    before, by_place = dict[tuple[str, str], Any](), defaultdict[Place, list[dict[str, Any]]](list)
    for row in records.rows.get(NAME, ()):
        if row["change"] == BEFORE:
            before[row["condition"], row["text"]] = row
        else:
            by_place[row["condition"], row["text"], *_series(row, records.protocol.reference)].append(row)
    facts, rises = {}, {}
    for place, rows in by_place.items():
        start = before[place[:2]]
        tokens = np.asarray(start["tokens"], float)
        rose = np.array([row["nats"] for row in sorted(rows, key=lambda row: int(row["seed"]))]) - start["nats"]
        rise = rose.sum(axis=1, keepdims=True) / tokens.sum()
        rises[place] = pooled(rise + (rose - rise * tokens) / tokens.mean(), start.get(GROUPS))
        facts[place] = {
            key: pd.Series([row.get(key) for row in rows], dtype=float).mean() for key in ("factor", "removed")
        }
    return facts, rises


def _series(row: dict[str, Any], reference: str) -> tuple[str, str]:
    if row["change"] == MATRICES_AT_NORM:
        return MATRICES_AT, row["norm_of"]
    if row["change"] == AT_NORM:
        return (FULL_AT, row["norm_of"]) if row["arm"] == reference else (AT_FULLS, row["arm"])
    return (AS_TRAINED if row["change"] == TRAINED else row["change"]), row["arm"]


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A row of panels for each task, one for each text: the rise of the loss over the arms."""
    tasks, texts, arms = (list(dict.fromkeys(table[column])) for column in ("task", "text", "arm"))
    figure = style.canvas(style.PAGE, 1.4 + 1.9 * len(tasks))
    grid = figure.subplots(len(tasks), len(texts), sharex=True, sharey="row", squeeze=False)
    for panels, task in zip(grid, tasks, strict=True):
        for axes, text in zip(panels, texts, strict=True):
            rows = table[(table["task"] == task) & (table["text"] == text)]
            for series, look, shift in style.lines(SERIES, 4.0):
                points = rows[rows["series"] == series]
                look |= {"linestyle": "none", "markersize": 3.5, "label": series}
                ends = (points[column] for column in ("mean", "low", "high"))
                style.bars(axes, points["arm"].map(arms.index), *ends, shift=shift, **look)
            axes.axhline(0, color="0.3", linewidth=0.8, zorder=0)
            axes.set_yscale("symlog", linthresh=1)  # a stretched update may break the model
            axes.yaxis.set_major_locator(FixedLocator(TICKS))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.set_xlim(-0.6, len(arms) - 0.4)
            axes.set_xticks(range(len(arms)), [arm.removeprefix("LoRA ") for arm in arms], rotation=30)
            axes.set_title(style.wrapped(f"{task}: loss on {text}", 40))
        panels[0].set_ylabel("rise, nats a token\n(linear to ±1)")
    text = "rise of the loss on texts by fine-tuning; 95 % intervals over seeds and examples"
    return style.finish(figure, text, grid[0][0], columns=3)


def claim(table: pd.DataFrame) -> str:
    """On how many texts that are no task, and arms of LoRA, full fine-tuning surely raises the loss more, and less. At
    LoRA's norm it counts where its update is shrunk, as one that is stretched may break the model.

    >>> ends = {"full_more_low": [0.1, -0.2, 0.1], "full_more_high": [0.3, 0.1, 0.2], "factor": [None, 0.5, 2.0]}
    >>> rows = pd.DataFrame({"task": "sums", "text": "prose", "series": [AS_TRAINED, FULL_AT, FULL_AT]} | ends)
    >>> print(claim(pd.concat([rows, rows.assign(text="sums")])).replace(". ", ".\\n"))
    Full fine-tuning surely forgets more than LoRA in 1 of 1 comparisons, less in 0.
    Shrunk to LoRA's norm in 0 of 1, less in 0
    """
    on_other_texts = table[~table["text"].isin(table["task"]) & table["full_more_low"].notna()]
    trained = on_other_texts[on_other_texts["series"] == AS_TRAINED]
    shrunk = on_other_texts[(on_other_texts["series"] == FULL_AT) & (on_other_texts["factor"] <= 1)]
    counts = [
        ((rows["full_more_low"] > 0).sum(), len(rows), (rows["full_more_high"] < 0).sum()) for rows in (trained, shrunk)
    ]
    text = "Full fine-tuning surely forgets more than LoRA in {} of {} comparisons, less in {}"
    return text.format(*counts[0]) + ". Shrunk to LoRA's norm in {} of {}, less in {}".format(*counts[1])
