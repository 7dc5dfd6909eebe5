"""Figures 3, 4, 6, 7 and 8: which directions updates share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from ..study.records import Records
from ..study.similarities import EVERY, MODULES, NAME, together
from ..study.statistics import Interval, t_interval
from .reading import FAILS, FULL_FINE_TUNING, HOLDS, Reading, above, below, of_every_two, signed, within, written

FACTOR, START, ROW, COLUMN = "A", "A at the start", "row", "column"
"""Sides of an update, as `lorax_lab.afterwards.similarities` names them."""
RANKS, SEEDS, OF_FULL = "r=8 and r=64", "two seeds of r=64", "two seeds of full"
BASE, BASE_AND_FULL = "W and r=64", "W and full"
BY_RANK = {4: "W and r=4", 8: "W and r=8", 64: BASE}
"""W and updates of several r."""
SIDES_OF_SEEDS = (
    (SEEDS, FACTOR, "A"),
    (SEEDS, ROW, "rows of B A"),
    (SEEDS, COLUMN, "columns of B A"),
    (OF_FULL, ROW, "rows of full fine-tuning"),
    (OF_FULL, COLUMN, "columns of full fine-tuning"),
)
"""Pairs of two seeds, sides of their updates, and what both are called."""
PRODUCT = "B A"
QUERY, VALUE = MODULES
FEW, MANY = 8, 64
"""The ranks of Figure 3."""
TOPS = (1, FEW)
"""Of how many top directions of two seeds it is told what they share: of all 64, a few that are shared are hidden."""
MOST, LITTLE, BARELY = 0.5, 0.05, 0.3
"""Above which φ of the top direction is what the paper found; the least of φ that counts as shared beyond chance; and
below which φ counts as barely above .2, as the paper has it of Figure 8."""
MORE_DIRECTIONS = 1.0
"""The least number of directions that W and an update share beyond chance that counts as more."""
TOP_OF_W, TOP = 40, 4
"""The top 10 % of W's directions, of 384 the nearest number that is kept, and the top directions of its update."""


@dataclass(frozen=True)
class Shared:
    """φ(i, j), (matrices, pairs of runs), beside chance.

    Attributes:
        by_chance: max(i, j) / d of each matrix.
        seeds: of which every two make a pair; None where each seed makes one, with the base.
    """

    phi: np.ndarray
    by_chance: np.ndarray
    seeds: int | None

    @property
    def mean(self) -> float:
        """Over layers and pairs."""
        return float(self.phi.mean())

    @property
    def chance(self) -> float:
        """Over matrices."""
        return float(self.by_chance.mean())

    @property
    def beyond(self) -> float:
        """The mean beyond chance."""
        return self.mean - self.chance

    def interval(self, minus: float = 0.0) -> Interval:
        """Of the mean over layers, less a number; over the seeds."""
        values = (self.phi.mean(0) - minus).tolist()
        return t_interval(values) if self.seeds is None else of_every_two(values, self.seeds)


def shared(
    records: Records, task: str, pair: str, side: str, at: tuple[int, int], module: str = QUERY
) -> Shared | None:
    """φ of a pair of arms in one type of matrix, or in all, as `lorax_lab.afterwards.similarities` has it; None where
    it was not measured."""
    key = f"{at[0]},{at[1]}"
    every: Iterable[dict[str, Any]] = records.rows.get(NAME, ())
    rows = [row for row in every if (row["condition"], row["pair"], row["side"]) == (task, pair, side)]
    rows = [row for row in rows if module in (row["module"], EVERY)]
    values = [row["each"].get(key, []) for row in rows]
    if not rows or not all(values) or len({len(of_row) for of_row in values}) > 1:
        return None
    seeds = None if pair in (BASE_AND_FULL, *BY_RANK.values()) else len(records.protocol.final_seeds)
    return Shared(np.array(values), np.array([max(at) / row["d"] for row in rows]), seeds)


def top_direction(records: Records) -> Iterator[Reading]:
    """Claim of Figure 3: the top direction of A is the same at rank 8 and at rank 64; or is among those of rank 64."""
    for (task, module, name), j in product(_matrices(records), (1, MANY)):
        top, start = (shared(records, task, RANKS, side, (1, j), module) for side in (FACTOR, START))
        if top and start:
            count = int((top.phi.mean(1) > MOST).sum())
            number = f"φ(1, {j}) = {written(top.interval())}; above {MOST:g} in {count} of {len(top.phi)} matrices"
            beside = f"{start.mean:.3f} before training; chance {top.chance:.3f}"
            yield Reading(task, f"{name}, top 1 in top {j}", number, beside, above(top.interval(), MOST))


def other_directions(records: Records) -> Iterator[Reading]:
    """Claim of Figure 3: the other seven directions of rank 8 are not among those of rank 64."""
    for task, module, name in _matrices(records):
        others = _others(records, task, FACTOR, module)
        whole = [shared(records, task, RANKS, side, (FEW, MANY), module) for side in (ROW, COLUMN)]
        if others and whole[0] and whole[1]:
            number = f"φ of directions 2 to {FEW} − chance = {written(others.interval(others.chance))}"
            beside = f"φ({FEW}, {MANY}) − chance of the product B A: {_sides(whole)}"
            before = _others(records, task, START, module)
            noise = within(before.interval(before.chance), -LITTLE, LITTLE) if before else FAILS
            if before:
                beside = f"{signed(before.beyond)} before training; {beside}"
            outcome = within(others.interval(others.chance), -LITTLE, LITTLE)
            yield Reading(task, name, number, beside, outcome, noise)


