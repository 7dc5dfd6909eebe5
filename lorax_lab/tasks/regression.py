"""Regression: one number for each text or pair of texts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lorax_lab.tasks.kind import Metric
from lorax_lab.tasks.text import TextConfig, TextKind


@dataclass
class RegressionConfig(TextConfig):
    """Settings of regression: those of texts, with numbers as labels."""

    labels: ClassVar[str] = "numbers"


def pearson(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Pearson's r, in [-1, 1]; 0 where either side is constant, since such outputs say nothing."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, outputs, labels)


def pseudo_values_of_pearson(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The pseudo-values of `pearson`, (n,): r + x y − r (x² + y²) / 2 of the standardized numbers x and y (Devlin et
    al. 1975, Biometrika 62)."""
    r = pearson(outputs, labels)
    if r == 0.0:
        return np.zeros(len(labels))
    x, y = ((side - side.mean()) / side.std() for side in (outputs[:, 0].astype("f8"), labels.astype("f8")))
    return r + x * y - r * (x**2 + y**2) / 2


def spearman(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Spearman's rho, Pearson's r of the ranks, in [-1, 1]; 0 where either side is constant."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, outputs, labels)


def _correlation(statistic: Callable[..., Any], outputs: np.ndarray, labels: np.ndarray) -> float:
    predicted, true = outputs[:, 0].astype(np.float64), labels.astype(np.float64)
    constant = any(np.ptp(side) <= 1e-7 * np.abs(side).max() for side in (predicted, true))
    return 0.0 if constant else float(statistic(predicted, true).statistic)


class Regression(TextKind):
    """One number for each text or pair of texts. One number for every input has a correlation of 0."""

    config = RegressionConfig
    model_class = "AutoModelForSequenceClassification"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "pearson": Metric(pearson, constant=lambda labels, classes: 0.0, pseudo_values=pseudo_values_of_pearson),
        "spearman": Metric(spearman, constant=lambda labels, classes: 0.0),
    }
    always = ("pearson", "spearman")

    def head(self, classes: Sequence[str]) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        return outputs[:, 0]
