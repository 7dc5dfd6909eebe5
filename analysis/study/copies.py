"""Are two runs' records copies of each other? And which answers may agree?"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

import numpy as np

from lorax_lab.study.answers import (
    CORRECT,
    CUT_ANSWERS,
    CUT_PSEUDO_VALUES,
    LOSSES,
    PSEUDO_VALUES,
    correct_answers,
    cut_answers,
    log_losses,
    pseudo_values,
)
from lorax_lab.study.published import COLLAPSED, Line

from ..constant import MAJORITY
from .constants import constant
from .examples import MAY_BE_ALIKE, WHOLE
from .markdown import some
from .near import near
from .records import Records

FEW = 2
"""Runs that err on so many examples of hundreds often err on the same ones, which are the hardest."""
CONSTANT = "which is what the model does"
"""The words by which a collapsed run's record says that the model gives one answer for every input."""
TEST = "test"


def of_study(records: Records) -> Iterator[str]:
    """No two runs of a study are copies, also of two conditions: those with one test split are compared by what they
    answer, and all of them by their updates, scores and times."""
    splits: dict[tuple[str, int, str], dict[str, list[Line]]] = {}
    every: list[Line] = []
    for condition in records.conditions:
        finals = [line for line in records.of(condition, "final") if line["status"] == "completed"]
        every += [*records.of(condition, "trial"), *finals]
        for line in finals:
            split = (line["inputs"]["data_sha256"], line["inputs"]["examples"].get(TEST, 0), line["metric"])
            splits.setdefault(split, {}).setdefault(condition, []).append(line)
    for of_split_lines in splits.values():
        lines = [line for own in of_split_lines.values() for line in own]
        names, first = ", ".join(of_split_lines), next(iter(of_split_lines))
        yield from (f"{names}: {breach}" for breach in of_split(records, first, lines))
    moved = [line for line in every if line.get("matrices") and not _is_zero(line)]
    yield from _named("updates", _same(moved, "matrices"))
    yield from _named("singular values", _same(moved, "sigma"))
    yield from _named("scores and times", _same(every, "metrics", "time"))


def of_split(records: Records, condition: str, lines: list[Line]) -> Iterator[str]:
    """No two final runs with one test split have the same answers, losses or pseudo-values, or all but the same;
    `reason_alike` says which answers may agree.

    Args:
        condition: one of the runs'.
    """
    wide = [line for line in lines if CORRECT in line]
    yield from _named("answers", (runs for runs in _alike(wide, CORRECT) if not reason_alike(runs, wide)))
    yield from _of_one_class(records, condition, wide)
    yield from _named("log losses", _alike(lines, LOSSES))
    values = [line for line in lines if line.get("metric") not in MAY_BE_ALIKE]
    yield from _named("pseudo-values", _alike(values, PSEUDO_VALUES))
    for what, key, read in (("log losses", LOSSES, log_losses), ("pseudo-values", PSEUDO_VALUES, pseudo_values)):
        numbers = {line["run_id"]: own for line in values if key in line and (own := read(line)) is not None}
        yield from (f"runs with all but identical {what}: {some(runs)}" for runs in near(numbers))
    yield from _cuts(records, condition, lines)


def without_losses(records: Records, lines: list[Line]) -> Iterator[str]:
    """The runs of a condition all have the log losses of their answers, or none has; with a margin all have."""
    wide = [line for line in lines if CORRECT in line]
    without = [line["run_id"] for line in wide if LOSSES not in line]
    if without and (len(without) < len(wide) or records.protocol.loss_margin is not None):
        yield f"runs without the log losses that others have, or that have a margin: {some(without)}"


