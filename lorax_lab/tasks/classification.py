"""Classification: one class for each text or pair of texts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from lorax_lab.tasks.kind import Kind, Metric
from lorax_lab.tasks.text import TextConfig, TextKind


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Share of examples whose class has the largest output, in [0, 1].

    >>> import numpy as np
    >>> accuracy(np.array([[2, 1], [0, 3], [0, 1], [1, 4]]), np.array([0, 1, 0, 1]))
    0.75
    """
    return float((outputs.argmax(axis=1) == labels).mean())


def f1(outputs: np.ndarray, labels: np.ndarray) -> float:
    """2·tp / (2·tp + fp + fn) of class 1, in [0, 1]; the mean over the classes where there are more than two.

    0 where class 1 is neither there nor predicted. GLUE scores MRPC and QQP by it.

    >>> import numpy as np
    >>> round(f1(np.eye(4)[[0, 0, 0, 0, 2]], np.array([0, 0, 0, 1, 2])), 3)  # (6/7 + 0 + 1 + 0) / 4
    0.464
    """
    from sklearn.metrics import f1_score

    classes = outputs.shape[1]
    average = {"average": "binary"} if classes == 2 else {"average": "macro", "labels": range(classes)}
    return float(f1_score(labels, outputs.argmax(axis=1), zero_division=0.0, **average))


def matthews(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Matthews' correlation of the predicted with the true classes, in [-1, 1]; 0 for a constant prediction."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, outputs.argmax(axis=1)))


def log_losses(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """−log softmax(outputs)[label] of each example in nats, (n,) fp64.

    >>> import numpy as np
    >>> log_losses(np.array([[0.0, 0.0], [0.0, 1.0]]), np.array([0, 1])).round(3).tolist()
    [0.693, 0.313]
    """
    from scipy.special import log_softmax

    return -log_softmax(outputs.astype(float), axis=1)[range(len(labels)), labels]


def entropy(labels: np.ndarray, classes: int) -> float:
    """The log loss of the classes' own shares as the answer to every input, in nats."""
    from scipy.stats import entropy as of_counts

    return float(of_counts(np.bincount(labels, minlength=classes)))


def best_class(score: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[np.ndarray, int], float]:
    """The best score of one class for every input, of the labels and the number of classes.

    >>> import numpy as np
    >>> best_class(accuracy)(np.array([0, 1, 1, 1]), 2)
    0.75
    """

    def best(labels: np.ndarray, classes: int) -> float:
        outputs = [np.eye(classes)[[c] * len(labels)] for c in range(classes)]
        return max(score(one, labels) for one in outputs)

    return best


class OfClasses(Kind):
    """A kind whose labels are classes: a new head has an output for each, and the largest is the answer."""

    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric(accuracy, constant=best_class(accuracy)),
        "f1": Metric(f1, constant=best_class(f1)),
        "matthews": Metric(matthews, constant=lambda labels, classes: 0.0),
        "log_loss": Metric(
            lambda outputs, labels: float(log_losses(outputs, labels).mean()),
            higher_is_better=False, constant=entropy, pseudo_values=log_losses,
        ),
    }  # fmt: skip
    always = ("accuracy", "log_loss")

    def head(self, classes: Sequence[str]) -> dict[str, Any]:
        return {"num_labels": len(classes), "problem_type": "single_label_classification"}

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        return outputs.argmax(axis=1)

    def correct(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return self.answers(outputs) == labels


class Classification(OfClasses, TextKind):
    """One class for each text or pair of texts."""

    config = TextConfig
    model_class = "AutoModelForSequenceClassification"
