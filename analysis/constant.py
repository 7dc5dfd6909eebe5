"""What one answer for every input scores: the line below which a score says nothing. Of an accuracy it is the share of
the most frequent class.

Runs keep the labels of their test examples. The published lines of studies do not, so theirs stands in
`study/constants.csv`, which `python -m experiments.constants STUDY` reads from the data. A condition whose data are not
in that file has the score of a guess, 1 / classes, and is said to; a correlation has 0.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.special import xlogy

from lorax_lab.record.folder import OUTPUTS, load_arrays

from . import style
from .groups import Group

if TYPE_CHECKING:
    from .study.records import Records

CONSTANT, IS = "constant", "constant_is"
"""The columns of what one answer for every input scores, and of what that answer is. A table has them only if it is
known of some row."""
MAJORITY, ANSWER, GUESS = "the majority class", "one answer for every input", "a guess among the classes"
LOOK: Final[dict[str, Any]] = {"color": "0.25", "linewidth": 0.9, "linestyle": (0, (8, 3)), "zorder": 0.5}
"""Of the line."""
CORRELATIONS = ("pearson", "spearman", "matthews")
"""Metrics of which every constant answer has 0."""

FILE = Path(__file__).parent / "study" / "constants.csv"
COLUMNS = ("study", "condition", "data_sha256", "split", "examples", "metric", "constant")
"""Of that file."""


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
        return float(np.max(shares)), MAJORITY
    f1 = 2 * shares / (1 + shares)  # of the class that is always the answer; the others have 0
    return float(f1[1] if classes == 2 else np.max(f1) / classes), ANSWER


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
    axes.axhline(score, **look)
    style.legend_entry(legend, name, **look)


# ---- of studies


def read() -> pd.DataFrame:
    return pd.read_csv(FILE, dtype={"condition": str, "study": str}, keep_default_na=False)


@cache
def _known() -> dict[tuple[object, ...], float]:
    rows = read().to_dict("records")
    return {tuple(row[column] for column in COLUMNS[:-1]): float(row[CONSTANT]) for row in rows}


def of_condition(records: Records, task: str, split: str) -> tuple[float, str] | None:
    """The score of one answer for every input on a split, and what answer that is; None where neither is known."""
    line = next((line for line in records.lines_in(task, "final") if line.get("inputs")), None)
    if line is None:
        return None
    metric, inputs = line["metric"], line["inputs"]
    place = (records.name, task, inputs["data_sha256"], split, inputs["examples"].get(split), metric)
    score = _known().get(place)
    if metric in CORRELATIONS:
        return 0.0, ANSWER
    if score is not None and not records.scored_on(task, ""):
        return score, MAJORITY if metric == "accuracy" else ANSWER
    return guess(metric, len(inputs["classes"]))


def with_constants(records: Records, table: pd.DataFrame, split: str) -> pd.DataFrame:
    """A figure's table with the columns `CONSTANT` and `IS`, where a condition has them."""
    constants = {task: of_condition(records, task, split) for task in records.conditions}
    pairs = {task: pair for task, pair in constants.items() if pair}
    if not pairs:
        return table
    score, name = ({task: pair[i] for task, pair in pairs.items()} for i in (0, 1))
    return table.assign(**{CONSTANT: table["task"].map(score), IS: table["task"].map(name)})