def _others(records: Records, task: str, side: str, module: str) -> Shared | None:
    """φ of directions 2 to 8 of rank 8 in those of rank 64: the paper's φ(8, 64) without the first direction's part."""
    every, first = (shared(records, task, RANKS, side, (i, MANY), module) for i in (FEW, 1))
    if not every or not first:
        return None
    return Shared((FEW * every.phi - first.phi) / (FEW - 1), every.by_chance, every.seeds)


def more_than_chance(records: Records) -> Iterator[Reading]:
    """Claim of Figure 4: two seeds have more in common than two Gaussian matrices."""
    for (task, module, name), k in product(_matrices(records), TOPS):
        of, start = (shared(records, task, SEEDS, side, (k, k), module) for side in (FACTOR, START))
        pairs = (SEEDS, OF_FULL)
        whole = [[shared(records, task, pair, side, (k, k), module) for side in (ROW, COLUMN)] for pair in pairs]
        most = shared(records, task, SEEDS, FACTOR, (MANY, MANY), module)
        if of and start and all(map(all, whole)) and most:
            number = f"φ({k}, {k}) − chance = {written(of.interval(of.chance))}"
            beside = f"{signed(start.beyond)} before training; φ({MANY}, {MANY}) {signed(most.beyond)}; "
            beside += f"the product B A {_sides(whole[0])}; full update {_sides(whole[1])}"
            noise = above(start.interval(start.chance), LITTLE)
            yield Reading(task, f"{name}, top {k}", number, beside, above(of.interval(of.chance), LITTLE), noise)


def more_of_the_query(records: Records) -> Iterator[Reading]:
    """Claim of Figure 4: two seeds have more directions of the query's update in common than of the value's. The paper
    has A alone."""
    for task, k, (pair, side, name) in product(records.conditions, TOPS, SIDES_OF_SEEDS):
        at = (k, k)
        query, value = (shared(records, task, pair, side, at, module) for module in MODULES)
        start = [shared(records, task, SEEDS, START, at, module) for module in MODULES]
        more = query_minus_value(records, task, pair, side, k)
        if query and value and start[0] and start[1] and more:
            number = f"φ({k}, {k}) of {query.mean:.3f} − {value.mean:.3f} = {written(more)}"
            beside = f"{signed(start[0].mean - start[1].mean)} before training" if side == FACTOR else ""
            subject = f"query − value, {name}, top {k}"
            of = "" if side == FACTOR else FULL_FINE_TUNING if pair == OF_FULL else PRODUCT
            yield Reading(task, subject, number, beside, above(more, LITTLE), stands_beside=of)


def query_minus_value(records: Records, task: str, pair: str, side: str, k: int) -> Interval | None:
    """By how much φ(k, k) of two seeds is larger in the query than in the value; None where it was not measured."""
    query, value = (shared(records, task, pair, side, (k, k), module) for module in MODULES)
    return Shared(query.phi - value.phi, 0 * query.by_chance, query.seeds).interval() if query and value else None


def directions_of_the_base(records: Records) -> Iterator[Reading]:
    """Claim of Figure 8: the update's top directions are not those of W."""
    at = (TOP_OF_W, TOP)
    for task in records.conditions:
        for side in (ROW, COLUMN):
            of, full = (shared(records, task, pair, side, at) for pair in (BASE, BASE_AND_FULL))
            if of and full:
                number = f"φ({TOP_OF_W}, {TOP}) = {written(of.interval())}"
                beside = f"chance {of.chance:.3f}; full update {written(full.interval())}"
                noise = HOLDS if of.chance < BARELY else FAILS
                yield Reading(task, f"query, {side}s", number, beside, below(of.interval(), BARELY), noise)


def more_of_the_base_at_a_higher_rank(records: Records) -> Iterator[Reading]:
    """Claim of Figure 8: at a larger r the update has more of the directions that W emphasises."""
    for task, side in product(records.conditions, (ROW, COLUMN)):
        found = {r: _of_top(records, task, pair, side, r) for r, pair in BY_RANK.items()}
        counts = {r: of for r, of in found.items() if of}
        if counts.keys() == BY_RANK.keys():
            few, many = counts[min(counts)], counts[max(counts)]
            more = Shared(many.phi - few.phi, 0 * many.by_chance, None).interval()
            number = f"{many.mean:.2f} − {few.mean:.2f} = {written(more, 2)} directions beyond chance"
            beside = "; ".join(f"r = {r}: {counts[r].mean:.2f}" for r in sorted(counts)[1:-1])
            yield Reading(task, f"query, {side}s", number, beside, above(more, MORE_DIRECTIONS))


def _of_top(records: Records, task: str, pair: str, side: str, r: int) -> Shared | None:
    """How many of W's top directions lie in the r directions of an update, beyond chance: squared cosines."""
    of = shared(records, task, pair, side, (TOP_OF_W, r))
    if not of:
        return None
    most = min(TOP_OF_W, r)
    return Shared(most * (of.phi - of.by_chance[:, None]), 0 * of.by_chance, of.seeds)


def _sides(of: Iterable[Shared | None]) -> str:
    """What rows and columns share beyond chance, in words."""
    rows, columns = (written(each.interval(each.chance)) for each in of if each)
    return f"{rows} (rows), {columns} (columns)"


def _matrices(records: Records) -> Iterator[tuple[str, str, str]]:
    """Tasks, types of matrix and their names: query, value, and all together."""
    every = together(row["module"] for row in records.rows.get(NAME, ()))
    for task in records.conditions:
        for module, name in (MODULES | {EVERY: every}).items():
            yield task, module, name
