"""What a task is: examples in three splits, class names, and a score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lorax_lab.data.examples import Example

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Task:
    """Examples to train, validate and test on, and how outputs are scored.

    `classes` are in the order of the labels, empty for regression. `dropped` counts the rows that were left
    out: `blank`, `duplicate`, `conflicting` (same text, different labels), `overlap` (with a later split).
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    metric: str
    train: list[Example]
    validation: list[Example]
    test: list[Example]
    data_sha256: str
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def num_labels(self) -> int:
        """Width of the model's head: the number of classes, 1 for regression."""
        return 1 if self.kind == "regression" else len(self.classes)

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """The task's metrics, `metric` among them.

        Args:
            outputs: (n, num_labels), logits or predicted numbers.
            labels: (n,), class indices or numbers.

        Returns:
            Name → value, accuracy and F1 in [0, 1], the others in [-1, 1]; NaN where an output is not finite.
        """
        from lorax_lab.tasks.score import score

        assert outputs.shape == (len(labels), self.num_labels), (outputs.shape, labels.shape, self.num_labels)
        return score(self.kind, self.metric, outputs, labels)
