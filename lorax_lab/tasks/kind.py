"""What a kind of task says of itself, and a task of it: examples in three splits, class names, and a score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.config import MEAN, OWN, TaskConfig
from lorax_lab.data import Example

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

Row = dict[str, Any]
"""One example as the model reads it, before it is padded."""
Inputs = dict[str, "Tensor"]
"""One batch: what the model is called with, `labels` among it."""


@dataclass(frozen=True)
class Metric:
    """A score of outputs (n, width) against labels (n,), its value where every output is right, and its direction.

    `constant` gives, of the labels and the number of classes, the best score of one answer for every input. None where
    no such answer has a score.

    `pseudo_values` gives what each example adds to the score, (n,) fp64: the score plus the example's influence, so
    that their mean is the score (Efron & Tibshirani 1993, sec. 11.5). Intervals over examples are computed of them.
    None where no such values are known, or the score is the share of answers that are right.
    """

    of: Callable[[np.ndarray, np.ndarray], float]
    best: float = 1.0
    higher_is_better: bool = True
    constant: Callable[[np.ndarray, int], float] | None = None
    pseudo_values: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


def own_loss(model: nn.Module, inputs: Inputs) -> Tensor:
    """The mean loss that the model's class computes from the labels of a batch, a scalar."""
    loss: Tensor = model(**inputs).loss
    return loss


def logits(model: nn.Module, inputs: Inputs, processor: Any) -> Tensor:
    """The model's outputs (n, width), without its loss. The processor is not needed."""
    outputs: Tensor = model(**{key: value for key, value in inputs.items() if key != "labels"}).logits
    return outputs


def examples_of(inputs: Inputs) -> int:
    """How many examples a batch holds."""
    return len(inputs["labels"])


def no_notes(rows: Sequence[Row], config: TaskConfig) -> list[str]:
    """Nothing is to be said of the rows."""
    return []


def no_baselines(
    processor: Any, train: Sequence[Row], test: Sequence[Row], config: TaskConfig, limit: int | None
) -> dict[str, list[Row]]:
    """An untrained model is not scored: its head is drawn at random."""
    return {}


def any_rows(folder: Path, processor: Any, rows: Sequence[Row], config: TaskConfig) -> None:
    """The model reads all that the processor makes."""


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    Args:
        config: its settings under `task.` with their defaults and checks. `config.inputs` names the inputs that it
            reads of an example, `config.labels` the form of its labels.
        model_class: the auto-class of transformers that reads the base. What this class adds to the pretrained body,
            and no checkpoint of a base holds, is the head.
        processor_class: the auto-class of transformers that reads the tokenizer or the image processor.
        head: the settings of the head, by the names of the classes.
        encode: examples as rows. It raises ConfigError for one that the model cannot read.
        size: how long a row is. Rows of like size make a batch.
        collate: the batch of some rows and their labels.
        tokens: how many tokens, or other units, of a batch the model reads.
        metrics: the scores that `task.metric` can name; the first one is the default.
        always: the scores that are always reported.
        answers: the answer (n,) that each row of outputs gives, to compare with labels.
        correct: which answers are right (n,), bool. None where an answer is more or less right.
        weight: how much a batch's mean loss counts among the batches of one step.
        loss: the mean loss of a batch.
        outputs: (model, batch, processor) gives what the score is computed from, (n, width), in the order of the batch.
        notes: what a person should know of the rows before anything trains, such as what was cut.
        require_readable: raises ConfigError for rows that the model in a folder cannot read, by its configuration.
        baselines: the rows on which the model is scored before it trains, by name. They are made of the training and
            the test rows; they have the test rows' labels, and at most `limit` tokens where the model has a limit.
        smaller: what makes one example take less memory, in words; it may name a key of the kind.
        seen: the tokens of a row that the model reads before it answers. None where it reads something else.
    """

    config: type[TaskConfig]
    model_class: str
    processor_class: str
    head: Callable[[Sequence[str]], dict[str, Any]]
    encode: Callable[[Any, Sequence[Example], TaskConfig], list[Row]]
    size: Callable[[Row], int]
    collate: Callable[[Any, Sequence[Row], Any], Inputs]
    tokens: Callable[[Inputs], int]
    metrics: Mapping[str, Metric]
    always: tuple[str, ...]
    answers: Callable[[np.ndarray], np.ndarray]
    correct: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
    weight: Callable[[Inputs], float] = examples_of
    loss: Callable[[nn.Module, Inputs], Tensor] = own_loss
    outputs: Callable[[nn.Module, Inputs, Any], Tensor] = logits
    notes: Callable[[Sequence[Row], TaskConfig], list[str]] = no_notes
    require_readable: Callable[[Path, Any, Sequence[Row], TaskConfig], None] = any_rows
    baselines: Callable[[Any, Sequence[Row], Sequence[Row], TaskConfig, int | None], dict[str, list[Row]]] = (
        no_baselines
    )
    smaller: str = "a smaller model"
    seen: Callable[[Row], Sequence[int]] | None = None


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
