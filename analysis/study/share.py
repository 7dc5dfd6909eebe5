"""The share of what fine-tuning brings, the scale of every answer. 0 is the head alone on the frozen base, trained to
convergence (`experiments.converged_heads`); of a language model it is the model before training. 1 is full fine-tuning,
or where a study asks for it the arm that surely beats it (`Protocol.better_reference`).

A size is a rank of LoRA, a number of directions of the full update, or the dimension of a random subspace. It *surely
keeps* a share where the 95 % interval of `score − share · full − (1 − share) · zero` lies above 0 (retention of effect,
Rothmann et al. 2003). The three scores are paired by seed and test example.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from lorax_lab.record.clusters import GROUPS
from lorax_lab.record.direction import oriented
from lorax_lab.record.folder import HEAD_ALONE, UNTRAINED
from lorax_lab.record.share import MOST, SURE, from_where
from lorax_lab.record.statistics import Interval, crossed
from lorax_lab.study.answers import OF_CUTS
from lorax_lab.study.protocol import DIMENSION, RANK
from lorax_lab.study.published import Line

from .comparison import added, added_by_cuts, compared, head_arm, is_lost, seeds_of
from .records import KEPT, Records, score_of
from .update import is_on_test
from .validator import selection_of
from .words import SAMPLE

SHARES = (0.5, SURE, MOST, 0.95, 0.99)
"""The shares that a page can name."""
SIDES = {
    "rank": "rank of LoRA",
    "k": "directions kept of the full update, k",
    "dimension": "dimension of the random subspace, d",
}
KEYS = {"rank": RANK, "dimension": DIMENSION}
"""What sets the sizes of a side that has arms."""
SEARCHED = (-20.0, 20.0)
"""Shares between which the ends of an interval are looked for."""
HEAD, BEFORE = "head alone", "before training"
"""What the 0 is."""
Zero = tuple[str, Mapping[int, Line]]
"""What stands for the 0, and its lines by seed."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What each test example adds to the scores of a condition, (seeds, examples) with the seeds in one order, or
    (seeds, 1) scores where the runs do not say so.

    Attributes:
        full: of full fine-tuning, or of the better arm that is the 1 in its place.
        zero: of what brings nothing.
        zero_is: `HEAD`, `BEFORE`, or the name of the arm that trained the head alone.
        arms: by side and size; an arm of which a run diverged has none.
        reference: the arm that is the 1.
        lost: side and size of each arm of which a run diverged.
    """

    full: np.ndarray
    zero: np.ndarray
    zero_is: str
    arms: dict[tuple[str, int], np.ndarray]
    higher_is_better: bool
    reference: str = "full"
    lost: tuple[tuple[str, int], ...] = ()

    def contrast(self, arm: np.ndarray, share: float) -> Interval:
        """The 95 % interval of `arm − share · full − (1 − share) · zero`, above 0 where the arm keeps more than the
        share, whichever scores are better."""
        differences = arm - share * self.full - (1 - share) * self.zero
        return crossed(differences).interval().oriented(self.higher_is_better)

    def share_of(self, arm: np.ndarray) -> tuple[float, float, float]:
        """(share, low, high): the shares that the contrast does not exclude (Fieller 1954). An infinite end means that
        no share on that side is excluded; one seed has no ends."""
        mean = float((arm.mean() - self.zero.mean()) / (self.full.mean() - self.zero.mean()))
        if len(arm) < 2:
            return mean, math.nan, math.nan
        low = _root(lambda share: self.contrast(arm, share).low, SEARCHED[0], mean)
        high = _root(lambda share: -self.contrast(arm, share).high, SEARCHED[1], mean)
        return mean, low, high

    @property
    def brings(self) -> Interval:
        """What fine-tuning brings: full − zero, above 0 is better."""
        return self.contrast(self.full, 0.0)

    @property
    def examples(self) -> int:
        """How many test examples, or groups of them, the intervals cover; 1 where they cover the seeds alone."""
        return int(self.full.shape[1])


def _root(end: Callable[[float], float], far: float, mean: float) -> float:
    """Where an end of the contrast's interval crosses 0 between a far share and the mean one."""
    if not end(far) > 0:
        return math.copysign(math.inf, far)
    return float(brentq(end, far, mean)) if end(mean) < 0 else mean


