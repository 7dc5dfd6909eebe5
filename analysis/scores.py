"""Scores of runs and their uncertainty, shared by the figures of accuracy."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorax_lab.record.direction import HIGHER, LOWER, labelled, oriented
from lorax_lab.record.folder import HEAD_ON_VALIDATION, OUTPUTS, load_arrays
from lorax_lab.study.answers import PSEUDO_VALUES

from . import style
from .groups import Group
from .variants import COLLAPSED, collapsed, shared

CROSS: dict[str, Any] = {"color": "black", "marker": "x", "markersize": 7, "mew": 1.3, "linestyle": "", "zorder": 6}
"""The mark of a collapsed run."""
CROSSED = " (×)"
DIRECTION, SCORED, UNIT = "direction", "scored_on", "unit"
"""Columns that say of each row whether lower or higher scores are better, that its scores are of the training examples,
and what they are counted in. A table has each only where some row is not as usual."""
UNITS = {"nats": "nats per token"}
"""By metric."""
SHARES, CORRELATIONS = ("accuracy", "exact_match"), ("pearson", "spearman")
"""Metrics that are a share of the examples, and those that are a correlation over them."""
NORMAL = 1.96
"""Standard errors on each side of a 95 % interval."""
BEFORE = "before training: "
"""What the columns of `with_baselines` begin with."""
FEW = 3
"""Up to so many variants have room in a column."""


def scores(group: Group, split: str) -> pd.DataFrame:
    """One row per run of `group.shown`: its primary metric on `validation` or `test`, and the parameters it
    trained.

    Columns: model, task, settings, split, metric, examples, those of `group.columns`, trainable, head, score, and the
    score's standard `error`, on test from what each example adds to it where no form gives one.
    """
    runs = group.shown
    table = runs[group.columns].assign(
        rank=runs["rank"].astype("Int64"),
        trainable=runs["parameters.trainable"],
        head=runs["parameters.head"],
        score=runs[f"metrics.{split}/{group.metric}"],
    )
    examples = runs[f"inputs.examples.{split}"].astype(int)
    place: dict[str, Any] = {**group.title, "split": group.scored_on(split), "metric": group.metric}
    table = table.assign(**place, examples=examples)[[*place, "examples", *table]]
    errors = [standard_error(score, group.metric, count) for score, count in zip(table["score"], examples, strict=True)]
    if split == "test":
        pairs = zip(errors, runs["folder"], strict=True)
        errors = [error_on_test(Path(folder)) if math.isnan(error) else error for error, folder in pairs]
    return directed(table.assign(error=errors).reset_index(drop=True), group.higher_is_better)


def directed(table: pd.DataFrame, higher_is_better: bool | pd.Series[Any]) -> pd.DataFrame:
    """The table with its column `DIRECTION` where lower scores are better, of all rows or of some."""
    if np.all(higher_is_better):
        return table
    return table.assign(**{DIRECTION: np.where(higher_is_better, HIGHER, LOWER)})


def higher_is_better(rows: pd.DataFrame) -> bool:
    """Of the scores in rows of one direction; of rows of both, which a label cannot say at once, true."""
    return DIRECTION not in rows or bool((rows[DIRECTION] == HIGHER).any())


def worse_by_margin(rows: pd.DataFrame) -> float:
    """The difference that is the margin of a figure's rows, on the side of worse scores."""
    return float(oriented(-float(rows["margin"].iloc[0]), higher_is_better(rows)))


def score_label(name: str, rows: pd.DataFrame, between: str = ", ") -> str:
    """The name of the rows' score, for an axis or a heading, with its unit if they have one in common; it says so where
    lower is better.

    >>> import pandas as pd
    >>> score_label("sums", pd.DataFrame({UNIT: ["nats per token"], DIRECTION: [LOWER]}))
    'sums, nats per token (lower is better)'
    """
    units = set(rows[UNIT]) if UNIT in rows else set()
    unit = units.pop() if len(units) == 1 else ""
    return labelled(between.join(filter(None, (name, unit))), higher_is_better(rows))


