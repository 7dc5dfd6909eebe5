"""A fair comparison of arms: which runs it needs, and which learning rate each arm gets.

Every arm gets the same number of learning rates, log-spaced. Each is tried with the same seeds and scored on validation
alone; the best mean is chosen. A choice at the edge of the grid extends the grid of every arm by one rate on that side;
one that is still there after `extensions` is marked. The chosen rate is then run with fresh seeds, the same for all
arms, and each of these runs reads the test split once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lorax_lab.errors import ConfigError
from lorax_lab.record.direction import of_line, of_lines, oriented

RANK, DIMENSION = "rank", "method.dimension"
"""The keys of what arms differ in where a study asks which size is enough."""
DIGITS = 12
"""Of a mean score; beyond them equal scores of several seeds differ by rounding."""


@dataclass(frozen=True)
class Arm:
    """What is compared: a name, the overrides that make it, and the lowest learning rate of its grid."""

    name: str
    overrides: tuple[str, ...]
    lowest: float

    @property
    def rank(self) -> int | None:
        """The rank that the overrides set; None where they set none, as for full fine-tuning."""
        return self.size(RANK)

    def size(self, key: str) -> int | None:
        """The number that the overrides set for a key; None where they set none."""
        values = [override.partition("=")[2] for override in self.overrides if override.startswith(f"{key}=")]
        return int(values[-1]) if values else None


@dataclass(frozen=True)
class Protocol:
    """The rules of one comparison, declared before its runs.

    Attributes:
        arms: in the order of the tables. The others are compared with the one named `reference`.
        rates: learning rates per arm, `factor` apart.
        selection_seeds, final_seeds: share no seed.
        margin: by how much an arm may be worse than the reference and still match it, in units of the metric.
        extensions: how often the grids may grow.
        loss_margin: by how many nats the log loss on test, the second endpoint, may be higher than the reference's;
            None declares none, and the log loss is only reported.
        chosen_by_loss: the metric on validation by which rates are chosen, the lower the better; None is the primary
            metric.
        ties_are_edges: whether a rate at the grid's edge that is as good as the chosen one extends the grid too.
        better_reference: whether a condition is judged by the best other arm in its trials, where that surely beats
            the reference on test, and says so.
    """

    arms: tuple[Arm, ...]
    reference: str = "full"
    rates: int = 3
    factor: float = 2.0
    selection_seeds: tuple[int, ...] = (100,)
    final_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    margin: float = 0.02
    extensions: int = 2
    loss_margin: float | None = None
    chosen_by_loss: str | None = None
    ties_are_edges: bool = False
    better_reference: bool = False

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def rate(self, arm: str, step: int) -> float:
        """The learning rate at a step of an arm's grid, 0 being its lowest, to 4 digits."""
        return float(f"{self.arm(arm).lowest * self.factor**step:.4g}")

    def trials(self, condition: str, steps: range) -> list[Cell]:
        """Every arm at every step of the grid with every selection seed."""
        points = [(arm.name, step, seed) for arm in self.arms for step in steps for seed in self.selection_seeds]
        return [Cell("trial", condition, arm, self.rate(arm, step), seed) for arm, step, seed in points]

    def step(self, arm: str, rate: float) -> int:
        """The step whose rate this is, or lies nearest to."""
        return round(math.log(rate / self.arm(arm).lowest, self.factor))

    def ranked(self, key: str = RANK) -> list[Arm]:
        """The arms that differ only in their rank, for r*, or in the size that another key sets. An arm that has a size
        and no other like it is left out; there are none where several sets of arms differ in their size."""
        alike: dict[tuple[str, ...], list[Arm]] = {}
        for arm in self.arms:
            if arm.size(key) is not None:
                alike.setdefault(tuple(o for o in arm.overrides if not o.startswith(f"{key}=")), []).append(arm)
        sets = list(alike.values()) if len(alike) == 1 else [arms for arms in alike.values() if len(arms) > 1]
        return sets[0] if len(sets) == 1 else []


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    Attributes:
        stage: `trial` or `final`.
        condition: the point of the study's grid of factors, such as a task; arms are compared within it.
    """

    stage: str
    condition: str
    arm: str
    rate: float
    seed: int


@dataclass(frozen=True)
class Choice:
    """An arm's chosen step, the mean validation score it had, and whether it stands at an end of the grid.

    Attributes:
        low, high: whether it is the lowest, or highest, of the grid, or where ties count, as good as that one.
    """

    step: int
    score: float
    low: bool
    high: bool

    @property
    def edge(self) -> bool:
        """Whether it stands at one end or the other."""
        return self.low or self.high


@dataclass(frozen=True)
class Selection:
    """How far the choice of one condition's learning rates has come.

    Attributes:
        steps: the steps of every arm's grid, extensions included.
        missing: trials without a line yet.
        choices: by arm; empty while trials are missing.
    """

    steps: range
    missing: tuple[Cell, ...]
    choices: Mapping[str, Choice]


def select(protocol: Protocol, condition: str, line_of: Callable[[Cell], Mapping[str, Any] | None]) -> Selection:
    """Choose each arm's rate from its trials, or say which are missing: those without a published line that counts."""
    steps, extensions = range(protocol.rates), protocol.extensions
    while True:
        lines = {trial: line_of(trial) for trial in protocol.trials(condition, steps)}
        if missing := tuple(trial for trial, line in lines.items() if line is None):
            return Selection(steps, missing, {})
        done = {trial: line for trial, line in lines.items() if line is not None}
        choices = {arm.name: _choose(protocol, arm.name, steps, done) for arm in protocol.arms}
        low, high = (any(getattr(choice, end) for choice in choices.values()) for end in ("low", "high"))
        if not extensions or not (low or high):
            return Selection(steps, (), choices)
        steps, extensions = range(steps.start - low, steps.stop + high), extensions - 1


def _gain(line: Mapping[str, Any], loss: str | None) -> float:
    """A trial's primary metric, or that loss, on the validation split, oriented; minus infinity of a run that diverged,
    or whose score has no value, such as a correlation with answers that are all the same."""
    if line["status"] != "completed":
        return -math.inf
    name = f"validation/{loss or line['metric']}"
    if loss and name not in line["metrics"]:
        raise ConfigError(f"chosen_by_loss={loss}: {line['run_id']} has no {name}; it has {', '.join(line['metrics'])}")
    score = line["metrics"].get(name)
    return -math.inf if score is None else oriented(float(score), loss is None and of_line(line))


def finals(protocol: Protocol, condition: str, selection: Selection) -> list[Cell]:
    """The runs with fresh seeds that follow a choice."""
    return [
        Cell("final", condition, arm.name, protocol.rate(arm.name, selection.choices[arm.name].step), seed)
        for arm in protocol.arms
        for seed in protocol.final_seeds
    ]


def _choose(protocol: Protocol, arm: str, steps: range, lines: Mapping[Cell, Mapping[str, Any]]) -> Choice:
    loss, means = protocol.chosen_by_loss, dict[int, float]()
    for step in steps:
        rate = protocol.rate(arm, step)
        of_step = [_gain(lines[c], loss) for c in lines if c.arm == arm and c.rate == rate]
        means[step] = round(math.fsum(of_step) / len(of_step), DIGITS)
    best = max(steps, key=lambda step: means[step])  # the lowest rate of equal ones
    ties = [step for step in steps if step == best or (protocol.ties_are_edges and means[step] == means[best])]
    score = oriented(means[best], loss is None and of_lines(lines.values()))
    return Choice(best, score, steps[0] in ties, steps[-1] in ties)
