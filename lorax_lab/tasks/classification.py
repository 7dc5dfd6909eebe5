"""Classification: one class for each text or pair of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lorax_lab.tasks import text
from lorax_lab.tasks.kind import Kind, Metric

if TYPE_CHECKING:
    import numpy as np


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Share of examples whose class has the largest output, in [0, 1].

    >>> import numpy as np
    >>> accuracy(np.array([[2, 1], [0, 3], [0, 1], [1, 4]]), np.array([0, 1, 0, 1]))
    0.75
    """
    return float(correct(outputs, labels).mean())


def f1(outputs: np.ndarray, labels: np.ndarray) -> float:
    """2·tp / (2·tp + fp + fn) of class 1, in [0, 1]; the mean over the classes where there are more than two.

    0 where class 1 is neither there nor predicted. GLUE scores MRPC and QQP by it.
    """
    from sklearn.metrics import f1_score

    classes = outputs.shape[1]
    average = {"average": "binary"} if classes == 2 else {"average": "macro", "labels": range(classes)}
    return float(f1_score(labels, answers(outputs), zero_division=0.0, **average))


def matthews(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Matthews' correlation of the predicted with the true classes, in [-1, 1]; 0 for a constant prediction."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, answers(outputs)))


def majority(labels: np.ndarray, classes: int) -> float:
    """The accuracy of the most frequent class for every input.

    >>> import numpy as np
    >>> majority(np.array([0, 1, 1, 1]), 2)
    0.75
    """
    return _best_class(accuracy, labels, classes)


def _best_class(score: Callable[[np.ndarray, np.ndarray], float], labels: np.ndarray, classes: int) -> float:
    """The best score of one class for every input."""
    import numpy as np

    every = np.eye(classes)
    return max(score(np.repeat(every[[c]], len(labels), axis=0), labels) for c in range(classes))


def answers(outputs: np.ndarray) -> np.ndarray:
    """The class with the largest output, (n,)."""
    classes: np.ndarray = outputs.argmax(axis=1)
    return classes


def correct(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether each example's class has the largest output, (n,) bool."""
    right: np.ndarray = answers(outputs) == labels
    return right


def head(classes: Sequence[str]) -> dict[str, Any]:
    """A new head with an output for each class."""
    return {"num_labels": len(classes), "problem_type": "single_label_classification"}


METRICS = {
    "accuracy": Metric(accuracy, constant=majority),
    "f1": Metric(f1, constant=lambda labels, classes: _best_class(f1, labels, classes)),
    "matthews": Metric(matthews, constant=lambda labels, classes: 0.0),
}
KIND = Kind(
    config=text.TextConfig,
    model_class="AutoModelForSequenceClassification",
    processor_class="AutoTokenizer",
    head=head,
    encode=text.encode,
    size=text.length,
    collate=text.collate,
    tokens=text.tokens,
    metrics=METRICS,
    always=("accuracy",),
    answers=answers,
    correct=correct,
    notes=text.notes,
    smaller=text.SMALLER,
    seen=text.seen,
)
