"""Does what a line says of each test example agree with its scores?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lorax_lab.store.answers import (
    CORRECT,
    CUT_ANSWERS,
    CUT_PSEUDO_VALUES,
    PSEUDO_VALUES,
    WITH_PSEUDO_VALUES,
    correct_answers,
    cut_answers,
    cut_pseudo_values,
    pseudo_values,
)
from lorax_lab.store.published import Line

if TYPE_CHECKING:
    import numpy as np

ROUNDING = 5.1e-6
"""Relative error, at most, of a number that a line keeps to six digits: of .133333 for 2 of 15 it is 2.5e-6."""
COUNTED = "accuracy"
"""The metric that is a share of examples."""
WHOLE = "cut"
"""The part that is the whole update where k is that of all directions."""


def of_scores(line: Line) -> Iterator[str]:
    """Answers and pseudo-values are there where the metric has them, and give the score."""
    if CORRECT in line:
        yield from _answers(line, line["metrics"].get(f"test/{COUNTED}"))
    if line["config"]["measure"] == "trial":
        return
    values = pseudo_values(line)
    if ((line["config"]["task"].get("kind"), line["metric"]) in WITH_PSEUDO_VALUES) != (values is not None):
        yield f"it has {'no' if values is None else 'strange'} pseudo-values of its test examples"
    elif values is not None and abs(values.mean() - line["metrics"][f"test/{line['metric']}"]) > _half(values):
        yield "the test score is not the mean of its pseudo-values"


def _answers(line: Line, score: float | None) -> Iterator[str]:
    count, packed = line["inputs"]["examples"].get("test", 0), bytes.fromhex(line[CORRECT])
    if len(packed) != -(-count // 8) or (count % 8 and packed[-1] & (0xFF >> count % 8)):
        yield "it has another number of answers than of test examples"
    elif score is not None and not math.isclose(correct_answers(line).mean(), score, rel_tol=ROUNDING, abs_tol=1e-9):
        yield "the test accuracy is not that of its answers"


def _half(values: np.ndarray) -> float:
    """The error, at most, of the mean of numbers in half precision, and of a rounded score."""
    return float(abs(values).mean()) * (2**-11 + ROUNDING) + 2**-25


def of_cuts(line: Line, ranks: set[int]) -> Iterator[str]:
    """What the cuts say of each test example is all there, and the uncut update has the run's own.

    Args:
        ranks: of the cuts of all matrices at once.
    """
    scored_on_test = any(part == "shrunk" for part, *_ in line["functional"])
    if (scored_on_test and PSEUDO_VALUES in line) or CUT_PSEUDO_VALUES in line:
        values, own = cut_pseudo_values(line, WHOLE), pseudo_values(line)
        if values.keys() != ranks:
            yield "the pseudo-values of the full update's cuts are not those of its cuts"
        elif own is None or (values[full(line)] != own).any():
            yield "the uncut update does not have the run's pseudo-values"
    if CUT_ANSWERS not in line:
        if line["metric"] == COUNTED and CORRECT in line and scored_on_test:
            yield "the answers of the full update's cuts are gone"
        return
    of_cuts = cut_answers(line, WHOLE)
    if of_cuts.keys() != ranks:
        yield "the answers of the full update's cuts are not those of its cuts"
    elif CORRECT not in line or (of_cuts[full(line)] != correct_answers(line)).any():
        yield "the uncut update does not have the run's answers"


def full(line: Line) -> int:
    """The number of directions of the largest matrix, at which a cut changes nothing."""
    return max(min(row["shape"]) for row in line["matrices"].values())
