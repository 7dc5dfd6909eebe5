"""Tables 5, 6, 8, 15, 16, 17 and 18: scores and losses of arms against each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from ..study import comparison
from ..study.records import Records
from ..study.statistics import Interval, crossed
from .reading import Reading, above, both, within, written

SINGLE = ("query r=8", "key r=8", "value r=8", "attention's output r=8")
"""The arms of Table 5 that adapt one type of matrix."""
STOPS, LARGEST = 16, 256
"""The rank from which on the loss of Table 18 stays, and the largest rank here; the paper's goes to 1,024."""
CENT = 0.01
"""Nats, to which the paper's losses are rounded."""
FEW = "100 examples"
WON = Interval(math.inf, math.inf, math.inf, 0)
"""The gain over an arm of which a final run diverged."""
SMALL = ("embeddings alone", "norms and biases alone")


def between(records: Records, task: str, one: str, other: str, of: int = 1) -> Interval:
    """The gain of one arm over another on test, paired by seed and test example; of the best of several, wide enough
    for all of them at once. An arm of which a final run diverged loses without limit; two of them have no difference.
    """
    lost = [comparison.is_lost(records, task, arm) for arm in (one, other)]
    if any(lost):
        return comparison.NONE if all(lost) else comparison.LOST if lost[0] else WON
    difference = _minus_reference(records, task, one) - _minus_reference(records, task, other)
    return crossed(difference).interval(of).oriented(records.higher_is_better(task))


def several_types(name: str) -> Callable[[Records], Iterator[Reading]]:
    """Claim of Table 5: an arm of several types of matrix does better than any single type at the same budget."""

    def read(records: Records) -> Iterator[Reading]:
        for task in records.conditions:
            found = {single: between(records, task, name, single, len(SINGLE)) for single in SINGLE}
            closest = min(found, key=lambda single: found[single].mean)
            text = f"{written(found[closest])} over {closest}, the best of one type"
            best = _best(records, task)
            outcome = both(*(above(gain, 0.0) for gain in found.values()))
            yield Reading(task, name, text, f"best arm of the budget: {best}", outcome)

    return read


def rank_one_is_enough(records: Records) -> Iterator[Reading]:
    """Claim of Table 6: in query and value, rank 1 does as well as any other rank."""
    margin, name, others = records.protocol.margin, "query and value", (2, 4, 8, 64)
    for task in records.conditions:
        found = {rank: between(records, task, f"{name} r=1", f"{name} r={rank}", len(others)) for rank in others}
        worst = min(found, key=lambda rank: found[rank].mean)
        full = comparison.gains(records, task)[f"{name} r=1"]
        text = f"{written(found[worst])} against r = {worst}, the best of the others"
        outcome = both(*(above(interval, -margin) for interval in found.values()))
        yield Reading(task, f"{name}, r = 1", text, f"against full fine-tuning: {written(full)}", outcome)


def rank_one_of_the_query_is_not(records: Records) -> Iterator[Reading]:
    """Claim of Table 6: in the query alone a larger rank does better than rank 1."""
    for task in records.conditions:
        found = between(records, task, "query r=8", "query r=1")
        full = comparison.gains(records, task)["query r=8"]
        beside = f"query r=8 against full fine-tuning: {written(full)}"
        yield Reading(task, "query, r = 8 against 1", written(found), beside, above(found, 0.0))


def better_with_few(records: Records) -> Iterator[Reading]:
    """Claim of Table 16: at 100 examples LoRA does better than full fine-tuning."""
    for arm in ("LoRA r=8", "LoRA r=64"):
        found = comparison.gains(records, FEW)[arm]
        yield Reading(FEW, arm, written(found), "", above(found, 0.0))


def no_worse_at_any_size(records: Records) -> Iterator[Reading]:
    """Claim of Table 16: LoRA is no worse than full fine-tuning at any number of examples."""
    margin = records.protocol.margin
    for task in records.conditions:
        found = comparison.gains(records, task)["LoRA r=8"]
        one = comparison.gains(records, task)["LoRA r=1"]
        yield Reading(task, "LoRA r=8", written(found), f"LoRA r=1: {written(one)}", above(found, -margin))


def loss_falls_and_stops(records: Records) -> Iterator[Reading]:
    """Claim of Table 18: the log loss falls up to rank 16 and not beyond."""
    for task in records.conditions:
        falls = _loss_between(records, task, "LoRA r=1", f"LoRA r={STOPS}")
        stays = _loss_between(records, task, f"LoRA r={STOPS}", f"LoRA r={LARGEST}")
        text = f"from r = 1 to {STOPS} by {written(falls)} nats, to {LARGEST} by {written(stays)}"
        score = between(records, task, f"LoRA r={STOPS}", "LoRA r=1")
        outcome = both(above(falls, 0.0), within(stays, -CENT, CENT))
        yield Reading(task, "all matrices", text, f"score from r = 1 to {STOPS}: {written(score)}", outcome)


def more_than_the_head(records: Records) -> Iterator[Reading]:
    """Claim of Table 8: adapting the model scores far above the model as it is."""
    for task in records.conditions:
        found = between(records, task, records.protocol.reference, "head alone")
        rest = [f"{arm}: {written(between(records, task, records.protocol.reference, arm))}" for arm in SMALL]
        outcome = above(found, records.protocol.margin)
        yield Reading(task, "full − head alone", written(found), f"full − {'; full − '.join(rest)}", outcome)


def _best(records: Records, task: str) -> str:
    gains = comparison.gains(records, task)
    arms = [name for name in gains if name != records.protocol.reference]
    best = max(arms, key=lambda name: gains[name].mean)
    return f"{best}, {written(gains[best])} against full fine-tuning"


def _minus_reference(records: Records, task: str, arm: str) -> np.ndarray:
    """(seeds, examples) differences from the reference; 0 of itself."""
    if arm == records.protocol.reference:
        return np.zeros((1, 1))
    return comparison.differences(records, task, arm)


def _loss_between(records: Records, task: str, one: str, other: str) -> Interval:
    """By how many nats the log loss on test falls from one arm to the other."""
    before, after = (comparison.loss_differences(records, task, arm) for arm in (one, other))
    assert before is not None, one
    assert after is not None, other
    return crossed(before - after).interval()
