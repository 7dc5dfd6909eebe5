"""What a published line keeps of each test example: whether it was answered correctly, its log loss, and whether the
full update still answers it correctly when it is cut."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lorax_lab.store.record import DamagedRecord

if TYPE_CHECKING:
    import numpy as np

CORRECT = "correct"
"""The key of the right answers: bits, as hex digits. A line has none where an answer is more or less right."""
LOSSES = "log_losses"
"""The key of the log loss of each test example: float16, little-endian, in base64. Older lines lack it."""
CUT_PARTS = ("cut", "remainder")
CUT_ANSWERS = "functional_correct"
"""The key of the answers on test of an update that was cut in all matrices: by `<part>/<k>`, packed as `correct` is."""


def packed_answers(test: Mapping[str, np.ndarray], cuts: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """The keys of a line that say how a run's saved outputs answer the test split.

    Args:
        test: outputs (n, width), labels (n,) and, of all but older records, `correct` (n,) where an answer is right or
            wrong.
        cuts: outputs, and `correct` where an answer is right or wrong, under each cut, by `<part>/<k>`.
    """
    packed: dict[str, Any] = {CORRECT: _correct(test), LOSSES: _losses(test)}
    if packed[CORRECT] is not None and cuts:
        packed[CUT_ANSWERS] = {cut: _correct(outputs) for cut, outputs in cuts.items()}
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
    found = {}
    for key, packed in line.get(CUT_ANSWERS, {}).items():
        of, _, k = key.partition("/")
        if of not in CUT_PARTS or not k.isdecimal():
            raise DamagedRecord(f"{line['run_id']}: {CUT_ANSWERS} has {key}; its keys are cut/K and remainder/K")
        if of == part:
            found[int(k)] = _unpacked(line, packed)
    return dict(sorted(found.items()))


def log_losses(line: Mapping[str, Any]) -> np.ndarray | None:
    """The log loss of each test example in nats, (n,) fp64, in the order of the test split; None where the line has
    none: an answer is no class, or the line is older than the losses.

    Raises:
        DamagedRecord: they are of another number than the test examples, or not finite, or below 0.
    """
    import numpy as np

    if LOSSES not in line:
        return None
    losses = np.frombuffer(base64.b64decode(line[LOSSES], validate=True), dtype="<f2").astype(float)
    if len(losses) != (count := line["inputs"]["examples"]["test"]):
        raise DamagedRecord(f"{line['run_id']}: it has {len(losses)} log losses, of {count} test examples")
    if not (np.isfinite(losses) & (losses >= 0)).all():
        raise DamagedRecord(f"{line['run_id']}: a log loss is not finite, or below 0")
    return losses


def check_answers(line: Mapping[str, Any]) -> None:
    """Read every answer and every loss that the line has.

    Raises:
        ValueError: they are of another number than the test examples, or cannot be read.
    """
    if CORRECT in line:
        correct_answers(line)
    for part in CUT_PARTS:
        cut_answers(line, part)
    log_losses(line)


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


def _losses(test: Mapping[str, np.ndarray]) -> str | None:
    import numpy as np

    losses = log_losses_of(test)
    largest = float(np.finfo(np.float16).max)
    return None if losses is None else base64.b64encode(losses.clip(0, largest).astype("<f2").tobytes()).decode()


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
