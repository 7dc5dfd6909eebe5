"""Which arms of a grid are compared, whether that is fair, and what the fair ones say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from lorax_lab.record.direction import oriented

from ..study.comparison import LOST
from ..study.markdown import listed, some
from ..study.statistics import Interval, Smallest, smallest
from .arms import ITSELF, ONLY, OTHER_SEEDS, TRIALS, Scored, is_staged, of_seeds, score
from .chance import of_unequal
from .table import FULL, TEST, Arm, Run

WIDTH = 1.25
"""By which factor the distances of the rates beside two arms' best ones may differ, on the log scale. Grids of 1, 3, 10
and of 1, 2, 5, 10 are even by this."""
ONE_SEED = "one seed"
NO_FULL = "no full arm"
ALIKE, DIGITS = 3, 4
"""So many seeds of one arm, or of two arms in each seed, have the same score of so many digits only where one was
copied."""
SAME = 1e-9
"""Differences of scores that are equal to rounding, as a share of the scores."""


@dataclass(frozen=True)
class Comparison:
    """Two arms of a group.

    Attributes:
        second: what the first is compared with; None where the group has no full arm.
        reasons: why it is not fair; none where it is.
        gain: of the first over the second, paired by seed, above 0 is better; only where it is fair.
    """

    first: Scored
    second: Scored | None
    reasons: tuple[str, ...]
    gain: Interval | None

    @property
    def fair(self) -> bool:
        """Whether no reason speaks against it."""
        return not self.reasons

    @property
    def with_full(self) -> bool:
        """Whether the first arm is compared with full fine-tuning, be it there or not."""
        return self.second is None or self.second.arm.method == FULL

    @property
    def name(self) -> str:
        """As the page lists it."""
        return f"{self.first.arm} against {self.second.arm if self.second else FULL}"


@dataclass(frozen=True)
class Group:
    """A model and a task: its arms, full first, and their comparisons.

    Attributes:
        staged: whether it has trials and final runs.
        stage: the one stage that all of its rows have; empty where they have both, or the table does not say.
        splits: of the runs that choose, and of those that score; empty where the table does not say.
    """

    name: str
    arms: tuple[Scored, ...]
    comparisons: tuple[Comparison, ...]
    staged: bool
    stage: str
    splits: tuple[str, str]

    @property
    def methods(self) -> list[str]:
        """The methods that have ranks."""
        return list(dict.fromkeys(scored.arm.method for scored in self.arms if scored.arm.rank is not None))


def compare(name: str, runs: tuple[Run, ...], higher_is_better: bool) -> Group:
    """All comparisons of a group: each arm with full, and those that share their method or their rank."""
    staged = is_staged(runs)
    names = sorted({run.arm for run in runs}, key=lambda arm: arm.place)
    arms = tuple(score(arm, tuple(run for run in runs if run.arm == arm), staged, higher_is_better) for arm in names)
    full = next((scored for scored in arms if scored.arm.method == FULL), None)
    others = [scored for scored in arms if scored is not full]
    found = [_compared(other, full, higher_is_better) for other in others]
    pairs = [pair for pair in itertools.combinations(others, 2) if _alike(pair[0].arm, pair[1].arm)]
    found += [_compared(first, second, higher_is_better) for first, second in pairs]
    stage = "" if staged else runs[0].stage
    return Group(name, arms, tuple(found), staged, stage, arms[0].splits)


def _alike(one: Arm, other: Arm) -> bool:
    return one.method == other.method or (one.rank is not None and one.rank == other.rank)


def _compared(first: Scored, second: Scored | None, higher_is_better: bool) -> Comparison:
    reasons = tuple(unfair(first, second))
    gain = _gain(first, second, higher_is_better) if second and not reasons else None
    return Comparison(first, second, reasons, gain)


def unfair(first: Scored, second: Scored | None) -> list[str]:
    """Why two arms cannot be compared; none where they can."""
    both = [first, second] if second else [first]
    reasons = [] if second else [NO_FULL]
    for arm in both:
        reasons += _of_choice(arm)
    if any(arm.chosen_by == ITSELF or len(arm.scores) == 1 for arm in both):
        reasons.append(ONE_SEED)
    reasons += [f"the seeds of {arm.arm} have one score to the last digit" for arm in both if _is_copied(arm)]
    itself = [arm for arm in both if arm.chosen_by == ITSELF]
    if itself:
        score = f"{itself[0].splits[0]} score" if itself[0].splits[0] else "score"
        reasons.append(f"the rate is chosen by the {score} that is reported")
    for arm in both:
        reasons += _of_stages(arm)
        if arm.edge:
            reasons.append(f"of {arm.arm} {_at_edge(arm)}")
    return list(dict.fromkeys([*reasons, *(_of_pair(first, second) if second else [])]))


def _at_edge(arm: Scored) -> str:
    if arm.edge != ONLY:
        return f"the best rate is at the grid's edge, {arm.edge}"
    return "only one rate has a row of every seed" if arm.uncounted else "only one rate was tried"


def _is_copied(arm: Scored) -> bool:
    """Whether several seeds have the very same score, with so many digits that training does not give it twice."""
    known = [score for score in arm.scores.values() if score is not None]
    return len(known) >= ALIKE and len(set(known)) == 1 and _digits(known[0]) >= DIGITS


def _are_copied(first: Scored, second: Scored) -> bool:
    """Whether two arms have the very same score in each of several seeds, as `_is_copied`."""
    pairs = [(first.scores[seed], second.scores[seed]) for seed in first.scores if seed in second.scores]
    fine = [one for one, _ in pairs if one is not None and _digits(one) >= DIGITS]
    return len(fine) >= ALIKE and all(one == other for one, other in pairs)


def _is_constant(first: Scored, second: Scored) -> bool:
    """Whether two arms differ by the same in each of several seeds: the interval of the difference has no width. Where
    a run failed there is no interval."""
    pairs = [(first.scores[seed], second.scores[seed]) for seed in first.scores if seed in second.scores]
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    if len(known) < len(pairs):
        return False
    differences = [one - other for one, other in known]
    largest = max((abs(score) for pair in known for score in pair), default=0.0)
    return len(known) > 1 and max(differences) - min(differences) <= SAME * largest


def _digits(score: float) -> int:
    """How many digits a score was written with, zeros at either end left out."""
    return len(Decimal(repr(score)).normalize().as_tuple().digits)


def _of_choice(arm: Scored) -> list[str]:
    if not arm.cells:
        return [f"{arm.arm} has no trials, so that what chose its rate is not told"]
    if arm.best is None:
        return [f"no rate of {arm.arm} has a score of every seed"]
    if arm.chosen_by == TRIALS and not arm.scores:
        at = f"are at {listed(f'{rate:g}' for rate in arm.elsewhere)}" if arm.elsewhere else "are not there"
        return [f"the trials of {arm.arm} choose {arm.best:g}, and its final runs {at}"]
    return []


def _of_stages(arm: Scored) -> list[str]:
    """What makes the runs that choose and those that score depend on each other. A table without stages may have a
    validation score alone; a test score must choose nothing."""
    if arm.chosen_by == OTHER_SEEDS and len(arm.cells) > 1 and arm.splits[0] == TEST:
        return [f"runs that choose the rates and runs that score them are both scored on {TEST}"]
    if arm.chosen_by != TRIALS or not arm.scores:
        return []
    reasons, common = [], sorted(seed for seed in {*arm.seeds} & {*arm.scores} if seed is not None)
    if common:
        reasons.append(f"seed{'s' * (len(common) > 1)} {listed(common)} chose a rate and score it")
    if arm.splits[0] and arm.splits[0] == arm.splits[1]:
        reasons.append(f"trials and final runs are both scored on {arm.splits[0]}")
    return reasons


def _trained(arm: Scored, name: str) -> str:
    """How long an arm's runs trained by one column, with the stages where these differ."""
    values = arm.budget[name]
    staged = len({value for _, value in values}) > 1 and len({stage for stage, _ in values}) > 1
    return some({f"{value or 'not given'}{f' ({stage})' * staged}" for stage, value in values})