def reason_alike(runs: Sequence[Line], others: Iterable[Line]) -> str:
    """Why runs whose answers are the same may be several, in words; empty where they may not.

    All are right, or all wrong; or so but for very few, and each run has losses of its own; or every example gets one
    class, which the record says, or which other runs of two classes show, whose answers are the opposite throughout.
    """
    own = correct_answers(runs[0])
    few, usual = min((int((~own).sum()), "right"), (int(own.sum()), "wrong"))
    if not few:
        return f"all are {usual}"
    losses = {line.get(LOSSES) for line in runs}
    if _very_few(own) and None not in losses and len(losses) == len(runs):
        return f"all but {few} are {usual}, and their losses differ"
    patterns = [correct_answers(text) for text in {x[CORRECT]: x for x in others}.values()]
    two = len(runs[0]["inputs"].get("classes", ())) == 2
    opposite = two and any(np.array_equal(pattern, ~own) for pattern in patterns)
    return "one class for every example" if _says_one_class(runs[0]) or opposite else ""


def _very_few(right: np.ndarray) -> bool:
    few = min(int(right.sum()), int((~right).sum()))
    return few <= FEW and 100 * few <= len(right)


def _says_one_class(line: Line) -> bool:
    return any(CONSTANT in reason for reason in line.get(COLLAPSED, ()))


def _of_one_class(records: Records, condition: str, lines: list[Line]) -> Iterator[str]:
    """Where answers agree and the records say that every example got one class, the score is that of a class."""
    said = [line for runs in _alike(lines, CORRECT) for line in runs if _says_one_class(line)]
    wrong = [line["run_id"] for line in said if not _is_one_class(records, condition, line, correct_answers(line))]
    if wrong:
        yield f"runs with identical answers that are said to give one class, whose score it is not: {some(wrong)}"


def _is_one_class(records: Records, condition: str, line: Line, right: np.ndarray) -> bool:
    """Whether so many are right as one class has examples. Of two classes the share of each is known, of more that of
    the most frequent one. It is taken for true where the file of shares lacks the condition."""
    share, name = constant(records, condition, TEST) or (math.nan, "")
    if name != MAJORITY:
        return True
    if len(line["inputs"]["classes"]) > 2:
        return bool(right.mean() <= share + 1 / len(right))
    return any(abs(right.mean() - of_class) * len(right) < 1 for of_class in (share, 1 - share))


def _cuts(records: Records, condition: str, lines: list[Line]) -> Iterator[str]:
    """What two seeds' updates answer when they are cut. Without any update they may agree, as one class does, and as
    answers do that are all right but for very few."""
    seen: dict[tuple[int, bytes], list[Line]] = {}
    for line in lines:
        for k, right in cut_answers(line, WHOLE).items() if CUT_ANSWERS in line else ():
            if k and not _very_few(right) and not _is_one_class(records, condition, line, right):
                seen.setdefault((k, right.tobytes()), []).append(line)
    for (k, _), runs in seen.items():
        yield from _named(f"answers when they are cut to {k}", [runs] if len(runs) > 1 else [])
    values: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        for cut, packed in line.get(CUT_PSEUDO_VALUES, {}).items():
            if not cut.endswith("/0") and cut.startswith(WHOLE) and line["metric"] not in MAY_BE_ALIKE:
                values.setdefault((cut, packed), []).append(line)
    yield from _named("pseudo-values when they are cut", (runs for runs in values.values() if len(runs) > 1))


def _named(what: str, groups: Iterable[Sequence[Line]]) -> Iterator[str]:
    for runs in groups:
        yield f"runs with identical {what}: {some(line['run_id'] for line in runs)}"


def _alike(lines: Iterable[Line], key: str) -> list[list[Line]]:
    return _groups([line for line in lines if key in line], lambda line: line[key])


def _same(lines: Iterable[Line], *keys: str) -> list[list[Line]]:
    """The lines that have these parts, grouped by what is the same in all of them."""
    having = [line for line in lines if all(line.get(key) for key in keys)]
    return _groups(having, lambda line: json.dumps([line[key] for key in keys], sort_keys=True))


def _groups(lines: Iterable[Line], key: Callable[[Line], Hashable]) -> list[list[Line]]:
    groups: dict[Hashable, list[Line]] = {}
    for line in lines:
        groups.setdefault(key(line), []).append(line)
    return [group for group in groups.values() if len(group) > 1]


def _is_zero(line: Line) -> bool:
    return all(row.get("undefined") or not row.get("frobenius_norm", 1.0) for row in line["matrices"].values())
