"""Which directions updates share: the claims of Figures 3, 4, 6, 7 and 8 of the LoRA paper."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from lorax_lab.record.statistics import Interval, t_interval

from ..study.figures.directions import EVERY, MODULES
from ..study.records import Records
from .readings import Readings, above, within

FEWEST = 3
"""Seeds, below which what every two of them share has no interval."""
FACTOR, START, ROW, COLUMN = "A", "A at the start", "row", "column"
"""Sides of an update, as `lorax_lab.afterwards.similarities` names them."""
RANKS, SEEDS, OF_FULL = "r=8 and r=64", "two seeds of r=64", "two seeds of full"
BY_RANK = {4: "W and r=4", 64: "W and r=64"}
"""W and updates of two ranks."""
SIDES = {
    "A": (SEEDS, FACTOR),
    "rows of B A": (SEEDS, ROW),
    "columns of B A": (SEEDS, COLUMN),
    "rows of full": (OF_FULL, ROW),
    "columns of full": (OF_FULL, COLUMN),
}
"""Pairs of two seeds with sides of their updates."""
QUERY = next(iter(MODULES))
LOW, FEW, MANY = 4, 8, 64
"""Ranks of Table 7, of Figure 3, and of both."""
TOPS = (1, FEW)
"""How many top directions of two seeds are held against each other; among all 64 a few that are shared do not show."""
TOP_OF_W = 40
"""The top 10 % of W's directions, of 384 the nearest number that is kept."""


def of_every_two(values: Sequence[float], seeds: int) -> Interval:
    """The interval over seeds of a mean over every two of them, in the order of `itertools.combinations`, or of
    `permutations` where there are twice as many values.

    Pairs that have a seed in common are not independent, so that Student's interval over the pairs would be too narrow.
    It is taken over the seeds' jackknife pseudo-values (Arvesen 1969). NaN limits below three seeds.

    >>> str(of_every_two([0.1, 0.2, 0.3], 3))
    '0.2000 [-0.2968, 0.6968]'
    """
    pairs = combinations(range(seeds), 2) if 2 * len(values) == seeds * (seeds - 1) else permutations(range(seeds), 2)
    by_pair = dict(zip(pairs, values, strict=True))
    mean = sum(values) / len(values)
    if seeds < FEWEST:
        return Interval(mean, math.nan, math.nan, seeds)
    without = [[value for pair, value in by_pair.items() if seed not in pair] for seed in range(seeds)]
    return t_interval([seeds * mean - (seeds - 1) * sum(left) / len(left) for left in without])


@dataclass(frozen=True)
class Shared:
    """What directions of two runs, or of a run and the base, have in common.

    Attributes:
        phi: φ(i, j) = ‖UᵢᵀVⱼ‖²_F / min(i, j), from 0 to 1, (matrices, pairs of runs).
        by_chance: max(i, j) / d of each matrix, whose directions have d numbers.
        seeds: of which every two make a pair; None where each seed makes one, with the base.
    """

    phi: np.ndarray
    by_chance: np.ndarray
    seeds: int | None

    @property
    def minus_chance(self) -> np.ndarray:
        """(matrices, pairs of runs)."""
        return self.phi - self.by_chance[:, None]

    def interval(self) -> Interval:
        """Of the mean over matrices; over the seeds."""
        return self._over_seeds(self.phi)

    @property
    def beyond(self) -> Interval:
        return self._over_seeds(self.minus_chance)

    def minus(self, subtracted: "Shared") -> Interval:
        return self._over_seeds(self.phi - subtracted.phi)

    def _over_seeds(self, values: np.ndarray) -> Interval:
        by_pair = values.mean(0).tolist()
        return t_interval(by_pair) if self.seeds is None else of_every_two(by_pair, self.seeds)