def _of_pair(first: Scored, second: Scored) -> list[str]:
    """Where two arms were not treated alike."""
    reasons = []
    fewer, more = sorted((first, second), key=lambda arm: len(arm.rates))
    if 0 < len(fewer.rates) < len(more.rates):
        numbers = f"{len(more.rates)} rates of {more.arm} against {len(fewer.rates)} of {fewer.arm}"
        reasons.append(f"unequal numbers of trials, {numbers}: {of_unequal(more, fewer)}")
    if len(first.seeds) != len(second.seeds) and first.seeds and second.seeds:
        numbers = f"{len(first.seeds)} of {first.arm} and {len(second.seeds)} of {second.arm}"
        reasons.append(f"unequal numbers of seeds choose the rates, {numbers}")
    for name, values in first.budget.items():
        is_one_each = len(dict(values)) == len(values)
        if values != second.budget[name] or not is_one_each:
            one, other = (_trained(arm, name) for arm in (first, second))
            reasons.append(f"unequal training: {name} is {one} of {first.arm} and {other} of {second.arm}")
    if first.scores and second.scores and set(first.scores) != set(second.scores):
        reasons.append(f"{first.arm} and {second.arm} are scored with different seeds")
    if _are_copied(first, second):
        reasons.append(f"{first.arm} and {second.arm} have the same score in each seed to the last digit")
    elif _is_constant(first, second):
        reasons.append("the difference is the same in each seed, so that nothing tells how much it varies")
    reasons += _of_grids(first, second)
    if second.lost and (first.lost or second.arm.method == FULL):
        both = f"{first.arm} and {second.arm}" if first.lost else second.arm
        reasons.append(f"a run that scores {both} failed")
    return reasons


