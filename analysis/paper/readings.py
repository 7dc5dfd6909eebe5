"""What the runs of a study say of the LoRA paper's claims, task by task; `claims.toml` has the claims and the words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
import pandas as pd

from ..study import comparison
from ..study.figures.arms import mean_losses
from ..study.figures.directions import EVERY, LORA, MODULES, together, update_of
from ..study.records import Records
from ..study.statistics import Interval, crossed, t_interval
from ..study.words import listed

HOLDS, FAILS, UNSURE = "holds", "does not hold", "cannot be told here"
TOO = ", as of noise"
CONTROLS = {"random labels": "sarcasm"}
"""Conditions that are no task, each with the task whose texts it has: what is found there too, that task does not
make."""
OTHER_HEAD = " with the usual head"
"""How conditions end that are a task again, with another head: they have rows, and count as no task of their own."""
FEWEST = 3
"""Seeds, below which what every two of them share has no interval."""
SINGLE = ("query r=8", "key r=8", "value r=8", "attention's output r=8")
"""The arms of Table 5 that adapt one type of matrix."""
FEW_EXAMPLES, FEW_ARMS = "100 examples", ("LoRA r=8", "LoRA r=64")
"""The arms of which one is to do better with few examples: the rank of the paper's Table 16, and the largest here."""
ALONE, RANK_1, SMALL = "head alone", "LoRA r=1", ("embeddings alone", "norms and biases alone")
FACTOR, START, ROW, COLUMN = "A", "A at the start", "row", "column"
"""Sides of an update, as `lorax_lab.afterwards.similarities` names them."""
RANKS, SEEDS, OF_FULL = "r=8 and r=64", "two seeds of r=64", "two seeds of full"
BASE_AND_FULL = "W and full"
BY_RANK = {4: "W and r=4", 8: "W and r=8", 64: "W and r=64"}
"""W and updates of several r."""
SIDES_OF_SEEDS = {
    "A": (SEEDS, FACTOR),
    "rows of B A": (SEEDS, ROW),
    "columns of B A": (SEEDS, COLUMN),
    "rows of full fine-tuning": (OF_FULL, ROW),
    "columns of full fine-tuning": (OF_FULL, COLUMN),
}
"""Pairs of two seeds with sides of their updates."""
FULL, PRODUCT = "full fine-tuning", "B A"
QUERY, VALUE = MODULES
FEW, MANY = 8, 64
"""The ranks of Figure 3."""
TOPS = (1, FEW)
"""Of how many top directions of two seeds it is told what they share: of all 64, a few that are shared are hidden."""
TOP_OF_W, TOP = 40, 4
"""The top 10 % of W's directions, of 384 the nearest number that is kept, and the top directions of its update."""
LOW, HIGH = 4, 64
"""The ranks of Table 7."""
GAUSSIAN, RANDOM, OWN = "gaussian_factor", "random_factor", "base_factor"
"""Factors beside an update's own, `factor`."""


@dataclass(frozen=True)
class Reading:
    """What the runs of one task say of a claim.

    Attributes:
        outcome: `HOLDS`, `FAILS` or `UNSURE`.
        says: what the row of the claim's table says, by name.
        of_noise: what the same rule says of noise in the update's place, or of its factors before training.
        stands_beside: what it is of, where it stands beside the claim and does not decide it: full fine-tuning where
            the claim is of LoRA, or the product B A where the paper has A.
    """

    task: str
    outcome: str
    says: dict[str, Any] = field(default_factory=dict)
    of_noise: str = FAILS
    stands_beside: str = ""

    @property
    def outcome_and_noise(self) -> str:
        """The outcome, and whether noise has it too."""
        return f"{self.outcome}{TOO}" if self.outcome == self.of_noise == HOLDS else self.outcome


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


def within(interval: Interval, low: float, high: float) -> str:
    """Whether a number surely lies between two lines, or surely outside."""
    if low < interval.low and interval.high < high:
        return HOLDS
    return FAILS if interval.low > high or interval.high < low else UNSURE


def all_of(*outcomes: str) -> str:
    """The outcome of a claim of several parts: it holds where all do, and does not where one does not."""
    if FAILS in outcomes:
        return FAILS
    return HOLDS if set(outcomes) == {HOLDS} else UNSURE


