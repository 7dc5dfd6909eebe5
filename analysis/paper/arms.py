"""Tables 5, 6, 8, 15, 16, 17 and 18: scores and losses of arms against each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from ..study import comparison
from ..study.figures.losses import mean_losses
from ..study.markdown import listed
from ..study.rates import RATE
from ..study.records import Records
from ..study.statistics import Interval, crossed
from .reading import FAILS, HOLDS, UNSURE, Reading, above, both, within, written

SINGLE = ("query r=8", "key r=8", "value r=8", "attention's output r=8")
"""The arms of Table 5 that adapt one type of matrix."""
BETTER = 0.005
"""The least gain in score that counts as better."""
OTHERS = (2, 4, 8, 64)
"""The ranks of Table 6 beside rank 1."""
STOPS, LARGEST = 16, 256
"""The rank from which on the loss of Table 18 stays, and the largest rank here; the paper's goes to 1,024."""
CENT = 0.01
"""Nats, to which the paper's losses are rounded."""
FEW = "100 examples"
FEW_ARMS = ("LoRA r=8", "LoRA r=64")
"""The arms of which one is to do better with few examples: the rank of the paper's Table 16, and the largest here."""
ALONE, RANK_1 = "head alone", "LoRA r=1"
SMALL = ("embeddings alone", "norms and biases alone")
OTHER_WAY = {HOLDS: FAILS, FAILS: HOLDS, UNSURE: UNSURE}
WON = Interval(math.inf, math.inf, math.inf, 0)
"""The gain over an arm of which a final run diverged."""


def between(records: Records, task: str, one: str, other: str, of: int = 1) -> Interval:
    """The gain of one arm over another on test, paired by seed and test example; of the best of several, wide enough
    for all of them at once. An arm of which a final run diverged loses without limit; two of them have no difference.
    """
    if (lost := _lost(records, task, one, other)) is not None:
        return lost
    difference = _minus_reference(records, task, one) - _minus_reference(records, task, other)
    return crossed(difference).interval(of).oriented(records.higher_is_better(task))


def loss_between(records: Records, task: str, one: str, other: str) -> Interval:
    """By how many nats the log loss on test falls from the other arm to this one, as `between`; NaN where lines have no
    losses."""
    if (lost := _lost(records, task, one, other)) is not None:
        return lost
    after, before = (comparison.loss_differences(records, task, arm) for arm in (one, other))
    return comparison.NONE if before is None or after is None else crossed(before - after).interval()


def several_types(name: str) -> Callable[[Records], Iterator[Reading]]:
    """Claim of Table 5: an arm of several types of matrix does better than each single type at the same budget."""

    def read(records: Records) -> Iterator[Reading]:
        for task in records.conditions:
            gains = {single: between(records, task, name, single) for single in SINGLE}
            closest = min(gains, key=lambda single: gains[single].mean)
            of_full = comparison.gains(records, task)
            best = max((arm for arm in of_full if arm != name), key=lambda arm: of_full[arm].mean)
            number = f"{written(gains[closest])} over {closest}, the best of one type"
            beside = f"the best other arm of LoRA is {best}, {written(between(records, task, best, name))} over it"
            beside += f"; {trained_by(records, task, name, best)}; {_rates(records, task, name, closest, best)}"
            beside += f"; against full fine-tuning: {written(of_full[name])}"
            yield Reading(task, name, number, beside, _over_all(records, task, name, SINGLE, 0.0))

    return read


def rank_one(name: str, is_enough: bool) -> Callable[[Records], Iterator[Reading]]:
    """Claims of Table 6: in some matrices rank 1 is no worse than any other rank by more than the margin; or one does
    surely better than it."""

    def read(records: Records) -> Iterator[Reading]:
        for task in records.conditions:
            one, others = f"{name} r=1", [f"{name} r={rank}" for rank in OTHERS]
            gains = {other: between(records, task, one, other) for other in others}
            best = min(gains, key=lambda other: gains[other].mean)
            number = f"{written(gains[best])} against {best}, the best of the others"
            beside = f"against full fine-tuning: {written(comparison.gains(records, task)[one])}"
            beside += f"; {_rates(records, task, one, best)}"
            if is_enough:
                outcome = _over_all(records, task, one, others, -records.protocol.margin)
            else:
                outcome = OTHER_WAY[_over_all(records, task, one, others, 0.0)]
            yield Reading(task, one, number, beside, outcome)

    return read


def better_with_few(records: Records) -> Iterator[Reading]:
    """Claim of Table 16: at 100 examples LoRA does better than full fine-tuning, at rank 8 or at rank 64."""
    full = records.protocol.reference
    gains = {arm: between(records, FEW, arm, full) for arm in FEW_ARMS}
    best = max(gains, key=lambda arm: gains[arm].mean)
    at_once = [above(between(records, FEW, arm, full, len(FEW_ARMS)), BETTER) for arm in FEW_ARMS]
    each = [above(gain, BETTER) for gain in gains.values()]
    outcome = HOLDS if HOLDS in at_once else FAILS if set(each) == {FAILS} else UNSURE
    rest = [arm for arm in (RANK_1, *FEW_ARMS) if arm != best]
    number = f"{written(gains[best])} of {best}, the better of the two"
    yield Reading(FEW, " or ".join(FEW_ARMS), number, _beside_full(records, FEW, rest, best), outcome)