def paired(
    reference: Mapping[int, Line],
    arms: Mapping[tuple[str, int], Mapping[int, Line]],
    zero: Zero,
    higher_is_better: bool,
    with_cuts: bool,
    better: tuple[str, Mapping[int, Line]] | None = None,
) -> Scores | None:
    """Scores of runs by seed, of the seeds that all have; None where they have none, or full fine-tuning is not surely
    better than the 0, with one seed not better at all: then there is no share of what it brings.

    Args:
        arms: by side and size.
        zero: its name and its runs, of which one, of any seed, may stand for all.
        with_cuts: whether the reference's update was cut and scored on test.
        better: the arm that is the 1 in the place of the reference, and its runs.
    """
    zero_is, of_zero = zero
    one_is, of_one = better or ("full", reference)
    shared = set.intersection(set(reference), set(of_one), *map(set, arms.values()))
    seeds = sorted(shared & set(of_zero) if len(of_zero) > 1 else shared)
    if not seeds:
        return None
    lines = [runs[seed] for runs in (reference, of_one, *arms.values()) for seed in seeds]
    by_example = all(added(line) is not None for line in [*lines, *of_zero.values()])

    def scores_of(runs: Mapping[int, Line]) -> np.ndarray:
        values = [added(runs[seed]) if by_example else [score_of(runs[seed], "test")] for seed in seeds]
        return np.array(values, dtype=float)

    by_place = {place: scores_of(runs) for place, runs in arms.items()}
    if by_example and with_cuts:
        cuts = [added_by_cuts(reference[seed], "cut") for seed in seeds]
        every_k = sorted(set.intersection(*map(set, cuts)) - {0})
        by_place |= {("k", k): np.array([of_seed[k] for of_seed in cuts]) for k in every_k}
    alike = dict.fromkeys(seeds, next(iter(of_zero.values()))) | dict(of_zero)
    made = Scores(scores_of(of_one), scores_of(alike), zero_is, by_place, higher_is_better, one_is)
    least = made.brings.low if len(seeds) > 1 else made.brings.mean
    return made if least > 0 else None


@lru_cache(maxsize=KEPT * 16)
def scores(records: Records, condition: str, of_full: bool = False) -> Scores | None:
    """The paired scores of a condition; None where there is no share (`paired`), or nothing stands for the 0.

    Args:
        of_full: whether full fine-tuning is the 1 also where another arm is, by `better_arm`.
    """
    reference = seeds_of(records, condition, records.protocol.reference)
    if is_lost(records, condition, records.protocol.reference) or (zero := _zero(records, condition)) is None:
        return None
    protocol = records.protocol
    names = {(side, arm.size(key) or 0): arm.name for side, key in KEYS.items() for arm in protocol.ranked(key)}
    lines = {place: seeds_of(records, condition, name) for place, name in names.items()}
    lost = tuple(place for place, name in names.items() if is_lost(records, condition, name))
    arms = {place: of_arm for place, of_arm in lines.items() if of_arm and place not in lost}
    better = None if of_full else better_arm(records, condition)
    made = paired(
        reference,
        arms,
        zero,
        records.higher_is_better(condition),
        is_on_test(records, condition),
        (better, seeds_of(records, condition, better)) if better else None,
    )
    return made and replace(made, lost=lost)


def better_arm(records: Records, condition: str) -> str | None:
    """The arm that is the 1 of a condition: the best one but the reference in its trials, at the rate that they chose,
    where it surely beats the reference on test. None where it does not, or the study does not ask for it.

    Neither test answers nor final runs choose it: the luckiest of equal arms would be too high a 1.
    """
    if not records.protocol.better_reference:
        return None
    higher, by_arm = records.higher_is_better(condition), compared(records, condition)
    choices = selection_of(records, condition).choices
    is_gain = higher and not records.protocol.chosen_by_loss  # a log loss is the lower the better
    trials = {arm: oriented(choices[arm].score, is_gain) for arm in by_arm if not is_lost(records, condition, arm)}
    best = max(trials, key=lambda arm: trials[arm], default=None)
    return best if best and by_arm[best].interval().oriented(higher).low > 0 else None


