"""What a kind of task says of itself, and a task of it: examples in three splits, class names, and a score."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from lorax_lab.config import MEAN, OWN, TaskConfig
from lorax_lab.data import Example

Row = dict[str, Any]
"""One example as the model reads it, before it is padded."""
Inputs = dict[str, Tensor]
"""One batch: what the model is called with, `labels` among it."""


@dataclass(frozen=True)
class Metric:
    """A score of outputs (n, width) against labels (n,), and its direction.

    `constant` gives, of the labels and the number of classes, the best score of one answer for every input. None where
    no such answer has a score.

    `pseudo_values` gives what each example adds to the score, (n,) fp64: the score plus the example's influence, so
    that their mean is the score (Efron & Tibshirani 1993, sec. 11.5). Intervals over examples are computed of them.
    None where no such values are known, or the score is the share of answers that are right.
    """

    score: Callable[[np.ndarray, np.ndarray], float]
    higher_is_better: bool = True
    constant: Callable[[np.ndarray, int], float] | None = None
    pseudo_values: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


def ratio_of_sums(above: int, below: int) -> Callable[[np.ndarray, np.ndarray], float]:
    """The score that is the sum of one column of the outputs by that of another.

    >>> ratio_of_sums(0, 1)(np.array([[3.0, 2.0], [1.0, 6.0]]), np.array(["a", "b"]))
    0.5
    """
    return lambda outputs, labels: float(outputs[:, above].sum(dtype="f8") / outputs[:, below].sum(dtype="f8"))


class Kind:
    """A kind of task, which says everything that differs between one form of learning and another.

    Attributes:
        config: its settings under `task.` with their defaults and checks. `config.inputs` names the inputs that it
            reads of an example, `config.labels` the form of its labels.
        model_class: the auto-class of transformers that reads the base. What this class adds to the pretrained body,
            and no checkpoint of a base holds, is the head.
        processor_class: the auto-class of transformers that reads the tokenizer or the image processor.
        metrics: the scores that `task.metric` can name; the first one is the default.
        always: the scores that are always reported.
        correct: which answers are right, of (outputs, labels), (n,) bool. None where an answer is more or less right.
    """

    config: ClassVar[type[TaskConfig]]
    model_class: ClassVar[str]
    processor_class: ClassVar[str] = "AutoTokenizer"
    metrics: ClassVar[Mapping[str, Metric]]
    always: ClassVar[tuple[str, ...]]
    correct: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    def head(self, classes: Sequence[str]) -> dict[str, Any]:
        """The settings of the head, by the names of the classes; none where the output layer is pretrained."""
        return {}

    def encode(self, processor: Any, examples: Sequence[Example], config: Any) -> list[Row]:
        """Examples as rows. It raises ConfigError for one that the model cannot read."""
        raise NotImplementedError

    def size(self, row: Row) -> int:
        """How long a row is. Rows of like size make a batch."""
        raise NotImplementedError

    def collate(self, processor: Any, rows: Sequence[Row], labels: Any) -> Inputs:
        """The batch of some rows and their labels (n,)."""
        raise NotImplementedError

    def tokens(self, inputs: Inputs) -> int:
        """How many tokens, or other units, of a batch the model reads."""
        raise NotImplementedError

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        """The answer (n,) that each row of outputs gives, to compare with labels."""
        raise NotImplementedError

    def weight(self, inputs: Inputs) -> float:
        """How much a batch's mean loss counts among the batches of one step: as many as it has examples."""
        return len(inputs["labels"])

    def loss(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """The mean loss of a batch, a scalar: the one that the model's class computes from the labels."""
        return model(**inputs).loss

    def outputs(self, model: nn.Module, inputs: Inputs, processor: Any) -> Tensor:
        """What the score is computed from (n, width), in the order of the batch: the model's outputs."""
        return model(**{key: value for key, value in inputs.items() if key != "labels"}).logits

    def writes(self, row: Row) -> bool:
        """Whether the model writes its answer to a row token by token when it is scored."""
        return False

    def notes(self, rows: Sequence[Row], config: Any) -> list[str]:
        """What a person should know of the rows before anything trains, such as what was cut."""
        return []

    def require_readable(self, folder: Path, processor: Any, rows: Sequence[Row], config: Any) -> None:
        """Raise ConfigError for rows that the model in a folder cannot read, by its configuration."""

    def baselines(
        self, processor: Any, train: Sequence[Row], test: Sequence[Row], config: Any, limit: int | None
    ) -> dict[str, list[Row]]:
        """The rows on which the model is scored before it trains, by name: none where its head is drawn at random.

        They are made of the training and the test rows; they have the test rows' labels, and at most `limit` tokens
        where the model has a limit.
        """
        return {}

    def seen(self, row: Row) -> Sequence[int] | None:
        """The tokens of a row that the model reads before it answers. None where it reads something else."""
        return None


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
        width = self.head.get("num_labels", outputs.shape[1])
        assert outputs.shape == (len(labels), width), (outputs.shape, labels.shape, width)
        names = dict.fromkeys((self.metric, *self.kind.always))
        if not np.isfinite(outputs).all():
            return dict.fromkeys(names, float("nan"))
        return {name: self.kind.metrics[name].score(outputs, labels) for name in names}
