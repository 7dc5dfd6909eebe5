"""Scores of runs and their uncertainty, shared by the figures of accuracy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lorax_lab.store.direction import HIGHER, LOWER, labelled

from .groups import Group

if TYPE_CHECKING:
    import pandas as pd

DIRECTION = "direction"
"""The column that says of each row whether lower or higher scores are better. A table has it only if there are rows of
the former."""
BEFORE = "before training: "
"""What the columns of `with_baselines` begin with."""


def scores(group: Group, split: str) -> pd.DataFrame:
    """One row per run of `group.shown`: its primary metric on `validation` or `test`, and the parameters it
    trained.

    Columns: model, task, settings, split, metric, examples, those of `group.columns`, trainable, head, score, and the
    score's standard `error`.
    """
    runs = group.shown
    table = runs[group.columns].assign(
        rank=runs["rank"].astype("Int64"),
        trainable=runs["parameters.trainable"],
        head=runs["parameters.head"],
        score=runs[f"metrics.{split}/{group.metric}"],
    )
    constant = group.title | {"split": split, "metric": group.metric}
    for place, (name, value) in enumerate(constant.items()):
        table.insert(place, name, value)
    table.insert(len(constant), "examples", runs[f"inputs.examples.{split}"].astype(int))
    pairs = zip(table["score"], table["examples"], strict=True)
    table["error"] = [standard_error(score, group.metric, examples) for score, examples in pairs]
    return directed(table.reset_index(drop=True), group.higher_is_better)


def directed(table: pd.DataFrame, higher_is_better: bool | pd.Series[Any]) -> pd.DataFrame:
    """The table with its column `DIRECTION` where lower scores are better, of all rows or of some."""
    import numpy as np

    if np.all(higher_is_better):
        return table
    return table.assign(**{DIRECTION: np.where(higher_is_better, HIGHER, LOWER)})


def higher_is_better(rows: pd.DataFrame) -> bool:
    """Of the scores in rows of one direction; of rows of both, which a label cannot say at once, true."""
    return DIRECTION not in rows or bool((rows[DIRECTION] == HIGHER).any())


def score_label(name: str, rows: pd.DataFrame) -> str:
    """The name of the rows' score, for an axis or a heading, which says so where lower is better."""
    return labelled(name, higher_is_better(rows))


def with_baselines(table: pd.DataFrame, group: Group) -> pd.DataFrame:
    """`scores` of the test split, with a column for each score that the model has before training if any."""
    ends = f"/{group.metric}"
    found = [column for column in map(str, group.shown) if column.startswith("baselines.") and column.endswith(ends)]
    names = [BEFORE + column.removeprefix("baselines.").removesuffix(ends) for column in found]
    return table.assign(**{name: group.shown[column].to_numpy() for name, column in zip(names, found, strict=True)})


def standard_error(score: float, metric: str, examples: int) -> float:
    """Binomial standard error of an accuracy, √(p (1 − p) / n); NaN for other metrics, which have no such form.

    It comes from the split's examples and holds for one trained model, so more seeds do not make it smaller.

    >>> round(standard_error(0.8, "accuracy", 400), 6)
    0.02
    """
    return math.sqrt(score * (1 - score) / examples) if metric == "accuracy" else math.nan


def interval(rows: pd.DataFrame) -> tuple[float, float, str]:
    """Low and high end around the mean score of one arm, and their name. They are the range over its seeds or, with one
    seed, the standard error over the examples. NaN where there is neither."""
    score, seeds = rows["score"].mean(), len(rows)
    if seeds > 1:
        return rows["score"].min(), rows["score"].max(), f"range of {seeds} seeds"
    error, examples = rows["error"].iloc[0], rows["examples"].iloc[0]
    spread = "1 seed" if math.isnan(error) else f"± 1 standard error, {examples:,} examples"
    return score - error, score + error, spread


def spread_of_seeds(scores: pd.Series[Any], level: pd.Series[Any]) -> tuple[list[float], list[float]]:
    """How far the lowest and the highest score of each level lie from its mean, as `errorbar` takes them.

    The mean of equal scores may round to the other side of them, and a bar's length is never below 0.
    """
    groups = scores.groupby(level)
    mean = groups.mean()
    return list((mean - groups.min()).clip(lower=0)), list((groups.max() - mean).clip(lower=0))
