"""When a claim of the LoRA paper holds, by intervals, and what runs say of its claims about scores and losses.

`claims.toml` has the claims. Each names a function (here, in `directions.py` or in `amplification.py`) and
the numbers of its rule. A function gives a reading for each part of a claim, such as the query and the value matrices.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from lorax_lab.record.statistics import Interval, crossed

from ..study import comparison
from ..study.records import Records

HOLDS, FAILS, NOT_TOLD = "holds", "fails", "not told"
OPPOSITE = {HOLDS: FAILS, FAILS: HOLDS, NOT_TOLD: NOT_TOLD}
CONTROLS = {"random labels": "sarcasm"}
"""Conditions that are no task, each with the task whose texts it has: what is found there too, that task does not
make."""
OTHER_HEAD = " with the usual head"
"""How conditions end that are a task again, with another head: no task of their own."""


@dataclass(frozen=True)
class Reading:
    """A part of a claim: our number with its 95 % interval, and whether the claim surely holds or fails of it."""

    value: Interval
    outcome: str


Readings = dict[str, Reading]


def is_task(condition: str) -> bool:
    """Whether a condition is a task of its own: no control, and no task again with another head.

    >>> [is_task(name) for name in ("sarcasm", "sarcasm with the usual head", "random labels")]
    [True, False, False]
    """
    return condition not in CONTROLS and not condition.endswith(OTHER_HEAD)


def above(value: Interval, line: float) -> Reading:
    """Holds where the whole interval is above the line, fails where it is below."""
    return Reading(value, HOLDS if value.low > line else FAILS if value.high < line else NOT_TOLD)


def within(value: Interval, low: float, high: float) -> Reading:
    """Holds where the whole interval is between two lines, fails where it is outside."""
    if low < value.low and value.high < high:
        return Reading(value, HOLDS)
    return Reading(value, FAILS if value.low > high or value.high < low else NOT_TOLD)


def all_of(outcomes: Iterable[str]) -> str:
    """The outcome of a claim of several parts: it holds where each part does, and fails where one does.

    >>> all_of([HOLDS, HOLDS]), all_of([HOLDS, NOT_TOLD, FAILS]), all_of([HOLDS, NOT_TOLD])
    ('holds', 'fails', 'not told')
    """
    kinds = set(outcomes)
    return FAILS if FAILS in kinds else HOLDS if kinds == {HOLDS} else NOT_TOLD


def scores(records: Records, task: str, *, better: Sequence[str], than: Sequence[str], by: float = 0.0) -> Readings:
    """Whether each of some arms is above each of others by more than a number of points / 100.

    Each holds by its own interval, since all have to. It fails by an interval that is wide enough for all pairs at
    once, since one is enough.
    """
    readings, pairs = {}, list(product(better, than))
    for arm, rival in pairs:
        reading = above(between(records, task, arm, rival), by)
        fails = between(records, task, arm, rival, len(pairs)).high < by
        outcome = reading.outcome if reading.outcome == HOLDS else FAILS if fails else NOT_TOLD
        readings[f"{arm} over {rival}"] = Reading(reading.value, outcome)
    return readings


def between(records: Records, task: str, arm: str, rival: str, chosen: int = 1) -> Interval:
    """The gain of one arm over another on test, paired by seed and test example; of the best of several, wide enough
    for all of them at once. An arm of which a final run diverged loses without limit; two of them have no difference.
    """
    if (lost := _lost(records, task, arm, rival)) is not None:
        return lost
    difference = _minus_reference(records, task, arm) - _minus_reference(records, task, rival)
    return crossed(difference).interval(chosen).oriented(records.higher_is_better(task))


def _lost(records: Records, task: str, arm: str, rival: str) -> Interval | None:
    is_lost, rival_is_lost = (comparison.is_lost(records, task, name) for name in (arm, rival))
    if is_lost:
        return comparison.NONE if rival_is_lost else comparison.LOST
    return Interval(math.inf, math.inf, math.inf, 0) if rival_is_lost else None


def _minus_reference(records: Records, task: str, arm: str) -> np.ndarray:
    """(seeds, examples) differences from the reference; 0 of itself."""
    is_reference = arm == records.protocol.reference
    return np.zeros((1, 1)) if is_reference else comparison.differences(records, task, arm)


def loss_stops(records: Records, task: str, *, stops: int, largest: int, nats: float) -> Readings:
    """Whether the log loss falls by more than some nats from rank 1 to the rank where it stops, and changes by less
    from there to the largest."""
    first, stop, last = (f"LoRA r={rank}" for rank in (1, stops, largest))
    falls, stays = loss_between(records, task, stop, first), loss_between(records, task, last, stop)
    return {"falls": above(falls, nats), "stays": within(stays, -nats, nats)}


def loss_between(records: Records, task: str, arm: str, rival: str) -> Interval:
    """By how many nats the log loss on test falls from the other arm to this one, as `between`; NaN where lines have no
    losses."""
    if (lost := _lost(records, task, arm, rival)) is not None:
        return lost
    after, before = (comparison.loss_differences(records, task, name) for name in (arm, rival))
    return comparison.NONE if before is None or after is None else crossed(before - after).interval()
