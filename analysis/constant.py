"""What one answer for every input scores: the line below which a score says nothing. Of an accuracy it is the share of
the most frequent class.

Runs keep the labels of their test examples. The published lines of studies do not: see `study/constants.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.special import xlogy

from lorax_lab.record.folder import OUTPUTS, load_arrays

from .groups import Group

CONSTANT, IS = "constant", "constant_is"
"""The columns of what one answer for every input scores, and of what that answer is. A table has them only if it is
known of some row."""
MAJORITY, ANSWER, GUESS = "the majority class", "one answer for every input", "a guess among the classes"
LOOK: Final[dict[str, Any]] = {"color": "0.25", "linewidth": 0.9, "linestyle": (0, (8, 3)), "zorder": 0.5}
"""Of the line."""
CORRELATIONS = ("pearson", "spearman", "matthews")
"""Metrics of which every constant answer has 0."""


def of_labels(metric: str, labels: np.ndarray, classes: int) -> tuple[float, str] | None:
    """The best score of one answer for every input, and what that answer is; None where it is not known.

    Args:
        labels: of the split, (n,): indices of classes, or numbers.
        classes: how many there are; 0 where labels are none.

    >>> of_labels("accuracy", np.array([0, 1, 1, 1]), 2), of_labels("pearson", np.array([0.1, 0.9]), 0)
    ((0.75, 'the majority class'), (0.0, 'one answer for every input'))
    """
    if metric in CORRELATIONS:
        return 0.0, ANSWER
    if metric == "word_error_rate":
        return 1.0, "a model that writes nothing"
    if metric not in ("accuracy", "f1", "log_loss") or not classes:
        return None
    shares = np.bincount(labels.astype(int), minlength=classes) / len(labels)
    if metric == "log_loss":
        return float(-xlogy(shares, shares).sum()), "the classes' own shares"
    if metric == "accuracy":
        return float(shares.max()), MAJORITY
    f1 = 2 * shares / (1 + shares)  # of the class that is always the answer; the others have 0
    return float(f1[1] if classes == 2 else f1.max() / classes), ANSWER


def guess(metric: str, classes: int) -> tuple[float, str] | None:
    """What is known without the labels: the expected accuracy of a guess."""
    return (1 / classes, GUESS) if metric == "accuracy" and classes else None


def of_group(group: Group) -> tuple[float, str] | None:
    """Of the test examples of a group of runs, which all have the same."""
    classes = len(next(iter(group.records.values())).completed.inputs.classes)
    for folder in group.runs["folder"]:
        try:
            labels = load_arrays(Path(folder), OUTPUTS)["test"]["labels"]
        except (OSError, ValueError, KeyError):
            continue
        return of_labels(group.metric, labels, classes)
    return of_labels(group.metric, np.zeros(0), 0) or guess(group.metric, classes)


def with_constant(table: pd.DataFrame, group: Group, split: str = "test") -> pd.DataFrame:
    """A figure's table with the columns `CONSTANT` and `IS`, where they are known.

    Args:
        split: that the scores are of. The labels are those of test.
    """
    if (level := of_group(group)) is None:
        return table
    score, name = level
    of_test = " (of the test examples)" if split != "test" and name in (MAJORITY, ANSWER) and score else ""
    columns: dict[str, Any] = {CONSTANT: score, IS: f"{name}{of_test}"}
    return table.assign(**columns)


def of_rows(rows: pd.DataFrame) -> tuple[float, str] | None:
    """What one answer for every input scores, and which answer that is, where the rows of a table know it."""
    if CONSTANT not in rows or rows[CONSTANT].isna().all():
        return None
    first = rows[rows[CONSTANT].notna()].iloc[0]
    return float(first[CONSTANT]), str(first[IS])


def draw_line(axes: Axes, rows: pd.DataFrame, legend: Axes) -> None:
    """A dashed line at what one answer for every input scores, where the rows know it."""
    if level := of_rows(rows):
        draw_level(axes, *level, legend, LOOK)


def draw_level(axes: Axes, score: float, name: str, legend: Axes, look: dict[str, Any]) -> None:
    """A level line. Its name stands once in the legend of the axes `legend`."""
    is_new = name not in legend.get_legend_handles_labels()[1]
    axes.axhline(score, label=name if axes is legend and is_new else "_", **look)
    if axes is not legend and is_new:
        legend.plot([], [], label=name, **look)