def _of_grids(first: Scored, second: Scored) -> list[str]:
    """Whether the grids lie alike around each arm's best rate."""
    if first.best is None or second.best is None:
        return []
    reaches = [(arm.rates[0] / arm.best, arm.rates[-1] / arm.best) for arm in (first, second) if arm.best]
    if max(low for low, _ in reaches) == 1 == min(high for _, high in reaches):
        return ["around each arm's best rate the grids have no other rate in common"]
    if first.edge or second.edge:
        return []
    widths = [_width(arm) for arm in (first, second)]
    if math.log(max(widths)) <= WIDTH * math.log(min(widths)):
        return []
    steps = [f"{width:.2g}-fold for {arm.arm}" for width, arm in zip(widths, (first, second), strict=True)]
    return [f"the grids are not equally fine: from the rate below the best to the one above, {' and '.join(steps)}"]


def _width(arm: Scored) -> float:
    """The rate above the best one over the rate below it."""
    place = arm.rates.index(arm.best) if arm.best else 0
    return arm.rates[place + 1] / arm.rates[place - 1]


def _gain(first: Scored, second: Scored, higher_is_better: bool) -> Interval:
    """Of scores paired by seed; both arms are chosen in the same way. The lowest there is where a run of one failed."""
    if first.lost:
        return LOST
    if second.lost:
        return LOST.oriented(False)
    pairs = [(first.scores[seed], second.scores[seed]) for seed in first.scores]
    differences = [
        oriented(one - other, higher_is_better) for one, other in pairs if one is not None and other is not None
    ]
    return of_seeds(differences, first.chosen_by)


def star(group: Group, method: str, margin: float) -> Smallest | None:
    """r* of a method, by the rules of `analysis.study.statistics.smallest`; None where a comparison of one of its ranks
    with full is not fair."""
    of_method = [each for each in against_full(group) if each.first.arm.method == method]
    gains = {each.first.arm.rank: each.gain for each in of_method if each.gain and each.first.arm.rank is not None}
    return smallest(gains, margin) if gains and len(gains) == len(of_method) else None


def against_full(group: Group) -> list[Comparison]:
    """The comparisons with full fine-tuning."""
    return [each for each in group.comparisons if each.with_full]


def together(comparisons: Sequence[Comparison]) -> dict[tuple[str, ...], list[Comparison]]:
    """The comparisons that are not fair, by their reasons."""
    found: dict[tuple[str, ...], list[Comparison]] = {}
    for each in comparisons:
        if each.reasons:
            found.setdefault(each.reasons, []).append(each)
    return found