def _zero(records: Records, condition: str) -> Zero | None:
    """What stands for the 0, and its lines by seed: one for all where no seed has a part in it."""
    of_reference = seeds_of(records, condition, records.protocol.reference)
    if head := records.heads.get(condition):
        groups = next((line[GROUPS] for line in of_reference.values() if GROUPS in line), None)
        return HEAD, {-1: head if groups is None else head | {GROUPS: groups}}
    arm = head_arm(records, condition)
    return zero_of(of_reference, (arm, seeds_of(records, condition, arm)) if arm else None)


def zero_of(full: Mapping[int, Line], trained: Zero | None) -> Zero | None:
    """What stands for the 0 of full fine-tunes by seed: the heads alone that they have fitted, or the arm that trained
    them, or a language model before training."""
    fitted = {seed: head for seed, line in full.items() if (head := _zero_line(line, HEAD_ALONE))}
    if fitted and len(fitted) == len(full):
        return HEAD, fitted
    before = {seed: model for seed, line in full.items() if (model := _zero_line(line, UNTRAINED))}
    return trained or ((BEFORE, before) if before and len(before) == len(full) else None)


def _zero_line(line: Line, name: str) -> Line | None:
    """A baseline of a full fine-tune, with its answers where these are kept; None where it has none."""
    metric = line["metric"]
    score = line.get("baselines", {}).get(f"{name}/{metric}")
    if score is None:
        return None
    places = {key: line.get(of_cuts, {}).get((name, 0)) for key, of_cuts in OF_CUTS.items()}
    answers = {key: values for key, values in places.items() if values is not None}
    answers |= {GROUPS: line[GROUPS]} if GROUPS in line else {}
    return {"metric": metric, "metrics": {f"test/{metric}": score}} | answers


@lru_cache(maxsize=KEPT * 2)
def table(records: Records, of_full: bool = False) -> pd.DataFrame | None:
    """One row per condition, side and size: the share kept with its interval, whether it surely keeps each of `SHARES`
    (`surely_80` and so on), the scores of full fine-tuning and of the 0, and what the 0 is. None where no condition has
    a share. An arm of which a run diverged keeps none: its share is NaN with an interval of -inf, of 0 seeds.

    Args:
        of_full: as in `scores`. Else a study that asks for better references has the column `reference`, the arm whose
            score is `full`.
    """
    rows = []
    for condition in records.conditions:
        if of_condition := scores(records, condition, of_full):
            line = next(iter(seeds_of(records, condition, records.protocol.reference).values()))
            place = {"task": condition, "classes": len(line["inputs"].get("classes", ()))}
            if records.protocol.better_reference and not of_full:
                place |= {"reference": of_condition.reference}
            rows += rows_of(of_condition, place)
    return pd.DataFrame(rows) if rows else None