def shared(
    records: Records, task: str, pair: str, side: str, at: tuple[int, int], module: str = QUERY
) -> Shared | None:
    """φ of a pair of arms in one type of matrix, or in all, as `lorax_lab.afterwards.similarities` has it; None where
    it was not measured."""
    rows = [row for row in records.rows.get("similarities", ()) if module in (row["module"], EVERY)]
    rows = [row for row in rows if (row["condition"], row["pair"], row["side"]) == (task, pair, side)]
    values = [row["each"].get(f"{at[0]},{at[1]}", []) for row in rows]
    if not rows or not all(values) or len({len(pairs) for pairs in values}) > 1:
        return None
    seeds = None if pair in BY_RANK.values() else len(records.protocol.final_seeds)
    return Shared(np.array(values), np.array([max(at) / row["d"] for row in rows]), seeds)


def query_and_value(records: Records, task: str, pair: str, side: str, at: tuple[int, int]) -> dict[str, Shared]:
    """φ of the query and of the value matrices, by these names."""
    by_module = {name: shared(records, task, pair, side, at, module) for module, name in MODULES.items()}
    return {name: phi for name, phi in by_module.items() if phi}


def query_over_value(records: Records, task: str, pair: str, side: str, k: int) -> Interval | None:
    """By how much φ(k, k) of two seeds is larger in the query than in the value; None where it was not measured."""
    phis = query_and_value(records, task, pair, side, (k, k))
    return phis["query"].minus(phis["value"]) if len(phis) == len(MODULES) else None


# ---- the claims; noise is A before training, or chance


def _side(is_noise: bool) -> str:
    return START if is_noise else FACTOR


def top_is_shared(records: Records, task: str, *, is_noise: bool = False, line: float) -> Readings:
    """Whether the top direction of A at rank 8 lies among those at rank 64, φ(1, 64) above a line."""
    phis = query_and_value(records, task, RANKS, _side(is_noise), (1, MANY))
    return {name: above(phi.interval(), line) for name, phi in phis.items()}


def others_are_not(records: Records, task: str, *, is_noise: bool = False, little: float) -> Readings:
    """Whether directions 2 to 8 of rank 8 lie in those of rank 64 by chance alone: φ(8, 64) without the first
    direction's part."""
    few, top = (query_and_value(records, task, RANKS, _side(is_noise), (i, MANY)) for i in (FEW, 1))
    without_top = {name: (FEW * few[name].phi - top[name].phi) / (FEW - 1) for name in few if name in top}
    shares = {name: Shared(phi, few[name].by_chance, few[name].seeds) for name, phi in without_top.items()}
    return {name: within(phi.beyond, -little, little) for name, phi in shares.items()}


def seeds_share(records: Records, task: str, *, is_noise: bool = False) -> Readings:
    """Whether two seeds share more top directions of A than chance, φ(k, k)."""
    by_k = {k: query_and_value(records, task, SEEDS, _side(is_noise), (k, k)) for k in TOPS}
    return {f"{name}'s top {k}": above(phi.beyond, 0.0) for k in TOPS for name, phi in by_k[k].items()}


def query_shares_more(records: Records, task: str, *, is_noise: bool = False) -> Readings:
    """Whether two seeds share more of the query's A than of the value's."""
    by_k = {k: query_over_value(records, task, SEEDS, _side(is_noise), k) for k in TOPS}
    return {f"top {k}": above(more, 0.0) for k, more in by_k.items() if more}


def base_is_not_repeated(records: Records, task: str, *, is_noise: bool = False, line: float) -> Readings:
    """Whether the update's top 4 directions lie little in W's top 40, φ(40, 4) below a line."""
    readings: Readings = {}
    for side in (ROW, COLUMN):
        if phi := shared(records, task, BY_RANK[MANY], side, (TOP_OF_W, LOW)):
            chance = t_interval([float(phi.by_chance.mean())] * FEWEST)
            readings[f"{side}s"] = within(chance if is_noise else phi.interval(), -math.inf, line)
    return readings


def base_by_rank(records: Records, task: str) -> Readings:
    """Whether the update of rank 64 has more of W's top 40 directions than that of rank 4, by squared cosines and
    beyond chance."""
    readings: Readings = {}
    for side in (ROW, COLUMN):
        few, many = (shared(records, task, BY_RANK[r], side, (TOP_OF_W, r)) for r in (LOW, MANY))
        if few and many:
            more = (TOP_OF_W * many.minus_chance - LOW * few.minus_chance).mean(0)
            readings[f"{side}s"] = above(t_interval(more.tolist()), 0.0)
    return readings
