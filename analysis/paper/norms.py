"""Table 7: by how much an update amplifies the directions of W that it uses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..study.figures.amplification import LORA, NAME, is_lora, update_of
from ..study.records import Records
from ..study.statistics import Interval, t_interval
from .reading import FULL_FINE_TUNING, Reading, above, written

MORE = 4 / 3
"""The least ratio to what noise has that counts as more than noise."""
TWICE = 2.0
LOW, HIGH = 4, 64
"""The ranks of Table 7."""
FACTOR, GAUSSIAN, RANDOM, OWN = "factor", "gaussian_factor", "random_factor", "base_factor"
QUERY = "attention.self.query"
"""The matrix that the paper measured."""
Rows = dict[int, list[dict[str, Any]]]
"""Of one task, arm and r: the rows of its matrices by seed."""


def uses_directions_of_the_base(records: Records) -> Iterator[Reading]:
    """Claim: W is larger in the update's directions than in random ones, which a Gaussian update has."""
    for task, arm, r, rows in [*groups(records), *groups(records, QUERY)]:
        larger, closed = ratio(rows, GAUSSIAN, FACTOR), ratio(rows, RANDOM, FACTOR)
        factors = [factor(rows, key) for key in (FACTOR, GAUSSIAN)]
        beside = f"{written(closed, 2)} by the closed form; amplification {factors[0]:.2f}, Gaussian's {factors[1]:.2f}"
        of = {row["module"] for own in rows.values() for row in own}
        subject = f"{_named(arm, r)}{', query alone' if of == {QUERY} else ''}"
        outcome = above(larger, MORE)
        yield Reading(task, subject, f"{written(larger, 2)} times", beside, outcome, stands_beside=_beside(arm))


def not_the_top_ones(records: Records) -> Iterator[Reading]:
    """Claim: W is far larger in its own top directions than in the update's."""
    for task, arm, r, rows in groups(records):
        larger, noise = ratio(rows, FACTOR, OWN), ratio(rows, GAUSSIAN, OWN)
        number, beside = f"{written(larger, 1)} times", f"a Gaussian update: {written(noise, 1)}"
        outcomes = above(larger, TWICE), above(noise, TWICE)
        yield Reading(task, _named(arm, r), number, beside, *outcomes, stands_beside=_beside(arm))


def less_at_a_higher_rank(records: Records) -> Iterator[Reading]:
    """Claim: the factor is far smaller at r = 64 than at r = 4. That of noise falls too, and stands beside it."""
    of = {(task, update_of(arm), r): rows for task, arm, r, rows in groups(records)}
    for task, update, r in of:
        if r == LOW and (task, update, HIGH) in of:
            few, many = of[task, update, LOW], of[task, update, HIGH]
            own, noise = (_fall(few, many, key) for key in (FACTOR, GAUSSIAN))
            beyond = _of_logs([a - b for a, b in zip(own, noise, strict=True)])
            number = f"{written(_of_logs(own), 2)} times, {written(beyond, 2)} of the Gaussian's fall"
            beside = f"a Gaussian update: {written(_of_logs(noise), 2)}"
            outcomes = above(_of_logs(own), TWICE), above(_of_logs(noise), TWICE)
            apart = "" if update.startswith(LORA) else FULL_FINE_TUNING
            yield Reading(task, update, number, beside, *outcomes, stands_beside=apart)


def groups(records: Records, module: str = "") -> Iterator[tuple[str, str, int, Rows]]:
    """Of every matrix, or of one type."""
    for task in records.conditions:
        groups: dict[tuple[str, int], Rows] = {}
        for row in records.rows.get(NAME, ()):
            if row["condition"] == task and module in ("", row["module"]):
                groups.setdefault((row["arm"], row["r"]), {}).setdefault(row["seed"], []).append(row)
        yield from ((task, arm, r, rows) for (arm, r), rows in groups.items())


def _beside(arm: str) -> str:
    """What an arm is that does not decide the claim, which is of LoRA; empty of one that does."""
    return "" if is_lora(arm) else FULL_FINE_TUNING


def _named(arm: str, r: int) -> str:
    return f"{update_of(arm)}, r = {r}"


def _fall(few: Rows, many: Rows, key: str) -> list[float]:
    """By seed, the median over matrices of the logarithm of the factor at the lower rank over that at the higher."""
    falls = []
    for seed in sorted(set(few) & set(many)):
        lower, higher = ({row["matrix"]: row[key] for row in rows[seed]} for rows in (few, many))
        falls.append(_median_of([_log(lower[name], higher[name]) for name in lower if name in higher]))
    return falls


def factor(rows: Rows, key: str) -> float:
    """The geometric mean over seeds of the median over matrices."""
    return math.exp(float(np.mean([_median(own, key) for own in rows.values()])))


def _median(rows: list[dict[str, Any]], key: str) -> float:
    """The logarithm of the median over matrices; NaN where it is 0 or no number."""
    median = float(np.median([row[key] for row in rows]))
    return math.log(median) if 0 < median < math.inf else math.nan


def ratio(rows: Rows, over: str, under: str) -> Interval:
    """The ratio of two factors: each seed's is the median over matrices of each matrix' own."""
    return _of_logs([_median_of([_log(row[over], row[under]) for row in own]) for own in rows.values()])


def _log(over: float, under: float) -> float:
    """The logarithm of a ratio; NaN where one of the two is 0 or no number."""
    usual = 0 < over < math.inf and 0 < under < math.inf
    return math.log(over / under) if usual else math.nan


def _median_of(logs: list[float]) -> float:
    return float(np.median(logs)) if logs else math.nan


def _of_logs(logs: list[float]) -> Interval:
    """The geometric mean of ratios, with Student's interval over their logarithms."""
    over = t_interval(logs)
    return Interval(math.exp(over.mean), math.exp(over.low), math.exp(over.high), over.count)
