"""What a published line keeps of each test example: whether it was answered correctly, its log loss or its part in the
score, and the same of the full update when it is cut."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lorax_lab.record.record import DamagedRecord

if TYPE_CHECKING:
    import numpy as np

CORRECT = "correct"
"""The key of the right answers: bits, as hex digits. A line has none where an answer is more or less right."""
LOSSES = "log_losses"
"""The key of the log loss of each test example: float16, little-endian, in base64. Older lines lack it."""
PSEUDO_VALUES = "pseudo_values"
"""The key of what each test example adds to the score (`tasks.kind.Metric`), packed as log losses are; their mean is
the score. A line has them where its metric does."""
WITH_PSEUDO_VALUES = (("regression", "pearson"), ("language_modeling", "nats"), ("language_modeling", "exact_match"))
"""The kinds of task and metrics that have pseudo-values."""
CUT_PSEUDO_VALUES = "functional_pseudo_values"
"""As `functional_correct`, of the pseudo-values."""
CUT_PARTS = ("cut", "remainder")
CUT_ANSWERS = "functional_correct"
"""The key of the answers on test of an update that was cut in all matrices: by `<part>/<k>`, packed as `correct` is."""


def packed_answers(test: Mapping[str, np.ndarray], cuts: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """The keys of a line that say how a run's saved outputs answer the test split.

    Args:
        test: outputs (n, width), labels (n,), of all but older records `correct` (n,) where an answer is right or
            wrong, and `pseudo_values` (n,) where the metric has them.
        cuts: the same without labels under each cut, by `<part>/<k>`.
    """
    losses, values = log_losses_of(test), test.get(PSEUDO_VALUES)
    packed: dict[str, Any] = {CORRECT: _correct(test)}
    packed |= {LOSSES: None if losses is None else _half(losses)}
    packed |= {PSEUDO_VALUES: None if values is None else _half(values)}
    if packed[CORRECT] is not None and cuts:
        packed[CUT_ANSWERS] = {cut: _correct(outputs) for cut, outputs in cuts.items()}
    if values is not None and cuts:
        packed[CUT_PSEUDO_VALUES] = {cut: _half(outputs[PSEUDO_VALUES]) for cut, outputs in cuts.items()}
    return {key: value for key, value in packed.items() if value is not None}


def correct_answers(line: Mapping[str, Any]) -> np.ndarray:
    """Whether each test example was answered correctly, (n,) bool, in the order of the test split."""
    return _unpacked(line, line[CORRECT])


def cut_answers(line: Mapping[str, Any], part: str) -> dict[int, np.ndarray]:
    """As `correct_answers`, of the update that was cut, or what is left of it (`part` is `cut` or `remainder`), by k;
    empty where the line has no such answers.

    Raises:
        DamagedRecord: a key is not `<part>/<k>`.
    """
    return {k: _unpacked(line, packed) for k, packed in _by_k(line, CUT_ANSWERS, part).items()}


def log_losses(line: Mapping[str, Any]) -> np.ndarray | None:
    """The log loss of each test example in nats, (n,) fp64, in the order of the test split; None where the line has
    none: an answer is no class, or the line is older than the losses.

    Raises:
        DamagedRecord: they are of another number than the test examples, or not finite, or below 0.
    """
    if LOSSES not in line:
        return None
    losses = _numbers(line, line[LOSSES], "log losses")
    if not (losses >= 0).all():
        raise DamagedRecord(f"{line['run_id']}: a log loss is below 0")
    return losses


def pseudo_values(line: Mapping[str, Any]) -> np.ndarray | None:
    """What each test example adds to the score, (n,) fp64, in the order of the test split; their mean is the score to
    half precision. None where the line has none.

    Raises:
        DamagedRecord: they are of another number than the test examples, or not finite.
    """
    return _numbers(line, line[PSEUDO_VALUES], "pseudo-values") if PSEUDO_VALUES in line else None


def cut_pseudo_values(line: Mapping[str, Any], part: str) -> dict[int, np.ndarray]:
    """As `cut_answers`, of the pseudo-values."""
    found = _by_k(line, CUT_PSEUDO_VALUES, part)
    return {k: _numbers(line, packed, "pseudo-values") for k, packed in found.items()}


def check_answers(line: Mapping[str, Any]) -> None:
    """Read every answer and every loss that the line has.

    Raises:
        ValueError: they are of another number than the test examples, or cannot be read.
    """
    if CORRECT in line:
        correct_answers(line)
    for part in CUT_PARTS:
        cut_answers(line, part)
        cut_pseudo_values(line, part)
    log_losses(line)
    pseudo_values(line)


def _by_k(line: Mapping[str, Any], key: str, of: str) -> dict[int, str]:
    """The packed entries of a part under `key`, by k."""
    found = {}
    for name, packed in line.get(key, {}).items():
        part, _, k = name.partition("/")
        if part not in CUT_PARTS or not k.isdecimal():
            raise DamagedRecord(f"{line['run_id']}: {key} has {name}; its keys are cut/K and remainder/K")
        if part == of:
            found[int(k)] = packed
    return dict(sorted(found.items()))


def _numbers(line: Mapping[str, Any], packed: str, what: str) -> np.ndarray:
    """One finite number for each test example."""
    import numpy as np

    numbers = np.frombuffer(base64.b64decode(packed, validate=True), dtype="<f2").astype(float)
    if len(numbers) != (count := line["inputs"]["examples"]["test"]):
        raise DamagedRecord(f"{line['run_id']}: it has {len(numbers)} {what}, of {count} test examples")
    if not np.isfinite(numbers).all():
        raise DamagedRecord(f"{line['run_id']}: one of its {what} is not finite")
    return numbers


def _unpacked(line: Mapping[str, Any], packed: str) -> np.ndarray:
    import numpy as np

    bits, count = np.frombuffer(bytes.fromhex(packed), dtype=np.uint8), line["inputs"]["examples"]["test"]
    if len(bits) != -(-count // 8):
        raise DamagedRecord(f"{line['run_id']}: it has answers of another number than its {count} test examples")
    return np.unpackbits(bits, count=count).astype(bool)


def _correct(test: Mapping[str, np.ndarray]) -> str | None:
    """Which answers are right. An older record does not say so: there whole numbers as labels mean classes."""
    import numpy as np

    right = test.get(CORRECT)
    if right is None and test["labels"].dtype.kind == "i":
        right = test["outputs"].argmax(axis=1) == test["labels"]
    return None if right is None else np.packbits(right).tobytes().hex()


def _half(numbers: np.ndarray) -> str:
    """Packed in half precision; what is too large for it is its largest value."""
    import numpy as np

    largest = float(np.finfo(np.float16).max)
    return base64.b64encode(numbers.clip(-largest, largest).astype("<f2").tobytes()).decode()


def log_losses_of(test: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """−log softmax(outputs)[label] of each example, (n,) fp64, where each has one class: whole numbers as labels, one
    logit for each class. None elsewhere."""
    import numpy as np

    outputs, labels = test["outputs"].astype(float), test["labels"]
    if labels.dtype.kind != "i" or outputs.ndim != 2 or outputs.shape[1] < 2:
        return None
    top = outputs.max(axis=1, keepdims=True)
    sums = np.log(np.exp(outputs - top).sum(axis=1)) + top[:, 0]
    losses: np.ndarray = sums - outputs[np.arange(len(labels)), labels]
    return losses
