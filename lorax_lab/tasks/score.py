"""The metrics a task can be scored by, and which one is primary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lorax_lab.errors import ConfigError, suggest


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Share of examples whose class has the largest output, in [0, 1].

    >>> accuracy(np.array([[2, 1], [0, 3], [0, 1], [1, 4]]), np.array([0, 1, 0, 1]))
    0.75
    """
    return float(np.mean(outputs.argmax(axis=1) == labels))


def f1(outputs: np.ndarray, labels: np.ndarray) -> float:
    """2·tp / (2·tp + fp + fn) of class 1, in [0, 1]; the mean over the classes where there are more than two.

    0 where class 1 is neither there nor predicted. GLUE scores MRPC and QQP by it.
    """
    from sklearn.metrics import f1_score

    classes = outputs.shape[1]
    how = {"average": "binary"} if classes == 2 else {"average": "macro", "labels": range(classes)}
    return float(f1_score(labels, outputs.argmax(axis=1), zero_division=0.0, **how))


def matthews(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Matthews' correlation of the predicted with the true classes, in [-1, 1]; 0 for a constant prediction."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, outputs.argmax(axis=1)))


def pearson(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Pearson's r, in [-1, 1]; 0 where either side is constant, since such outputs say nothing."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, outputs, labels)


def spearman(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Spearman's rho, Pearson's r of the ranks, in [-1, 1]; 0 where either side is constant."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, outputs, labels)


def _correlation(statistic: Callable[..., Any], outputs: np.ndarray, labels: np.ndarray) -> float:
    predicted, true = outputs[:, 0].astype(np.float64), labels.astype(np.float64)
    constant = any(np.ptp(side) <= 1e-7 * np.abs(side).max() for side in (predicted, true))
    return 0.0 if constant else float(statistic(predicted, true).statistic)


Metric = Callable[[np.ndarray, np.ndarray], float]
METRICS: dict[str, dict[str, Metric]] = {
    "classification": {"accuracy": accuracy, "f1": f1, "matthews": matthews},
    "regression": {"pearson": pearson, "spearman": spearman},
}
ALWAYS = {"classification": ("accuracy",), "regression": ("pearson", "spearman")}


def primary_metric(kind: str, metric: str | None) -> str:
    """The configured metric, or the kind's first: `accuracy`, `pearson`.

    Raises:
        ConfigError: a metric that the kind does not have.
    """
    allowed = tuple(METRICS[kind])
    if metric is not None and metric not in allowed:
        raise ConfigError(f"task.metric={metric} is not possible with task.kind={kind}: {suggest(metric, allowed)}")
    return metric or allowed[0]


def score(kind: str, metric: str, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The primary metric first, then those always reported for the kind. NaN, all of them, where an output is
    not finite: argmax would return a class for it.

    Args:
        outputs: (n, classes), or (n, 1) for regression.
        labels: (n,).
    """
    names = dict.fromkeys((metric, *ALWAYS[kind]))
    if not np.isfinite(outputs).all():
        return dict.fromkeys(names, float("nan"))
    return {name: METRICS[kind][name](outputs, labels) for name in names}