def no_worse_with_more(records: Records) -> Iterator[Reading]:
    """Claim of Table 16: LoRA is no worse than full fine-tuning with more than 100 examples; of the paper's rank, 8."""
    arm, *others = FEW_ARMS
    for task in (task for task in records.conditions if task != FEW):
        gain = between(records, task, arm, records.protocol.reference)
        beside = _beside_full(records, task, [RANK_1, *others], arm)
        worse = f"surely below {records.protocol.reference}; " if gain.high < 0 else ""
        yield Reading(task, arm, written(gain), worse + beside, above(gain, -records.protocol.margin))


def _beside_full(records: Records, task: str, others: list[str], arm: str) -> str:
    """The gains of other arms over full fine-tuning, and the learning rates of all, in words."""
    full = records.protocol.reference
    rest = "; ".join(f"{other}: {written(between(records, task, other, full))}" for other in others)
    return f"{rest}; {_rates(records, task, full, arm, *others)}"


def loss_falls_and_stops(records: Records) -> Iterator[Reading]:
    """Claim of Table 18: the log loss falls up to rank 16 and not beyond."""
    first, stop, last = (f"LoRA r={rank}" for rank in (1, STOPS, LARGEST))
    for task in records.conditions:
        falls, stays = loss_between(records, task, stop, first), loss_between(records, task, last, stop)
        number = f"from r = 1 to {STOPS} by {written(falls)} nats, to {LARGEST} by {written(stays)}"
        losses = mean_losses(records, task)
        named = (first, stop, last, records.protocol.reference)
        beside = f"log loss {listed(f'{losses[arm]:.3f} ({arm})' for arm in named if arm in losses)}; "
        beside += f"score from r = 1 to {STOPS}: {written(between(records, task, stop, first))}; "
        beside += _rates(records, task, first, stop, last)
        yield Reading(task, "all matrices", number, beside, both(above(falls, CENT), within(stays, -CENT, CENT)))


def more_than_the_head(records: Records) -> Iterator[Reading]:
    """Claim in the place of Table 8: a model that is adapted, by LoRA or in full, scores above one whose head alone is
    trained."""
    margin = records.protocol.margin
    for task in records.conditions:
        for arm in (RANK_1, records.protocol.reference):
            gain = between(records, task, arm, ALONE)
            rest = "; ".join(f"{arm} − {small}: {written(between(records, task, arm, small))}" for small in SMALL)
            told = above(gain, margin)
            yield Reading(task, f"{arm} − {ALONE}", written(gain), rest, told)


def across(records: Records, arm: str, task: str, other: str) -> Interval:
    """The gain of an arm on one condition over itself on another that has the same test examples, paired by seed and
    example; NaN where the examples are others, or the lines do not say what each adds."""
    one, two = (comparison.seeds_of(records, name, arm) for name in (task, other))
    pairs = [(one[seed], two[seed]) for seed in sorted(one.keys() & two.keys())]
    splits = {(line["inputs"]["data_sha256"], line["inputs"]["examples"]["test"]) for pair in pairs for line in pair}
    added = [(comparison.added(a), comparison.added(b)) for a, b in pairs]
    known = [a - b for a, b in added if a is not None and b is not None]
    if len(splits) != 1 or len(known) < max(len(one), len(two)):
        return comparison.NONE
    return crossed(np.array(known)).interval().oriented(records.higher_is_better(task))


def _rates(records: Records, task: str, *arms: str) -> str:
    """The learning rates of arms in words: with one seed to choose by, arms that are alike may have unlike ones."""
    rates = comparison.table(records, task).set_index("arm")[RATE]
    return f"learning rates {listed(f'{rates[arm]:g} ({arm})' for arm in arms)}"


def trained_by(records: Records, task: str, *arms: str) -> str:
    """How many parameters arms train, head apart, in words."""
    trained = comparison.table(records, task).set_index("arm")["trained_body"]
    return f"trained, head apart: {listed(f'{arm} {trained[arm]:,.0f}' for arm in arms)}"


def _over_all(records: Records, task: str, one: str, others: tuple[str, ...] | list[str], line: float) -> str:
    """Whether the gain over each of several arms is above the line: surely over each, each by its own interval; or
    surely below it over one, by an interval that is wide enough for all."""
    each = [above(between(records, task, one, other), line) for other in others]
    if set(each) == {HOLDS}:
        return HOLDS
    at_once = [above(between(records, task, one, other, len(others)), line) for other in others]
    return FAILS if FAILS in at_once else UNSURE


def _lost(records: Records, task: str, one: str, other: str) -> Interval | None:
    """The gain of one arm over another where a final run of either diverged."""
    lost = [comparison.is_lost(records, task, arm) for arm in (one, other)]
    if not any(lost):
        return None
    return comparison.NONE if all(lost) else comparison.LOST if lost[0] else WON


def _minus_reference(records: Records, task: str, arm: str) -> np.ndarray:
    """(seeds, examples) differences from the reference; 0 of itself."""
    if arm == records.protocol.reference:
        return np.zeros((1, 1))
    return comparison.differences(records, task, arm)