# ---- Tables 5, 6, 8, 15, 16, 17 and 18: arms against each other


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


def loss_between(records: Records, task: str, arm: str, rival: str) -> Interval:
    """By how many nats the log loss on test falls from the other arm to this one, as `between`; NaN where lines have no
    losses."""
    if (lost := _lost(records, task, arm, rival)) is not None:
        return lost
    after, before = (comparison.loss_differences(records, task, name) for name in (arm, rival))
    return comparison.NONE if before is None or after is None else crossed(before - after).interval()


def across(records: Records, arm: str, task: str, other_task: str) -> Interval:
    """The gain of an arm on one condition over itself on another that has the same test examples, paired by seed and
    example; NaN where the examples are others, or the lines do not say what each adds."""
    here, there = (comparison.seeds_of(records, name, arm) for name in (task, other_task))
    pairs = [(here[seed], there[seed]) for seed in sorted(here.keys() & there.keys())]
    splits = {(line["inputs"]["data_sha256"], line["inputs"]["examples"]["test"]) for pair in pairs for line in pair}
    added = [(comparison.added(a), comparison.added(b)) for a, b in pairs]
    gains = [a - b for a, b in added if a is not None and b is not None]
    if len(splits) != 1 or len(gains) < max(len(here), len(there)):
        return comparison.NONE
    return crossed(np.array(gains)).interval().oriented(records.higher_is_better(task))


def rates(records: Records, task: str, *arms: str) -> str:
    """The learning rates of arms: with one seed to choose by, arms that are alike may have unlike ones."""
    by_arm = comparison.table(records, task).set_index("arm")[comparison.RATE]
    return listed(f"{by_arm[arm]:g} ({arm})" for arm in arms)


def trained(records: Records, task: str, *arms: str) -> str:
    """How many parameters arms train, head apart."""
    by_arm = comparison.table(records, task).set_index("arm")["trained_body"]
    return listed(f"{arm} {by_arm[arm]:,.0f}" for arm in arms)


def _over_all(records: Records, task: str, arm: str, others: Sequence[str], line: float) -> str:
    """Whether the gain over each of several arms is above the line: surely over each, each by its own interval; or
    surely below it over one, by an interval that is wide enough for all."""
    if {above(between(records, task, arm, rival), line) for rival in others} == {HOLDS}:
        return HOLDS
    at_once = [above(between(records, task, arm, rival, len(others)), line) for rival in others]
    return FAILS if FAILS in at_once else UNSURE


def several_types(records: Records, arm: str) -> Iterator[Reading]:
    for task in records.conditions:
        gains = {single: between(records, task, arm, single) for single in SINGLE}
        closest = min(gains, key=lambda single: gains[single].mean)
        over_full = comparison.gains(records, task)
        best = max((name for name in over_full if name != arm), key=lambda name: over_full[name].mean)
        says = {"arm": arm, "gain": gains[closest], "closest": closest, "best": best, "of_full": over_full[arm]}
        says |= {"of_best": between(records, task, best, arm), "trained": trained(records, task, arm, best)}
        says |= {"rates": rates(records, task, arm, closest, best)}
        yield Reading(task, _over_all(records, task, arm, SINGLE, 0.0), says)


def rank_one(records: Records, arm: str, is_enough: bool) -> Iterator[Reading]:
    """Rank 1 is no worse than any other rank by more than the margin; or one of them does surely better than it."""
    opposite = {HOLDS: FAILS, FAILS: HOLDS, UNSURE: UNSURE}
    first, others = f"{arm} r=1", [f"{arm} r={rank}" for rank in (2, 4, 8, 64)]
    for task in records.conditions:
        gains = {rival: between(records, task, first, rival) for rival in others}
        best = min(gains, key=lambda rival: gains[rival].mean)
        outcome = _over_all(records, task, first, others, -records.protocol.margin if is_enough else 0.0)
        says = {"arm": first, "gain": gains[best], "best": best, "of_full": comparison.gains(records, task)[first]}
        says |= {"rates": rates(records, task, first, best)}
        yield Reading(task, outcome if is_enough else opposite[outcome], says)


