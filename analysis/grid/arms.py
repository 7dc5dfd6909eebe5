"""One arm of a group: which rate its own runs choose, and which of its scores chose nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lorax_lab.record.direction import oriented

from ..study.statistics import Interval, t_interval
from .table import FINAL, TRIAL, Arm, Run

TRIALS, OTHER_SEEDS, ITSELF = "trials", "the other seeds", "the score itself"
"""What chose the rate at which an arm is scored."""
LOWEST, HIGHEST, ONLY = "the lowest tried", "the highest tried", "the only one tried"
Cells = Mapping[float, Mapping[int | None, float | None]]
"""Scores by rate and seed; None of a run that failed."""


@dataclass(frozen=True)
class Scored:
    """An arm with its choice and its scores.

    Attributes:
        cells: of the runs that choose the rate, also of rates that lack a row.
        seeds: of these runs.
        best: the rate that all of them choose, the lowest of equal ones; None where no rate has a score of every seed.
        edge: where the chosen rate stands in the grid, if at its edge; otherwise empty.
        chosen_by: `TRIALS`, `OTHER_SEEDS` or `ITSELF`.
        scores: by seed, of the runs that chose nothing; None of a run that failed.
        score_of_best: the mean of the scores that chose the best rate.
        failures: runs that failed, in words.
        elsewhere: rates of final runs that are not the best one.
        splits: of the runs that choose, and of those that score.
        budget: how long its runs trained: of each column that says so, the stages with their values.
    """

    arm: Arm
    cells: Cells
    seeds: tuple[int | None, ...]
    best: float | None
    edge: str
    chosen_by: str
    scores: Mapping[int | None, float | None]
    score_of_best: float
    failures: tuple[str, ...]
    elsewhere: tuple[float, ...]
    splits: tuple[str, str]
    budget: Mapping[str, frozenset[tuple[str, str]]]

    @property
    def rates(self) -> tuple[float, ...]:
        """The rates that were tried, ascending: those that have a row of every seed. A failed run is a row."""
        return tuple(sorted(whole(self.cells, self.seeds)))

    @property
    def uncounted(self) -> tuple[float, ...]:
        """The rates that lack a row of a seed, ascending."""
        return tuple(sorted({*self.cells} - {*self.rates}))

    @property
    def lost(self) -> tuple[int | None, ...]:
        """The seeds whose scoring run failed."""
        return tuple(seed for seed, score in self.scores.items() if score is None)

    @property
    def interval(self) -> Interval:
        """Of the scores that chose nothing; nothing where a run of them failed."""
        return of_seeds([] if self.lost else [s for s in self.scores.values() if s is not None], self.chosen_by)

    @property
    def shown(self) -> float:
        """The mean of the scores that chose nothing; where the score itself chose, that of the best rate. NaN where a
        run of them failed, or there is none."""
        return self.score_of_best if self.chosen_by == ITSELF else self.interval.mean

    @property
    def variances(self) -> list[tuple[int, float]]:
        """Degrees of freedom and sum of squares over the seeds, of each rate with two scores or more."""
        found = []
        for scores in self.cells.values():
            known = [score for score in scores.values() if score is not None]
            mean = math.fsum(known) / len(known) if known else math.nan
            found.append((len(known) - 1, math.fsum((score - mean) ** 2 for score in known)))
        return [(freedom, squares) for freedom, squares in found if freedom > 0]


def of_seeds(values: Sequence[float], chosen_by: str) -> Interval:
    """The interval of the mean over seeds: Student's, and wider by √(1 + n / (n − 1)) where each seed is scored at the
    rate that the others choose.

    Seeds left out share what chose their rates, so that their mean varies more than their spread says. The factor is
    that of Nadeau and Bengio (2003, Machine Learning 52) for one of n left out. Without
    it the interval covers the truth in 78 to 94 % of simulations where many rates are about equally good, with it in 92
    to 97 %.

    >>> str(of_seeds([0.1, 0.2, 0.3], TRIALS)), str(of_seeds([0.1, 0.2, 0.3], OTHER_SEEDS))
    ('0.2000 [-0.0484, 0.4484]', '0.2000 [-0.1928, 0.5928]')
    """
    interval = t_interval(values)
    if chosen_by != OTHER_SEEDS or interval.count < 2:
        return interval
    half = (interval.high - interval.mean) * math.sqrt(1 + interval.count / (interval.count - 1))
    return Interval(interval.mean, interval.mean - half, interval.mean + half, interval.count)


def is_staged(runs: Iterable[Run]) -> bool:
    """Whether a group has trials and final runs."""
    return {TRIAL, FINAL} <= {run.stage for run in runs}


def score(arm: Arm, runs: tuple[Run, ...], staged: bool, higher_is_better: bool) -> Scored:
    """An arm's choice and scores, from its own runs.

    Where trials and final runs are told apart, the trials choose. Where they are not, and there are several seeds, each
    seed is scored at the rate that the other seeds choose. One seed alone chooses and is scored by the same runs, so
    that no score is left that chose nothing.
    """
    choosing = [run for run in runs if not staged or run.stage == TRIAL]
    finals = [run for run in runs if staged and run.stage == FINAL]
    cells: dict[float, dict[int | None, float | None]] = {}
    for run in choosing:
        cells.setdefault(run.rate, {})[run.seed] = run.score
    seeds = tuple(sorted({run.seed for run in choosing}, key=_first_none))
    tried = whole(cells, seeds)
    best = choose(tried, seeds, higher_is_better)
    chosen, scores = {best}, dict[int | None, float | None]()
    if staged:
        scores = {run.seed: run.score for run in finals if run.rate == best}
    elif len(seeds) > 1 and best is not None:
        for seed in seeds:
            rate = choose(tried, [other for other in seeds if other != seed], higher_is_better)
            assert rate is not None
            chosen.add(rate)
            scores[seed] = cells[rate].get(seed)
    failures = [*_failures(cells, seeds), *(_failed(run.rate, run.seed) for run in finals if run.score is None)]
    return Scored(
        arm=arm,
        cells=cells,
        seeds=seeds,
        best=best,
        edge=next(filter(None, (edge(rate, sorted(tried)) for rate in _known(chosen))), ""),
        chosen_by=TRIALS if staged else OTHER_SEEDS if len(seeds) > 1 else ITSELF,
        scores=scores,
        score_of_best=math.nan
        if best is None
        else oriented(_gain(cells[best], seeds, higher_is_better), higher_is_better),
        failures=tuple(failures),
        elsewhere=tuple(sorted({run.rate for run in finals} - {best})),
        splits=(_split(choosing), _split(finals if staged else choosing)),
        budget={name: frozenset((run.stage, dict(run.budget)[name]) for run in runs) for name, _ in runs[0].budget},
    )


def whole(cells: Cells, seeds: Iterable[int | None]) -> dict[float, Mapping[int | None, float | None]]:
    """The cells of the rates that have a row of every seed.

    >>> whole({0.1: {0: 1.0, 1: None}, 0.2: {0: 9.0}}, [0, 1])
    {0.1: {0: 1.0, 1: None}}
    """
    every = set(seeds)
    return {rate: scores for rate, scores in cells.items() if every <= scores.keys()}


def choose(cells: Cells, seeds: Iterable[int | None], higher_is_better: bool) -> float | None:
    """The rate of the best mean over the seeds, the lowest of equal ones, as `lorax_lab.study.protocol` chooses. A rate
    of which a run failed or lacks is not chosen; None where that is every rate.

    >>> choose({0.1: {0: 1.0, 1: 2.0}, 0.2: {0: 9.0, 1: None}, 0.3: {0: 2.0, 1: 1.0}}, [0, 1], True)
    0.1
    """
    seeds = list(seeds)
    gains = {rate: _gain(cells[rate], seeds, higher_is_better) for rate in sorted(cells)}
    known = [rate for rate, gain in gains.items() if gain > -math.inf]
    return max(known, key=lambda rate: gains[rate], default=None)


def edge(rate: float, rates: list[float]) -> str:
    """Where a rate stands, if it has no neighbour on one side."""
    if len(rates) == 1:
        return ONLY
    return LOWEST if rate == rates[0] else HIGHEST if rate == rates[-1] else ""


def _gain(scores: Mapping[int | None, float | None], seeds: Iterable[int | None], higher_is_better: bool) -> float:
    """The mean score, oriented; minus infinity where a seed has none."""
    of_seeds = [scores.get(seed) for seed in seeds]
    known = [oriented(score, higher_is_better) for score in of_seeds if score is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(of_seeds) else -math.inf


def _failures(cells: Cells, seeds: Iterable[int | None]) -> list[str]:
    places = [(rate, seed) for rate in sorted(cells) for seed in seeds if cells[rate].get(seed) is None]
    return [_failed(rate, seed) if seed in cells[rate] else f"{_at(rate, seed)} has no row" for rate, seed in places]


def _failed(rate: float, seed: int | None) -> str:
    return f"{_at(rate, seed)} has no score"


def _at(rate: float, seed: int | None) -> str:
    return f"{rate:g}" if seed is None else f"{rate:g} with seed {seed}"


def _split(runs: list[Run]) -> str:
    return next((run.split for run in runs), "")


def _known(rates: Iterable[float | None]) -> list[float]:
    return sorted(rate for rate in rates if rate is not None)


def _first_none(seed: int | None) -> int:
    return -1 if seed is None else seed