def short(score: float) -> str:
    """A score to three digits, or nothing where there is none.

    >>> short(0.8734), short(-0.12), short(10.25), short(float("nan"))
    ('.873', '−.120', '10.250', '')
    """
    return "" if math.isnan(score) else re.sub(r"^(-?)0\.", r"\1.", f"{score:.3f}").replace("-", "−")


def split_label(split: str, rows: pd.DataFrame) -> str:
    """The split in words, for an axis or a heading: `training` of rows whose validation and test examples are those."""
    return " or ".join(dict.fromkeys(rows[SCORED].replace("", split))) if SCORED in rows else split


def intervals_over(rows: pd.DataFrame, besides: str = "") -> str:
    """What intervals a study's numbers have, and over what, for a title."""
    count = int(rows["seeds"].max())
    return f"95 % intervals over {count} seeds{besides}" if count > 1 else "one seed, no interval"


def with_baselines(table: pd.DataFrame, group: Group) -> pd.DataFrame:
    """`scores` of the test split, with a column for each score that the model has before training if any."""
    ends = f"/{group.metric}"
    on_test = [column for column in map(str, group.shown) if f".{HEAD_ON_VALIDATION}/" not in column]
    columns = [column for column in on_test if column.startswith("baselines.") and column.endswith(ends)]
    names = {column: BEFORE + column.removeprefix("baselines.").removesuffix(ends) for column in columns}
    return table.assign(**{name: group.shown[column].to_numpy() for column, name in names.items()})


def standard_error(score: float, metric: str, examples: int) -> float:
    """Standard error of a score for the choice of the examples; NaN for metrics that have none of these forms.

    Of an accuracy √(p (1 − p) / n), of a correlation (1 − r²) / √(n − 1). It holds for one trained model, so more seeds
    do not make it smaller.

    >>> round(standard_error(0.8, "accuracy", 400), 6), round(standard_error(0.6, "pearson", 401), 6)
    (0.02, 0.032)
    """
    if metric in SHARES:
        return math.sqrt(score * (1 - score) / examples)
    return (1 - score**2) / math.sqrt(examples - 1) if metric in CORRELATIONS and examples > 1 else math.nan


def error_on_test(folder: Path) -> float:
    """The standard error of a score that is no share, s / √n over a run's n pseudo-values (`tasks.kind.Metric`), as a
    card and a verdict take it; NaN where the run has none."""
    try:
        values = load_arrays(folder, OUTPUTS)["test"][PSEUDO_VALUES]
    except (OSError, ValueError, KeyError):
        return math.nan
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def of_examples(score: float, metric: str, examples: int) -> tuple[float, float]:
    """Low and high end of the 95 % interval of one trained model's score for the choice of the examples; NaN for
    metrics that have no `standard_error`.

    Of a share of the examples Wilson's (1927), which has a width where all of them, or none, are right. Of a
    correlation ± 1.96 standard errors.

    >>> [round(end, 4) for end in of_examples(0.8, "accuracy", 400)], of_examples(1.0, "accuracy", 400)[1]
    ([0.758, 0.8363], 1.0)
    >>> round(of_examples(1.0, "accuracy", 400)[0], 4)
    0.9905
    """
    half = NORMAL * standard_error(score, metric, examples)
    if metric not in SHARES or not math.isfinite(score):
        return score - half, score + half
    from scipy.stats import binomtest

    ends = binomtest(round(score * examples), int(examples)).proportion_ci(0.95, "wilson")
    return min(float(ends.low), score), max(float(ends.high), score)


def interval(rows: pd.DataFrame) -> tuple[float, float, str]:
    """Low and high end around the mean score of one arm, and their name: the range over its seeds or, with one seed,
    the 95 % interval over its examples. NaN where there is neither."""
    score, seeds = float(rows["score"].mean()), rows["seed"].nunique()
    if seeds > 1:
        return rows["score"].min(), rows["score"].max(), f"range of {seeds} seeds"
    examples = rows["examples"].iloc[0]
    low, high = of_examples(score, rows["metric"].iloc[0], examples)
    if math.isnan(low) and "error" in rows:
        half = NORMAL * float(rows["error"].mean())
        low, high = score - half, score + half
    return low, high, "1 seed" if math.isnan(low) else f"95 % interval over {examples:,} examples"


