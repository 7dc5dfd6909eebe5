"""A study on its way: what it runs, what of it is recorded, what is missing, and how long that will take.

A study is a module with QUESTION, PREDICTION, COST, `plan(budget)` and `grid()`. `experiments.command` carries it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Any, Protocol

from lorax_lab.store.protocol import Cell, Selection, finals, select
from lorax_lab.store.protocol import Protocol as Rules

SETTLED = ("completed", "diverged")
"""Statuses after which a run is not tried again: a rate at which training diverges is an answer."""
Line = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a study runs.

    Attributes:
        rules: the fair comparison.
        tasks: the words of each task, by its name.
        common: words of every run.
        final: words of the final runs of an arm, by the arm's name.
        seconds: what a run takes on 2 cores, by stage, until some are recorded.
        shared: whether the directions that full fine-tunes have in common are asked for.
        prepare: makes the files that the words name, where they are not there yet.
    """

    rules: Rules
    tasks: Mapping[str, tuple[str, ...]]
    common: tuple[str, ...]
    final: Mapping[str, tuple[str, ...]]
    seconds: Mapping[str, float]
    shared: bool = False
    prepare: Callable[[], None] = lambda: None

    def words(self, cell: Cell) -> list[str]:
        """The override list of one run."""
        words = [*self.tasks[cell.task], *self.rules.arm(cell.arm).words, *self.common]
        more = ["measure=trial"] if cell.stage == "trial" else [*self.final.get(cell.arm, ())]
        return [*words, f"train.learning_rate={cell.rate:g}", f"seed={cell.seed}", *more, "reference=false"]

    def run_id(self, cell: Cell) -> str:
        """The run's name in the store, which depends on the content of the files that the words name."""
        self.prepare()
        return _run_id(tuple(self.words(cell)))


class Study(Protocol):
    """What a module of a study offers."""

    __name__: str
    QUESTION: str
    PREDICTION: str
    COST: str

    def plan(self, budget: str) -> Plan:
        """The plan under `full`, or the ten-minute version under `small`."""


@dataclass(frozen=True)
class Progress:
    """A study's runs: known to be needed, recorded, missing.

    Args:
        line: the record of a run, as `lorax_lab.store.published` has it; None where there is none.
        wanted: which of the runs are asked for.
    """

    plan: Plan
    line: Callable[[Cell], Line | None]
    wanted: Callable[[Cell], bool] = lambda cell: True

    def found(self, cell: Cell) -> Line | None:
        """The line of a run that needs not be run again."""
        line = self.line(cell)
        return line if line and line["status"] in SETTLED else None

    @cached_property
    def selections(self) -> dict[str, Selection]:
        """How far the choice of the learning rates is, by task."""
        return {task: self._select(task) for task in self.plan.tasks}

    @cached_property
    def cells(self) -> list[Cell]:
        """The trials of each task, and its final runs once rates are chosen."""
        rules, cells = self.plan.rules, list[Cell]()
        for task, chosen in self.selections.items():
            cells += rules.trials(task, chosen.steps)
            cells += finals(rules, task, chosen) if chosen.choices else []
        return [cell for cell in cells if self.wanted(cell)]

    @cached_property
    def missing(self) -> list[Cell]:
        """What of them is not recorded."""
        return [cell for cell in self.cells if not self.found(cell)]

    @property
    def to_come(self) -> int:
        """Final runs that cannot be named before their task's rates are chosen."""
        rules = self.plan.rules
        waiting = [task for task, chosen in self.selections.items() if not chosen.choices]
        places = [(task, arm, seed) for task in waiting for arm in rules.arms for seed in rules.final_seeds]
        return sum(self.wanted(Cell("final", task, arm.name, arm.lowest, seed)) for task, arm, seed in places)

    def seconds_left(self) -> float:
        """By the mean of what is recorded of the same stage and task, else by the plan's guess."""
        times: dict[tuple[str, str], list[float]] = {}
        for cell in self.cells:
            line = self.found(cell)
            if line and "time" in line:
                times.setdefault((cell.stage, cell.task), []).append(line["time"]["total_seconds"])
        means = {key: sum(seconds) / len(seconds) for key, seconds in times.items()}
        guess = self.plan.seconds
        named = sum(means.get((cell.stage, cell.task), guess[cell.stage]) for cell in self.missing)
        return named + self.to_come * guess["final"]

    def _select(self, task: str) -> Selection:
        rules = self.plan.rules
        scores: dict[tuple[str, int, int], float] = {}
        while True:
            selection = select(rules, task, scores)
            lines = {cell: line for cell in selection.missing if (line := self.found(cell))}
            if not lines:
                return selection
            for cell, line in lines.items():
                scores[cell.arm, rules.step(cell.arm, cell.rate), cell.seed] = validation_score(line)


def trials(plan: Plan) -> list[list[str]]:
    """What a study begins with, as override lists; its final runs follow from the scores."""
    return sweeps(plan, Progress(plan, lambda _: None).missing)


def validation_score(line: Line) -> float:
    """The primary metric on the validation split; minus infinity of a run that diverged."""
    return float(line["metrics"][f"validation/{line['metric']}"]) if line["status"] == "completed" else float("-inf")


def sweeps(plan: Plan, cells: list[Cell]) -> list[list[str]]:
    """The cells as sweeps, override lists of the command line: one for the seeds of each task, arm and rate, and for
    the rates too where all have the same seeds."""
    found = []
    for _, group in groupby(cells, key=lambda cell: (cell.stage, cell.task, cell.arm)):
        first, *rest = group
        seeds: dict[float, list[int]] = {}
        for cell in (first, *rest):
            seeds.setdefault(cell.rate, []).append(cell.seed)
        blocks: dict[tuple[int, ...], list[float]] = {}
        for rate, of_rate in seeds.items():
            blocks.setdefault(tuple(of_rate), []).append(rate)
        for block, rates in blocks.items():
            swap = {"train.learning_rate": ",".join(f"{rate:g}" for rate in rates), "seed": ",".join(map(str, block))}
            words = [word.partition("=") for word in plan.words(first)]
            found.append([f"{key}={swap.get(key, value)}" for key, _, value in words])
    return found


@lru_cache(maxsize=4096)
def _run_id(words: tuple[str, ...]) -> str:
    from lorax_lab.launch.plan import plan

    return plan(list(words), multirun=False)[0].run_id
