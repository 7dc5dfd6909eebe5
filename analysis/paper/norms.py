"""Table 7: by how much an update amplifies the directions of W that it uses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..study.figures.amplification import NAME
from ..study.records import Records
from ..study.statistics import Interval, t_interval
from .reading import FAILS, HOLDS, Reading, above, within, written

ALIKE = 4 / 3
"""Two factors within this of each other count as alike."""


def uses_directions_of_the_base(records: Records) -> Iterator[Reading]:
    """Claim: W is larger in the update's directions than in random ones."""
    for task, arm, r, rows in _groups(records):
        found = _ratio(rows, "random_factor", "factor")
        noise = _ratio(rows, "random_factor", "gaussian_factor")
        text, beside = f"{written(found, 2)} times", f"a Gaussian update: {written(noise, 2)}"
        yield Reading(task, _named(arm, r), text, beside, above(found, 1.0))


def not_the_top_ones(records: Records) -> Iterator[Reading]:
    """Claim: W is far larger in its own top directions than in the update's."""
    for task, arm, r, rows in _groups(records):
        found, noise = _ratio(rows, "factor", "base_factor"), _ratio(rows, "gaussian_factor", "base_factor")
        text, beside = f"{written(found, 1)} times", f"a Gaussian update: {written(noise, 1)}"
        yield Reading(task, _named(arm, r), text, beside, above(found, 2.0))


def less_at_a_higher_rank(records: Records) -> Iterator[Reading]:
    """Claim: the factor is larger at r = 4 than at r = 64."""
    of = {(task, arm.split(" r=")[0], r): rows for task, arm, r, rows in _groups(records)}
    for task, update, r in of:
        if r == 4 and (task, update, 64) in of:
            few, many = of[task, update, 4], of[task, update, 64]
            seeds = sorted(set(few) & set(many))
            found = _of_logs([_median(few[s], "factor") - _median(many[s], "factor") for s in seeds])
            noise = _of_logs([_median(few[s], "gaussian_factor") - _median(many[s], "gaussian_factor") for s in seeds])
            text, beside = f"{written(found, 2)} times", f"a Gaussian update: {written(noise, 2)}"
            yield Reading(task, update, text, beside, above(found, 1.0))


def more_than_size(records: Records) -> Iterator[Reading]:
    """What the factor is read as: that training found these directions. A Gaussian update of the same norm has none."""
    for task, arm, r, rows in _groups(records):
        found = _ratio(rows, "factor", "gaussian_factor")
        alike = within(found, 1 / ALIKE, ALIKE)
        outcome = {HOLDS: FAILS, FAILS: HOLDS}.get(alike, alike)
        medians = [math.exp(np.mean([_median(own, key) for own in rows.values()])) for key in KEYS]
        text = f"{medians[0]:.2f}, {written(found, 2)} of the Gaussian's"
        yield Reading(task, _named(arm, r), text, f"a Gaussian update: {medians[1]:.2f}", outcome)


KEYS = ("factor", "gaussian_factor")
Rows = dict[int, list[dict[str, Any]]]
"""Of one task, arm and r: the rows of its matrices by seed."""


def _groups(records: Records) -> Iterator[tuple[str, str, int, Rows]]:
    for task in records.conditions:
        groups: dict[tuple[str, int], Rows] = {}
        for row in records.rows.get(NAME, ()):
            if row["condition"] == task:
                groups.setdefault((row["arm"], row["r"]), {}).setdefault(row["seed"], []).append(row)
        yield from ((task, arm, r, rows) for (arm, r), rows in groups.items())


def _named(arm: str, r: int) -> str:
    return f"{arm.split(' r=')[0]}, r = {r}"


def _median(rows: list[dict[str, Any]], key: str) -> float:
    """The logarithm of the median over matrices."""
    return math.log(float(np.median([row[key] for row in rows])))


def _ratio(rows: Rows, over: str, under: str) -> Interval:
    """The ratio of two factors: each seed's is that of the medians over matrices."""
    return _of_logs([_median(own, over) - _median(own, under) for own in rows.values()])


def _of_logs(logs: list[float]) -> Interval:
    """The geometric mean of ratios, with Student's interval over their logarithms."""
    found = t_interval(logs)
    return Interval(math.exp(found.mean), math.exp(found.low), math.exp(found.high), found.count)