def intervals(rows: pd.DataFrame, place: str) -> tuple[pd.DataFrame, str]:
    """The mean score at each place of a variant's rows with its interval, as columns `mean`, `low` and `high`; and the
    name of the intervals."""
    by_place = {value: (part["score"].mean(), *interval(part)) for value, part in rows.groupby(place)}
    table = pd.DataFrame.from_dict(by_place, orient="index", columns=["mean", "low", "high", "name"])
    return table, " or ".join(dict.fromkeys(table["name"]))


def without_interval(rows: pd.DataFrame) -> str:
    """For a title: that arms of one seed have no interval. Empty where each arm has one, or several seeds."""
    if not any(math.isnan(interval(arm)[0]) for _, arm in rows.groupby("arm")):
        return ""
    return "\none seed, no intervals" if len(set(rows["seed"])) == 1 else "\nno interval where there is one seed"


def frame(table: pd.DataFrame) -> tuple[Figure, Axes]:
    """An empty figure for the variants of a table of `scores`: a column wide for a few, else a page."""
    count = table["variant"].nunique()
    size = (style.COLUMN, 2.7 + 0.3 * count) if count <= FEW else (style.PAGE, 3.6 + 0.15 * count)
    figure = style.canvas(*size)
    return figure, figure.add_subplot()


def draw_variant(axes: Axes, rows: pd.DataFrame, place: str, name: str, shift: float, **look: Any) -> None:
    """A variant's mean at each place, with the range of its seeds, which stand beside it, or the interval of one seed's
    examples; a cross over each collapsed run. All stand `shift` points of print to the right of the column `place`.
    """
    has_seeds, (means, words) = len(set(rows["seed"])) > 1, intervals(rows, place)
    label = f"{name}: mean, {words}; beside: each" if has_seeds else f"{name}, {words}"
    ends = means["low"], means["high"]
    style.bars(axes, means.index, means["mean"], *ends, shift=shift, label=label, elinewidth=0.8, capsize=2, **look)
    if has_seeds:
        shift += style.BESIDE
        small = {"linestyle": "", "markersize": 2.5, "alpha": 0.6, "transform": style.shifted(axes, shift)}
        axes.plot(rows[place].astype(float), rows["score"], **(look | small))
    mark_collapsed(axes, rows, place, shift)


def finish(figure: Figure, table: pd.DataFrame, by: str) -> Figure:
    """A figure of one `frame` with its title, its legend and its vertical label: its scores by something."""
    first, (axes,) = table.iloc[0], figure.axes
    score = f"{first['split']} {first['metric']}"
    axes.set_ylabel(score_label(score, table))
    notes = shared(table) + without_interval(table) + collapsed(table, CROSSED)
    text = f"{first['model']} on {first['task']}: {score} by {by}{notes}"
    return style.finish(figure, text, axes, columns=1 if table["variant"].nunique() <= FEW else 2)


def mark_collapsed(axes: Axes, rows: pd.DataFrame, place: str, shift: float = 0.0) -> None:
    """A cross over the score of each collapsed run, `shift` points of print to the right of the column `place`."""
    if COLLAPSED in rows:
        points = rows[rows[COLLAPSED].astype(bool)].drop_duplicates([place, "score"])
        cross(axes, points[place].astype(float), points["score"], axes, shift=shift)


def cross(
    axes: Axes,
    places: pd.Series[Any],
    scores: pd.Series[Any],
    legend: Axes,
    label: str = "collapsed run",
    shift: float = 0.0,
) -> None:
    """Crosses over points, where there are any. They stand once in the legend of the axes `legend`."""
    if len(places):
        look: dict[str, Any] = CROSS | style.halo(3)
        axes.plot(places, scores, transform=style.shifted(axes, shift), **look)
        style.legend_entry(legend, label, **look)
