"""Does what a line says of each test example agree with its scores?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

from lorax_lab.study.answers import (
    CORRECT,
    CUT_ANSWERS,
    CUT_PSEUDO_VALUES,
    PSEUDO_VALUES,
    WITH_PSEUDO_VALUES,
    correct_answers,
    cut_answers,
    cut_pseudo_values,
    log_losses,
    pseudo_values,
)
from lorax_lab.study.published import Line

if TYPE_CHECKING:
    import numpy as np

ROUNDING = 5.1e-6
"""Relative error, at most, of a number that a line keeps to six digits: of .133333 for 2 of 15 it is 2.5e-6."""
COUNTED = "accuracy"
"""The metric that is a share of examples."""
MAY_BE_ALIKE = ("exact_match",)
"""The metric of which every example may have the same pseudo-value: none is right, or all are."""
HALF = 2**-10
"""Relative error, at most, of a log loss in half precision."""
SURELY = 5.0
UNLIKE = 0.01
BOUNDS = {"nats": (0.0, math.inf), "pearson": (-1.0, 1.0), "spearman": (-1.0, 1.0)}
"""Between which values a metric lies, where its examples do not say."""
WHOLE = "cut"
"""The part that is the whole update where k is that of all directions."""


def of_scores(line: Line) -> Iterator[str]:
    """Answers and pseudo-values are there where the metric has them, and give the score, which is one there can be."""
    scores = (line["metrics"].get(f"{split}/{line['metric']}") for split in ("validation", "test"))
    if not all(map(partial(_can_be, line), scores)):
        yield f"no {line['metric']} can be what it scores"
    if CORRECT in line:
        yield from _answers(line, line["metrics"].get(f"test/{COUNTED}"))
    if line["config"]["measure"] == "trial":
        return
    values = pseudo_values(line)
    if ((line["config"]["task"].get("kind"), line["metric"]) in WITH_PSEUDO_VALUES) != (values is not None):
        yield f"it has {'no' if values is None else 'strange'} pseudo-values of its test examples"
    elif values is not None:
        if abs(values.mean() - line["metrics"][f"test/{line['metric']}"]) > _half(values):
            yield "the test score is not the mean of its pseudo-values"
        if line["metric"] not in MAY_BE_ALIKE and (values == values[0]).all():
            yield "its pseudo-values are all the same"
    yield from _losses(line)


def _can_be(line: Line, score: float | None, error: float = ROUNDING) -> bool:
    """Whether a metric can have this value, give or take its error; where it has none, nothing is said."""
    least, most = BOUNDS.get(line["metric"], (-math.inf, math.inf))
    return score is None or least - error <= score <= most + error


def _losses(line: Line) -> Iterator[str]:
    """A right answer has the largest of the classes' probabilities, so at least 1 / classes; of a wrong one the right
    class has at most a half."""
    losses = log_losses(line)
    if losses is None or CORRECT not in line:
        return
    right, classes = correct_answers(line), len(line["inputs"]["classes"])
    most, least = math.log(classes) * (1 + HALF), math.log(2) * (1 - HALF)
    if (losses[right] > most).any() or (losses[~right] < least).any():
        yield "the log losses are not those of its answers"


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
    if not all(_can_be(line, score) for *_, score in line["functional"]):
        yield f"no {line['metric']} can be what a cut scores"
    scored_on_test = any(part == "shrunk" for part, *_ in line["functional"])
    if (scored_on_test and PSEUDO_VALUES in line) or CUT_PSEUDO_VALUES in line:
        values, own = cut_pseudo_values(line, WHOLE), pseudo_values(line)
        if values.keys() != ranks:
            yield "the pseudo-values of the full update's cuts are not those of its cuts"
        elif own is None or (values[full(line)] != own).any():
            yield "the uncut update does not have the run's pseudo-values"
        elif not all(_can_be(line, float(own.mean()), _half(own)) for own in values.values()):
            yield f"no {line['metric']} can be what a cut scores"
        else:
            yield from _test_and_validation(line, values)
    if CUT_ANSWERS not in line:
        if line["metric"] == COUNTED and CORRECT in line and scored_on_test:
            yield "the answers of the full update's cuts are gone"
        return
    of_cuts = cut_answers(line, WHOLE)
    if of_cuts.keys() != ranks:
        yield "the answers of the full update's cuts are not those of its cuts"
    elif CORRECT not in line or (of_cuts[full(line)] != correct_answers(line)).any():
        yield "the uncut update does not have the run's answers"
    else:
        yield from _test_and_validation(line, of_cuts)


def _test_and_validation(line: Line, of_cuts: Mapping[int, np.ndarray]) -> Iterator[str]:
    """What a cut changes on test is what it changes on validation, to `SURELY` standard deviations of what the two
    splits' examples may differ by. Cuts of unlike scores on validation have unlike examples on test.

    Of n examples the mean square of what a cut changes is taken, and one example's share more: one answer turned, or a
    pseudo-value off by as much as examples differ.

    Args:
        of_cuts: of each k the answers or the pseudo-values, (n,).
    """
    rows = {k: score for part, k, module, score in line["functional"] if (part, module) == (WHOLE, None)}
    on_validation = {k: score for k, score in rows.items() if score is not None}
    whole, counts, uncut = of_cuts[full(line)], line["inputs"]["examples"], on_validation.get(full(line), math.nan)
    counted = whole.dtype == bool or line["metric"] in MAY_BE_ALIKE
    spread = 1.0 if counted else float(whole.std())
    for k, score in on_validation.items():
        changes = of_cuts[k].astype(float) - whole
        square = (changes**2).mean() + spread**2 / len(whole)
        deviation = math.sqrt(square / len(whole) + square / counts["validation"])
        if abs(changes.mean() - (score - uncut)) > SURELY * deviation:
            yield "a cut changes the score on test by other than on validation"
            return
    for one, other in combinations(on_validation, 2):
        if abs(on_validation[one] - on_validation[other]) > UNLIKE and (of_cuts[one] == of_cuts[other]).all():
            yield f"cuts of unlike scores have the same {'answers' if whole.dtype == bool else 'pseudo-values'}"
            return


def full(line: Line) -> int:
    """The number of directions of the largest matrix, at which a cut changes nothing."""
    return max(min(row["shape"]) for row in line["matrices"].values())
