"""A fair comparison of arms: which runs it takes, and which learning rate each arm is given.

Every arm gets the same number of learning rates, log-spaced around a centre of its own, each tried with the same seeds
and scored on validation alone; the highest mean is chosen. A choice at the edge of the grid extends the grid of every
arm by one rate on that side, so that all arms keep the same number of trials; after `extensions` of them a choice that
still is at the edge is marked. The chosen rate is then run with fresh seeds, the same for all arms, and the test split
is read once by each. Knows no model and no training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Arm:
    """What is compared: the words that choose it, and the lowest learning rate of its grid."""

    name: str
    words: tuple[str, ...]
    lowest: float

    @property
    def rank(self) -> int | None:
        """LoRA's rank, None of full fine-tuning."""
        rank = self._value("rank")
        return None if rank is None else int(rank)

    @property
    def method(self) -> str | None:
        """The method that the words choose."""
        return self._value("method")

    def _value(self, key: str) -> str | None:
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"{key}=")), None)


@dataclass(frozen=True)
class Protocol:
    """The rules of one comparison, declared before its runs.

    Attributes:
        arms: in the order of tables; the one named `reference` is what the others are compared with.
        rates: learning rates per arm, `factor` apart.
        selection_seeds, final_seeds: share no seed.
        margin: by how much an arm may score below the reference and still match it, in units of the metric.
        extensions: how often the grids may grow.
    """

    arms: tuple[Arm, ...]
    reference: str
    rates: int
    factor: float
    selection_seeds: tuple[int, ...]
    final_seeds: tuple[int, ...]
    margin: float
    extensions: int = 2

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def rate(self, arm: str, step: int) -> float:
        """The learning rate at a step of an arm's grid, 0 being its lowest, to 4 digits."""
        return float(f"{self.arm(arm).lowest * self.factor**step:.4g}")

    def trials(self, task: str, steps: range) -> list[Cell]:
        """Every arm at every step of the grid with every selection seed."""
        places = [(arm.name, step, seed) for arm in self.arms for step in steps for seed in self.selection_seeds]
        return [Cell("trial", task, arm, self.rate(arm, step), seed) for arm, step, seed in places]

    def step(self, arm: str, rate: float) -> int:
        """The step whose rate this is, or lies nearest to."""
        return round(math.log(rate / self.arm(arm).lowest, self.factor))


@dataclass(frozen=True)
class Cell:
    """One run of a comparison: `stage` is `trial` or `final`."""

    stage: str
    task: str
    arm: str
    rate: float
    seed: int


def cell_of(protocol: Protocol, tasks: Sequence[str], line: Mapping[str, Any]) -> Cell | None:
    """Which run of the comparison a published line is of, by what it says of itself; None of a stranger.

    Args:
        tasks: the names that were declared; one task alone may be a table of its own, called what it likes.
    """
    config = line["config"]
    name, trial = config["task"]["name"], config["measure"] == "trial"
    task = name if name in tasks else tasks[0] if name == "local" and len(tasks) == 1 else None
    chosen = line["method"], line["rank"]
    arm = next((arm.name for arm in protocol.arms if (arm.method, arm.rank) == chosen), None)
    if task is None or arm is None:
        return None
    return Cell("trial" if trial else "final", task, arm, float(config["train"]["learning_rate"]), line["seed"])


@dataclass(frozen=True)
class Choice:
    """An arm's chosen step, the mean validation score it had, and whether it stands at the grid's edge."""

    step: int
    score: float
    edge: bool


@dataclass(frozen=True)
class Selection:
    """How far the choice of one task's learning rates has come.

    Attributes:
        steps: of every arm's grid, extensions included.
        missing: trials that it waits for.
        choices: by arm; empty while trials are missing.
    """

    steps: range
    missing: tuple[Cell, ...]
    choices: Mapping[str, Choice]


Scores = Mapping[tuple[str, int, int], float]
"""Mean validation score of each trial by (arm, step, seed); minus infinity where it diverged."""


def select(protocol: Protocol, task: str, scores: Scores) -> Selection:
    """Choose each arm's rate from its trials, or say which trials are missing."""
    steps = range(protocol.rates)
    for extension in range(protocol.extensions + 1):
        trials = protocol.trials(task, steps)
        missing = [t for t in trials if (t.arm, protocol.step(t.arm, t.rate), t.seed) not in scores]
        if missing:
            return Selection(steps, tuple(missing), {})
        choices = {arm.name: _choose(protocol, arm.name, steps, scores) for arm in protocol.arms}
        low = any(choice.step == steps[0] for choice in choices.values())
        high = any(choice.step == steps[-1] for choice in choices.values())
        if extension < protocol.extensions:
            if not low and not high:
                break
            steps = range(steps.start - low, steps.stop + high)
    return Selection(steps, (), choices)


def finals(protocol: Protocol, task: str, selection: Selection) -> list[Cell]:
    """The runs with fresh seeds that follow a choice."""
    return [
        Cell("final", task, arm.name, protocol.rate(arm.name, selection.choices[arm.name].step), seed)
        for arm in protocol.arms
        for seed in protocol.final_seeds
    ]


def _choose(protocol: Protocol, arm: str, steps: range, scores: Scores) -> Choice:
    seeds = protocol.selection_seeds
    means = {step: math.fsum(scores[arm, step, seed] for seed in seeds) / len(seeds) for step in steps}
    best = max(steps, key=lambda step: means[step])  # the lowest of equal ones
    return Choice(best, means[best], best in (steps[0], steps[-1]))