def rows_of(of_condition: Scores, place: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of `table` of one condition, each beginning with `place`."""
    zero = {"zero": float(of_condition.zero.mean()), "zero_is": of_condition.zero_is}
    place = place | {"full": float(of_condition.full.mean())} | zero | {"examples": of_condition.examples}
    rows = []
    for (side, size), arm in of_condition.arms.items():
        row = place | {"side": side, "size": size}
        row |= dict(zip(("share", "share_low", "share_high"), of_condition.share_of(arm), strict=True))
        surely = {column(share): of_condition.contrast(arm, share).low > 0 for share in SHARES}
        rows.append(row | {"seeds": len(arm)} | surely)
    nothing = {"share": math.nan, "share_low": -math.inf, "share_high": -math.inf, "seeds": 0}
    nothing |= {column(share): False for share in SHARES}
    return rows + [place | {"side": side, "size": size} | nothing for side, size in of_condition.lost]


def column(share: float) -> str:
    """The column of `table` that says whether a share is surely kept."""
    return f"surely_{100 * share:.0f}"


@dataclass(frozen=True)
class Enough:
    """The smallest size from which on every size that was tried keeps a share, with its 95 % interval, `low` to
    `surely`. None where the largest does not either.

    Attributes:
        low: all smaller sizes surely fall short.
        mean: from which on the mean share is that, which lies in the interval.
        surely: from which on every size surely keeps the share.
    """

    low: int | None
    mean: int | None
    surely: int | None

    def __str__(self) -> str:
        """
        >>> print(Enough(4, 8, 16), Enough(4, 4, 4), Enough(2, 8, None), Enough(4, None, None), Enough(*[None] * 3))
        8 (4 to 16) 4 8 (2 or more) none (4 or more) above the largest
        """
        if self.low is None:
            return "above the largest"
        to = "or more" if self.surely is None else f"to {self.surely:,}"
        middle = "none" if self.mean is None else f"{self.mean:,}"
        return middle if self.low == self.surely else f"{middle} ({self.low:,} {to})"


def enough(rows: pd.DataFrame, share: float) -> Enough:
    """Of the rows of one condition and side in `table`: r90, k90 and d90 are of a share of .9.

    Each end is tested from its side on, size by size, until the first that is not sure (fixed sequence). So it errs as
    rarely as one test does, however many sizes there are, and no order of the shares is assumed: a wrong `low` needs
    the true size itself to fall short, a wrong `surely` the largest that does not keep the share to keep it
    (`tests/nightly/test_intervals_of_sizes.py`).
    """
    rows = rows.sort_values("size")
    low = next((int(size) for size in rows["size"][~(rows["share_high"] < share)]), None)
    surely, mean = (from_on(rows["size"], passes) for passes in (rows[column(share)], rows["share"] >= share))
    return Enough(low, mean, surely)


def enough_of_full(rows: pd.DataFrame, share: float) -> int | None:
    """The smallest size from which on the mean score is a share of full fine-tuning's own, as Li et al. 2018 and
    Aghajanyan et al. 2020 define d90: the head's part counts too, so it asks less where chance scores .5. None where a
    lower score is better, of which a share says nothing, and where not even the largest size does.

    Args:
        rows: of one condition and side in `table`.
    """
    rows = rows.sort_values("size")
    score = rows["zero"] + rows["share"] * (rows["full"] - rows["zero"])
    return from_on(rows["size"], (score >= share * rows["full"]) & (rows["full"] > rows["zero"]))


def from_on(sizes: Iterable[int], passes: Iterable[bool]) -> int | None:
    """The smallest size from which on all pass."""
    return from_where(dict(zip(map(int, sizes), passes, strict=True)), True, True)


def best_of_lora(of_condition: Scores) -> float | None:
    """The share that LoRA's best rank keeps, by the scores themselves; None where there are no arms of LoRA."""
    sign = 1 if of_condition.higher_is_better else -1
    by_rank = [arm for (side, _), arm in of_condition.arms.items() if side == "rank"]
    best = max(by_rank, key=lambda arm: sign * arm.mean(), default=None)
    return None if best is None else of_condition.share_of(best)[0]


def pooled_deficits(records: Records) -> dict[int, Interval]:
    """What LoRA of each rank scores less or more than full fine-tuning, the mean over tasks, above 0 is better. The
    interval takes tasks as independent, each with the width of its own. Scores of one metric alone are pooled, that of
    most tasks, and a second sample of a task is no other task."""
    by_rank: dict[int, list[Interval]] = {}
    tasks = [condition for condition in records.conditions if not SAMPLE.search(condition)]
    metrics = Counter(records.metric(task) for task in tasks if scores(records, task))
    metric = max(metrics, key=lambda name: metrics[name], default="")
    for condition in (task for task in tasks if records.metric(task) == metric):
        if of_condition := scores(records, condition, of_full=True):
            for (side, size), arm in of_condition.arms.items():
                if side == "rank":
                    by_rank.setdefault(size, []).append(of_condition.contrast(arm, 1.0))
    pooled = {}
    for rank, gains in sorted(by_rank.items()):
        mean = float(np.mean([gain.mean for gain in gains]))
        half = math.hypot(*(gain.mean - gain.low for gain in gains)) / len(gains)
        pooled[rank] = Interval(mean, mean - half, mean + half, min(gain.count for gain in gains))
    return pooled
