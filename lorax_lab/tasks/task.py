"""What a task is: examples in three splits, class names, and a score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lorax_lab.config import MEAN, OWN, TaskConfig
from lorax_lab.data import Example
from lorax_lab.tasks.kind import Kind

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Task:
    """Examples to train, validate and test on, and how outputs are scored. With `task.memorise` they are the same.

    `classes` are in the order of the labels, empty where the labels are no classes. `metric` is the primary score.
    `dropped` counts the rows that were left out: `unlabeled`, `blank`, `duplicate`, `conflicting` (same content,
    different labels), `overlap` (with a later split). `notes` say what a person should know of a table of theirs.
    """

    config: TaskConfig
    kind: Kind
    classes: tuple[str, ...]
    metric: str
    train: list[Example]
    validation: list[Example]
    test: list[Example]
    data_sha256: str
    dropped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def splits(self) -> dict[str, list[Example]]:
        """The examples of `train`, `validation` and `test`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def sizes(self) -> dict[str, int]:
        """How many examples each split has."""
        return {name: len(examples) for name, examples in self.splits.items()}

    @property
    def left_out(self) -> dict[str, int]:
        """How many rows are in no split, by the reasons that there are."""
        return {reason: count for reason, count in self.dropped.items() if count}

    @property
    def head(self) -> dict[str, Any]:
        """The settings of the model's head."""
        by_mean = getattr(self.config, "pooling", OWN) == MEAN
        return self.kind.head(self.classes) | ({"by_mean": True} if by_mean else {})

    @property
    def higher_is_better(self) -> bool:
        """Of the primary score."""
        return self.kind.metrics[self.metric].higher_is_better

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """The primary metric first, then those that the kind always reports.

        Args:
            outputs: (n, width), what the kind's `outputs` gives.
            labels: (n,), class indices, numbers or texts.

        Returns:
            Name → value. NaN, all of them, where an output is not finite: argmax would return a class for it.
        """
        import numpy as np

        width = self.head.get("num_labels", outputs.shape[1])
        assert outputs.shape == (len(labels), width), (outputs.shape, labels.shape, width)
        names = dict.fromkeys((self.metric, *self.kind.always))
        if not np.isfinite(outputs).all():
            return dict.fromkeys(names, float("nan"))
        return {name: self.kind.metrics[name].of(outputs, labels) for name in names}
