"""What a published run keeps of each test example: whether it was answered correctly, its log loss or its part in the
score, and the same of the full update when it is cut. All are in the order of the test split. They are read by group
where examples have some in common."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lorax_lab.record.clusters import GROUPS, pooled
from lorax_lab.record.folder import CORRECT, PSEUDO_VALUES

Line = dict[str, Any]
"""A run as it is published."""
LOSSES = "log_losses"
"""The key of the log loss of each test example in nats, (n,) fp16. Older runs lack it."""
CUT_PARTS = ("cut", "remainder")
CUT_ANSWERS, CUT_PSEUDO_VALUES = "functional_correct", "functional_pseudo_values"
OF_CUTS = {CORRECT: CUT_ANSWERS, PSEUDO_VALUES: CUT_PSEUDO_VALUES}
"""The keys of the same of an update that was cut in all matrices: by part and k."""


def answers_of(test: Mapping[str, np.ndarray], cuts: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """The keys of a line that say how a run's saved outputs answer the test split.

    Args:
        test: outputs (n, width), labels (n,), `correct` (n,) where an answer is right or wrong, `pseudo_values` (n,)
            where the metric has them, and `groups` (n,) where examples have some in common.
        cuts: the same without labels under each cut, by `<part>/<k>`.
    """
    from lorax_lab.tasks.classification import log_losses

    answers: dict[str, Any] = {GROUPS: test[GROUPS]} if GROUPS in test else {}
    outputs, labels = test["outputs"], test["labels"]
    if labels.dtype.kind == "i" and outputs.ndim == 2 and outputs.shape[1] > 1:  # one class, and a logit for each
        answers[LOSSES] = _half(log_losses(outputs, labels))
    for key, of_cuts in OF_CUTS.items():
        if key in test:
            answers[key] = _half(test[key])
            places = {cut: (cut.partition("/")[0], int(cut.partition("/")[2])) for cut in cuts}
            answers |= {of_cuts: {places[cut]: _half(seen[key]) for cut, seen in cuts.items()}} if cuts else {}
    return answers


def with_groups(lines: Iterable[Line]) -> list[Line]:
    """The lines, each with the groups of its test examples where any line of the same test split has them: older runs
    did not record them."""
    lines = list(lines)
    groups = {_split(line): line[GROUPS] for line in lines if GROUPS in line}
    answered = [any(key in line for key in (LOSSES, *OF_CUTS)) for line in lines]
    return [
        line | {GROUPS: groups[_split(line)]} if has and _split(line) in groups else line
        for line, has in zip(lines, answered, strict=True)
    ]


def _split(line: Line) -> tuple[Any, ...]:
    inputs, task = line["inputs"], line["config"]["task"]
    return inputs["data_sha256"], inputs["examples"].get("test"), task.get("split_seed"), task.get("name")


def by_example(line: Mapping[str, Any], key: str) -> np.ndarray | None:
    """What each test example has under a key, (n,) fp64: 1 for a right answer, its log loss in nats, or what it adds to
    the score; of examples in groups what each group has (`pooled`). None where the line has no such key."""
    return pooled(line[key].astype(float), line.get(GROUPS)) if key in line else None


def cuts_by_example(line: Mapping[str, Any], key: str, part: str) -> dict[int, np.ndarray]:
    """As `by_example`, of the update that was cut, or what is left of it (`part` is `cut` or `remainder`), by k."""
    cuts = line.get(OF_CUTS[key], {}).items()
    groups = line.get(GROUPS)
    return dict(sorted((k, pooled(values.astype(float), groups)) for (name, k), values in cuts if name == part))


def _half(values: np.ndarray) -> np.ndarray:
    """Numbers in half precision; what is too large for it is its largest value. Truth values stay."""
    if values.dtype == bool:
        return values
    largest = float(np.finfo(np.float16).max)
    return values.clip(-largest, largest).astype(np.float16)