def better_with_few(records: Records, better: float) -> Iterator[Reading]:
    full, task = records.protocol.reference, FEW_EXAMPLES
    gains = {arm: between(records, task, arm, full) for arm in (RANK_1, *FEW_ARMS)}
    best = max(FEW_ARMS, key=lambda arm: gains[arm].mean)
    at_once = {above(between(records, task, arm, full, len(FEW_ARMS)), better) for arm in FEW_ARMS}
    alone = {above(gains[arm], better) for arm in FEW_ARMS}
    others = {arm: gain for arm, gain in gains.items() if arm != best}
    says = {"arms": FEW_ARMS, "gain": gains[best], "best": best, "others": others}
    says |= {"rates": rates(records, task, full, best, *others)}
    yield Reading(task, HOLDS if HOLDS in at_once else FAILS if alone == {FAILS} else UNSURE, says)


def no_worse_with_more(records: Records) -> Iterator[Reading]:
    full, (arm, largest) = records.protocol.reference, FEW_ARMS
    for task in (task for task in records.conditions if task != FEW_EXAMPLES):
        gain = between(records, task, arm, full)
        says = {"arm": arm, "gain": gain, "rates": rates(records, task, full, arm, RANK_1, largest)}
        says |= {"others": {name: between(records, task, name, full) for name in (RANK_1, largest)}}
        yield Reading(task, above(gain, -records.protocol.margin), says)


def loss_falls_and_stops(records: Records, stops: int, largest: int, nats: float) -> Iterator[Reading]:
    first, stop, last = (f"LoRA r={rank}" for rank in (1, stops, largest))
    for task in records.conditions:
        falls, stays = loss_between(records, task, stop, first), loss_between(records, task, last, stop)
        means = mean_losses(records, task)
        arms = [arm for arm in (first, stop, last, records.protocol.reference) if arm in means]
        says = {"falls": falls, "stays": stays, "stops": stops, "largest": largest}
        says |= {"losses": listed(f"{means[arm]:.3f} ({arm})" for arm in arms)}
        says |= {"of_score": between(records, task, stop, first), "rates": rates(records, task, first, stop, last)}
        yield Reading(task, all_of(above(falls, nats), within(stays, -nats, nats)), says)


def more_than_the_head(records: Records) -> Iterator[Reading]:
    for task, arm in product(records.conditions, (RANK_1, records.protocol.reference)):
        gain = between(records, task, arm, ALONE)
        says = {"arm": arm, "gain": gain, "others": {small: between(records, task, arm, small) for small in SMALL}}
        yield Reading(task, above(gain, records.protocol.margin), says)


# ---- Figures 3, 4, 6, 7 and 8: which directions updates share


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
    def mean_beyond(self) -> float:
        """What lies beyond chance."""
        return self.mean - self.chance

    def interval(self, minus: float = 0.0) -> Interval:
        """Of the mean over layers, less a number; over the seeds."""
        values = (self.phi.mean(0) - minus).tolist()
        return t_interval(values) if self.seeds is None else of_every_two(values, self.seeds)

    @property
    def beyond(self) -> Interval:
        """Of what lies beyond chance."""
        return self.interval(self.chance)

    def minus(self, subtracted: Shared) -> Interval:
        """Of what it has more than another."""
        return Shared(self.phi - subtracted.phi, self.by_chance, self.seeds).interval()


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
    seeds = None if pair in (BASE_AND_FULL, *BY_RANK.values()) else len(records.protocol.final_seeds)
    return Shared(np.array(values), np.array([max(at) / row["d"] for row in rows]), seeds)


def _matrices(records: Records) -> Iterator[tuple[str, str, str]]:
    """Tasks, types of matrix and their names: query, value, and all together."""
    together_name = together(row["module"] for row in records.rows.get("similarities", ()))
    for task, (module, name) in product(records.conditions, (MODULES | {EVERY: together_name}).items()):
        yield task, module, name


def top_direction(records: Records, line: float) -> Iterator[Reading]:
    for (task, module, name), j in product(_matrices(records), (1, MANY)):
        top, start = (shared(records, task, RANKS, side, (1, j), module) for side in (FACTOR, START))
        if top and start:
            phi, above_line = top.interval(), int((top.phi.mean(1) > line).sum())
            says = {"name": name, "j": j, "phi": phi, "matrices": len(top.phi), "line": line, "above": above_line}
            yield Reading(task, above(phi, line), says | {"at_start": start.mean, "chance": top.chance})


