"""Regression: one number for each text or pair of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from lorax_lab.tasks import text
from lorax_lab.tasks.kind import Kind, Metric

if TYPE_CHECKING:
    import numpy as np


@dataclass
class RegressionConfig(text.TextConfig):
    """Settings of regression: those of texts, with numbers as labels."""

    labels: ClassVar[str] = "numbers"


def pearson(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Pearson's r, in [-1, 1]; 0 where either side is constant, since such outputs say nothing."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, outputs, labels)


def spearman(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Spearman's rho, Pearson's r of the ranks, in [-1, 1]; 0 where either side is constant."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, outputs, labels)


def _correlation(statistic: Callable[..., Any], outputs: np.ndarray, labels: np.ndarray) -> float:
    import numpy as np

    predicted, true = outputs[:, 0].astype(np.float64), labels.astype(np.float64)
    constant = any(np.ptp(side) <= 1e-7 * np.abs(side).max() for side in (predicted, true))
    return 0.0 if constant else float(statistic(predicted, true).statistic)


def none(labels: np.ndarray, classes: int) -> float:
    """The correlation of one number for every input, 0."""
    return 0.0


def answers(outputs: np.ndarray) -> np.ndarray:
    """The predicted number, (n,)."""
    return outputs[:, 0]


def head(classes: Sequence[str]) -> dict[str, Any]:
    """A new head with one output."""
    assert not classes, classes
    return {"num_labels": 1, "problem_type": "regression"}


KIND = Kind(
    config=RegressionConfig,
    model_class="AutoModelForSequenceClassification",
    processor_class="AutoTokenizer",
    head=head,
    encode=text.encode,
    size=text.length,
    collate=text.collate,
    tokens=text.tokens,
    metrics={"pearson": Metric(pearson, constant=none), "spearman": Metric(spearman, constant=none)},
    always=("pearson", "spearman"),
    answers=answers,
    correct=None,
    notes=text.notes,
    smaller=text.SMALLER,
    seen=text.seen,
)
