"""A claim of the paper, and what a study says of it on one task."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

from lorax_lab.study.declaration import Declaration

from ..study.records import Records
from ..study.statistics import Interval, t_interval

HOLDS, FAILS, UNSURE = "holds", "does not hold", "cannot be told here"
TOO = ", as of noise"
CONTROLS = {"random labels": "sarcasm"}
"""Conditions that are no task, each with the task whose texts it has: what is found there too, that task does not
make."""
FULL_FINE_TUNING = "full fine-tuning"
OTHER_HEAD = " with the usual head"
"""How conditions end that are a task again, with another head: they are told, and count as no task of their own."""
FEWEST = 3
"""Seeds, below which what every two of them share has no interval."""


@dataclass(frozen=True)
class Reading:
    """What the runs of one task say of a claim.

    Attributes:
        subject: of which matrices, arms or ranks.
        number: with its 95 % interval.
        beside: what chance, noise or a control gives in its place.
        outcome: `HOLDS`, `FAILS` or `UNSURE`.
        of_noise: what the same rule says of noise in the update's place, or of its factors before training.
        stands_beside: what it is of, where it stands beside the claim and does not decide it: full fine-tuning where
            the claim is of LoRA, or the product B A where the paper has A.
    """

    task: str
    subject: str
    number: str
    beside: str
    outcome: str
    of_noise: str = FAILS
    stands_beside: str = ""

    @property
    def told(self) -> str:
        """The outcome, and whether noise has it too."""
        return f"{self.outcome}{TOO}" if self.outcome == self.of_noise == HOLDS else self.outcome


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        text: in a sentence.
        theirs: the paper's own numbers.
        rule: when it holds here, and when it does not.
        read: gives the readings; none of a task whose records do not have what it takes.
    """

    text: str
    theirs: str
    rule: str
    read: Callable[[Records], Iterable[Reading]]


@dataclass(frozen=True)
class Section:
    """A table or figure of the paper, the study that asks again, and the study's figures that stand in its place.

    Attributes:
        measured: whether the claims are read from what was measured of every condition's runs afterwards.
        notes: each gives sentences that stand below the claims, from the declaration, and from the records if there
            are any.
    """

    title: str
    study: str
    figures: tuple[str, ...]
    claims: tuple[Claim, ...]
    measured: bool = False
    notes: tuple[Callable[[Declaration, Records | None], Iterable[str]], ...] = ()


def is_task(condition: str) -> bool:
    """Whether a condition is a task of its own: no control, and no task again with another head.

    >>> [is_task(name) for name in ("sarcasm", "sarcasm with the usual head", "random labels")]
    [True, False, False]
    """
    return condition not in CONTROLS and not condition.endswith(OTHER_HEAD)


def above(interval: Interval, line: float) -> str:
    """Whether a number is surely above the line, or surely below it."""
    if interval.low > line:
        return HOLDS
    return FAILS if interval.high < line else UNSURE


def below(interval: Interval, line: float) -> str:
    """Whether a number is surely below the line, or surely above it."""
    return above(Interval(-interval.mean, -interval.high, -interval.low, interval.count), -line)


def within(interval: Interval, low: float, high: float) -> str:
    """Whether a number surely lies between two lines, or surely outside."""
    if low < interval.low and interval.high < high:
        return HOLDS
    return FAILS if interval.low > high or interval.high < low else UNSURE


def both(*outcomes: str) -> str:
    """The outcome of a claim of several parts: it holds where all do, and does not where one does not."""
    if FAILS in outcomes:
        return FAILS
    return HOLDS if set(outcomes) == {HOLDS} else UNSURE


def of_every_two(values: Sequence[float], seeds: int) -> Interval:
    """The interval over seeds of a mean over every two of them, in the order of `itertools.combinations`, or of
    `permutations` where there are twice as many values.

    Pairs that have a seed in common are not independent, so that Student's interval over the pairs would be too narrow.
    It is taken over the seeds' jackknife pseudo-values (Arvesen 1969). NaN limits below three seeds.

    >>> str(of_every_two([0.1, 0.2, 0.3], 3))
    '0.2000 [-0.2968, 0.6968]'
    """
    two = combinations(range(seeds), 2) if 2 * len(values) == seeds * (seeds - 1) else permutations(range(seeds), 2)
    by_pair = dict(zip(two, values, strict=True))
    mean = sum(values) / len(values)
    if seeds < FEWEST:
        return Interval(mean, math.nan, math.nan, seeds)
    without = [[v for pair, v in by_pair.items() if seed not in pair] for seed in range(seeds)]
    return t_interval([seeds * mean - (seeds - 1) * sum(left) / len(left) for left in without])


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign; a zero, also of rounding, has none.

    >>> signed(0.0204), signed(-0.5), signed(-0.0004), signed(0.0)
    ('+0.020', '-0.500', '0.000', '0.000')
    """
    return _unsigned_zero(f"{value:+.{digits}f}")


def _unsigned_zero(text: str) -> str:
    return text.lstrip("+-") if float(text) == 0 else text


def written(interval: Interval, digits: int = 3) -> str:
    """A number with its interval, as the page has it; in words where there is none."""
    if math.isnan(interval.mean):
        return "no number, since a run or a matrix has none"
    if math.isinf(interval.mean):
        return "no score, since a final run diverged"
    if math.isnan(interval.low):
        return f"{_unsigned_zero(f'{interval.mean:.{digits}f}')}, without an interval"
    ends = (interval.mean, interval.low, interval.high)
    mean, low, high = (_unsigned_zero(f"{end:.{digits}f}") for end in ends)
    return f"{mean} [{low}, {high}]"