def other_directions(records: Records, little: float) -> Iterator[Reading]:
    for task, module, name in _matrices(records):
        others, start = (_without_the_first(records, task, side, module) for side in (FACTOR, START))
        rows, columns = (shared(records, task, RANKS, side, (FEW, MANY), module) for side in (ROW, COLUMN))
        if others and rows and columns:
            says = {"name": name, "phi": others.beyond, "rows": rows.beyond, "columns": columns.beyond}
            says |= {"few": FEW, "many": MANY, "at_start": start.mean_beyond if start else None}
            noise = within(start.beyond, -little, little) if start else FAILS
            yield Reading(task, within(others.beyond, -little, little), says, noise)


def _without_the_first(records: Records, task: str, side: str, module: str) -> Shared | None:
    """φ of directions 2 to 8 of rank 8 in those of rank 64: the paper's φ(8, 64) without the first direction's part."""
    few, first = (shared(records, task, RANKS, side, (i, MANY), module) for i in (FEW, 1))
    if not few or not first:
        return None
    return Shared((FEW * few.phi - first.phi) / (FEW - 1), few.by_chance, few.seeds)


def more_than_chance(records: Records, little: float) -> Iterator[Reading]:
    for (task, module, name), k in product(_matrices(records), TOPS):
        factor, start = (shared(records, task, SEEDS, side, (k, k), module) for side in (FACTOR, START))
        most = shared(records, task, SEEDS, FACTOR, (MANY, MANY), module)
        sides = [shared(records, task, *place, (k, k), module) for place in product((SEEDS, OF_FULL), (ROW, COLUMN))]
        updates = [side.beyond for side in sides if side]
        if factor and start and most and len(updates) == len(sides):
            says = {"name": name, "k": k, "phi": factor.beyond, "at_start": start.mean_beyond}
            says |= {"of_all": most.mean_beyond, "product": updates[:2], "full": updates[2:]}
            yield Reading(task, above(factor.beyond, little), says, above(start.beyond, little))


def more_of_the_query(records: Records, little: float) -> Iterator[Reading]:
    for task, k, (name, (pair, side)) in product(records.conditions, TOPS, SIDES_OF_SEEDS.items()):
        query, value = (shared(records, task, pair, side, (k, k), module) for module in MODULES)
        start, start_of_value = (shared(records, task, SEEDS, START, (k, k), module) for module in MODULES)
        if query and value and start and start_of_value:
            more, at_start = query.minus(value), start.mean - start_of_value.mean if side == FACTOR else None
            says = {"side": name, "k": k, "query": query.mean, "value": value.mean, "more": more, "at_start": at_start}
            not_decisive = "" if side == FACTOR else FULL if pair == OF_FULL else PRODUCT
            yield Reading(task, above(more, little), says, stands_beside=not_decisive)


def query_minus_value(records: Records, task: str, pair: str, side: str, k: int) -> Interval | None:
    """By how much φ(k, k) of two seeds is larger in the query than in the value; None where it was not measured."""
    query, value = (shared(records, task, pair, side, (k, k), module) for module in MODULES)
    return query.minus(value) if query and value else None


def directions_of_the_base(records: Records, barely: float) -> Iterator[Reading]:
    for task, side in product(records.conditions, (ROW, COLUMN)):
        pairs = BY_RANK[HIGH], BASE_AND_FULL
        lora, full = (shared(records, task, pair, side, (TOP_OF_W, TOP)) for pair in pairs)
        if lora and full:
            phi = lora.interval()
            says = {"side": side, "phi": phi, "chance": lora.chance, "full": full.interval()}
            yield Reading(task, within(phi, -math.inf, barely), says, HOLDS if lora.chance < barely else FAILS)


def more_of_the_base_at_a_higher_rank(records: Records, directions: float) -> Iterator[Reading]:
    for task, side in product(records.conditions, (ROW, COLUMN)):
        few, middle, many = (_of_top(records, task, side, r) for r in sorted(BY_RANK))
        if few and middle and many:
            more = many.minus(few)
            says = {"side": side, "of_many": many.mean, "of_few": few.mean, "more": more, "between": middle.mean}
            yield Reading(task, above(more, directions), says)


def _of_top(records: Records, task: str, side: str, r: int) -> Shared | None:
    """How many of W's top directions lie in the r directions of an update, beyond chance: squared cosines."""
    top = shared(records, task, BY_RANK[r], side, (TOP_OF_W, r))
    return top and Shared(min(TOP_OF_W, r) * (top.phi - top.by_chance[:, None]), 0 * top.by_chance, top.seeds)


# ---- Table 7: by how much an update amplifies the directions of W that it uses


def groups(records: Records, module: str = "") -> Iterator[tuple[str, str, int, pd.DataFrame]]:
    """Task, arm, r and the rows of their matrices, of every type, or of one."""
    factors = pd.DataFrame(records.rows.get("factors", ()))
    for task in records.conditions if len(factors) else ():
        rows = factors[(factors["condition"] == task) & (factors["module"].eq(module) | (module == ""))]
        by_arm: Any = rows.groupby(["arm", "r"], sort=False)
        for (arm, r), group in by_arm:
            yield task, arm, r, group


def factor(rows: pd.DataFrame, key: str) -> float:
    """The geometric mean over seeds of the median over matrices; NaN where a median is 0 or no number."""
    return _geometric(_logs(_medians(rows[key], rows["seed"]))).mean


def ratio(rows: pd.DataFrame, over: str, divisor: str) -> Interval:
    """The ratio of two factors: each seed's is the median over matrices of each matrix' own."""
    return _geometric(_medians(_logs(rows[over]) - _logs(rows[divisor]), rows["seed"]))


def _logs(values: pd.Series[float]) -> pd.Series[float]:
    """NaN where a value is 0 or no number."""
    return values.where((values > 0) & (values < math.inf)).map(math.log, na_action="ignore")


def _medians(values: pd.Series[float], seeds: pd.Series[int]) -> pd.Series[float]:
    """By seed; NaN where one of its values is."""
    return values.groupby(seeds).agg(lambda of_seed: of_seed.median(skipna=False))


def _geometric(logs: pd.Series[float]) -> Interval:
    """The geometric mean of ratios, with Student's interval over their logarithms."""
    over = t_interval(logs.tolist())
    return Interval(math.exp(over.mean), math.exp(over.low), math.exp(over.high), over.count)


def uses_directions_of_the_base(records: Records, times: float) -> Iterator[Reading]:
    for module in ("", QUERY):
        for task, arm, r, rows in groups(records, module):
            larger, closed = (ratio(rows, noise, "factor") for noise in (GAUSSIAN, RANDOM))
            says = {"update": update_of(arm), "r": r, "larger": larger, "closed": closed}
            says |= {"factor": factor(rows, "factor"), "gaussian": factor(rows, GAUSSIAN)}
            says |= {"of_query": set(rows["module"]) == {QUERY}}
            yield Reading(task, above(larger, times), says, stands_beside=_beside(update_of(arm)))


def not_the_top_ones(records: Records, times: float) -> Iterator[Reading]:
    for task, arm, r, rows in groups(records):
        larger, noise = ratio(rows, "factor", OWN), ratio(rows, GAUSSIAN, OWN)
        says = {"update": update_of(arm), "r": r, "larger": larger, "noise": noise}
        yield Reading(task, above(larger, times), says, above(noise, times), _beside(update_of(arm)))


def less_at_a_higher_rank(records: Records, times: float) -> Iterator[Reading]:
    """The factor of noise falls too, and stands beside it."""
    by_place = {(task, update_of(arm), r): rows for task, arm, r, rows in groups(records)}
    for (task, update, r), few in by_place.items():
        if r == LOW and (task, update, HIGH) in by_place:
            pairs = few.merge(by_place[task, update, HIGH], on=["seed", "matrix"], suffixes=("_few", "_many"))
            logs = [_logs(pairs[f"{key}_few"]) - _logs(pairs[f"{key}_many"]) for key in ("factor", GAUSSIAN)]
            falls, of_noise = (_medians(values, pairs["seed"]) for values in logs)
            fall, noise, beyond = (_geometric(logs) for logs in (falls, of_noise, falls - of_noise))
            says = {"update": update, "fall": fall, "beyond": beyond, "noise": noise}
            yield Reading(task, above(fall, times), says, above(noise, times), _beside(update))


def _beside(update: str) -> str:
    """Claims of Table 7 are of LoRA; full fine-tuning stands beside them."""
    return "" if update.startswith(LORA) else FULL
