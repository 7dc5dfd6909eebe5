"""A grid as runs: each row of the table checked, and sorted into groups within which arms are compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from lorax_lab.errors import ConfigError, suggest

from .columns import BUDGET, COLUMNS, OPTIONAL, STEPS, Cells, read_cells

FULL = "full"
"""The method that the others are compared with; it has no rank."""
SPLITS, STAGES = ("validation", "test"), ("trial", "final")
TRIAL, FINAL = STAGES
TEST = SPLITS[1]
FAILED = ("", "nan", "inf", "+inf", "-inf", "diverged")
"""Scores of a run that diverged or is missing."""
SAID_FAILED = "nothing, nan, inf or diverged"
ADD_STAGE = "add one: trial for the rows that chose the rates, final for those that score them"
ONE_RATE = 1e-6
"""Rates that differ by less, as a share, are one rate, as in our own studies."""
MOST_RANK, MOST_SCORE = 10**6, 1e100
"""No weight matrix has a higher rank; the squares of larger scores are no numbers any more."""
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Arm:
    """What is compared within a group: a method, at a rank if it has one."""

    method: str
    rank: int | None

    def __str__(self) -> str:
        return self.method if self.rank is None else f"{self.method} r={self.rank}"

    @property
    def place(self) -> tuple[bool, str, int]:
        """Where it stands in a list: full first, then by method and rank."""
        return self.method != FULL, self.method, self.rank or 0


@dataclass(frozen=True)
class Run:
    """One row of a grid.

    Attributes:
        group: model and task, each empty where the table has none.
        seed: None where the table has no seeds.
        score: None of a run that diverged or is missing.
        split, stage: empty where the table does not say.
        row: its line in the file.
        budget: how long it trained, by the columns that say so.
    """

    group: tuple[str, str]
    arm: Arm
    rate: float
    seed: int | None
    score: float | None
    split: str
    stage: str
    row: int
    budget: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Grid:
    """A whole table.

    Attributes:
        groups: the runs by the name of their model and task.
        lacking: the optional columns that the table does not have.
        unread: its columns that no rule reads.
        metric: what the scores are; empty where the table does not say.
    """

    groups: Mapping[str, tuple[Run, ...]]
    lacking: tuple[str, ...]
    unread: tuple[str, ...]
    metric: str


def read(path: Path, renamed: Mapping[str, str] | None = None, values: Mapping[str, str] | None = None) -> Grid:
    """A table in the format of `docs/grids.md`.

    Args:
        renamed, values: as `columns.read_cells`.

    Raises:
        ConfigError: it is no such table; the message names the row and what is allowed.
    """
    rows, unread = read_cells(path, renamed or {}, values or {})
    metrics = sorted({row.get("metric", "") for row in rows.values()})
    if len(metrics) > 1:
        raise ConfigError(f"column metric: the scores are of {', '.join(map(repr, metrics))}; keep one metric a table")
    budget = [name for name in next(iter(rows.values())) if name.lower() in BUDGET]
    runs = _with_one_rate([_run(row, number, budget) for number, row in rows.items()])
    _require_methods(runs)
    _require_ranks(runs)
    _require_single(runs, rows)
    _require_names({run.group for run in runs})
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=_order):
        groups.setdefault(named(run.group), []).append(run)
    for name, of_group in groups.items():
        _require_one_split(name, of_group)
    lacking = tuple(name for name in OPTIONAL if name not in next(iter(rows.values())))
    return Grid({name: tuple(of) for name, of in groups.items()}, lacking, tuple(unread), metrics[0])


def named(group: tuple[str, str]) -> str:
    """A group's name on the page and for `--group`.

    >>> named(("llama", "e2e")), named(("llama", "")), named(("", ""))
    ('llama / e2e', 'llama', 'all rows')
    """
    return " / ".join(filter(None, group)) or "all rows"


def _with_one_rate(runs: list[Run]) -> list[Run]:
    """The runs, those of rates that are equal to rounding at the lowest of these."""
    lowest: dict[float, float] = {}
    last = -math.inf
    for rate in sorted({run.rate for run in runs}):
        last = last if math.isclose(rate, last, rel_tol=ONE_RATE) else rate
        lowest[rate] = last
    return [replace(run, rate=lowest[run.rate]) for run in runs]


def _order(run: Run) -> tuple[object, ...]:
    return run.group, run.arm.place, run.rate, run.stage, run.split, -1 if run.seed is None else run.seed


def _run(row: Cells, number: int, budget: Iterable[str]) -> Run:
    def of(column: str, read: Callable[[str], Number], allowed: str) -> Number:
        try:
            return read(row[column])
        except (ValueError, OverflowError):
            raise ConfigError(f"row {number}: {column} is {row[column]!r}; allowed {allowed}") from None

    method = FULL if row["method"].lower() == FULL else row["method"]
    if not method:
        raise ConfigError(f"row {number}: method is empty; allowed are full, lora and any other name")
    ranks = f"are whole numbers ≥ 1 and at most {MOST_RANK}, or nothing"
    rank = of("rank", lambda text: _whole(text, 1, MOST_RANK), ranks) if row["rank"] else None
    if method == FULL and rank is not None:
        raise ConfigError(f"row {number}: method is full and rank {rank}; full fine-tuning has no rank, leave it empty")
    rate = of("learning_rate", _positive, "are numbers above 0")
    seed = of("seed", lambda text: _whole(text, 0), "are whole numbers ≥ 0") if "seed" in row else None
    scores = f"are numbers, or {SAID_FAILED} of a run that failed; none beyond ±{MOST_SCORE:g}"
    score = None if row["score"].lower() in FAILED else of("score", _bounded, scores)
    split, stage = _one_of(row, "split", SPLITS, number), _one_of(row, "stage", STAGES, number)
    for column in ("model", "task"):
        if row.get(column) == "":
            raise ConfigError(f"row {number}: {column} is empty; allowed is any name, in every row; or drop the column")
    group = (row.get("model", ""), row.get("task", ""))
    trained = tuple((name, _plain(row[name])) for name in budget)
    return Run(group, Arm(method, rank), rate, seed, score, split, stage, number, trained)


def _plain(text: str) -> str:
    """A number written in one way, so that `10` and `10.0` are one; other words as they are."""
    try:
        return f"{float(text):.12g}"
    except ValueError:
        return text


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or "_" in text:
        raise ValueError(text)
    return number


def _positive(text: str) -> float:
    if (number := _finite(text)) <= 0:
        raise ValueError(text)
    return number


def _bounded(text: str) -> float:
    if abs(number := _finite(text)) > MOST_SCORE:
        raise ValueError(text)
    return number


def _whole(text: str, least: int, most: float = math.inf) -> int:
    """A whole number, also where a spreadsheet has written `4.0`; of many digits, such as a hash, each one counts."""
    number = int(text) if text.isdecimal() else _finite(text)
    if number != int(number) or not least <= number <= most:
        raise ValueError(text)
    return int(number)


def _one_of(row: Cells, column: str, allowed: tuple[str, ...], number: int) -> str:
    """A row's split or stage; empty where the table has no such column."""
    value = row.get(column, "").lower()
    if column in row and value not in allowed:
        raise ConfigError(f"row {number}: {column} is {row[column]!r}; {suggest(value, allowed)}")
    return value


def _require_names(groups: set[tuple[str, str]]) -> None:
    """Refuse two groups of one name, such as of the model `a / b` and of the model `a` on the task `b`."""
    seen: dict[str, tuple[str, str]] = {}
    for group in sorted(groups):
        if other := seen.get(named(group)):
            both = " and ".join(f"model {model!r} with task {task!r}" for model, task in (other, group))
            raise ConfigError(f"{both} have one name, {named(group)!r}; rename one of them")
        seen[named(group)] = group


def _require_methods(runs: Iterable[Run]) -> None:
    """Refuse names that stand for one method or seem to: `LoRA` beside `lora`, and other words for full fine-tuning."""
    seen: dict[str, Run] = {}
    for run in runs:
        method, plain = run.arm.method, run.arm.method.casefold()
        if method != FULL and (plain.startswith(FULL) or plain == "fft"):
            raise ConfigError(
                f"row {run.row}: method is {method!r}; full fine-tuning is {FULL}, and no other method begins so: "
                f"write {FULL}, or give it another name"
            )
        other = seen.setdefault(plain, run)
        if other.arm.method != method:
            raise ConfigError(
                f"rows {other.row} and {run.row}: methods {other.arm.method!r} and {method!r} differ in case alone; "
                "write one of them"
            )


def _require_ranks(runs: Iterable[Run]) -> None:
    """Refuse a row without a rank of a method that has ranks in others."""
    ranked = {run.arm.method for run in runs if run.arm.rank is not None}
    if run := next((run for run in runs if run.arm.rank is None and run.arm.method in ranked), None):
        raise ConfigError(f"row {run.row}: method {run.arm.method} has no rank here, and has ranks in other rows")


def _require_single(runs: Iterable[Run], rows: Mapping[int, Cells]) -> None:
    """Refuse two rows of one cell with one seed."""
    seen: dict[tuple[object, ...], Run] = {}
    for run in runs:
        cell = (run.group, run.arm, run.rate, run.seed, run.split, run.stage)
        if other := seen.get(cell):
            seed = "" if run.seed is None else f", seed {run.seed}"
            both = f"rows {other.row} and {run.row} are one cell: {run.arm} at {run.rate:g}{seed}"
            raise ConfigError(f"{both}; {_apart(rows[other.row], rows[run.row], run.seed is None)}")
        seen[cell] = run


def _apart(one: Cells, other: Cells, no_seed: bool) -> str:
    """What to do with two rows of one cell, by the columns in which they differ."""
    differ = [name for name in one if name not in COLUMNS and one[name] != other[name]]
    if steps := [name for name in differ if name.lower() in STEPS + BUDGET]:
        return (
            f"they differ in {', '.join(steps)}: steps of one run are no seeds, so keep the last row of each run, and "
            "of runs of unlike length those of one length"
        )
    apart = f" (a column that is not read may tell them apart: {', '.join(differ)})" if differ else ""
    return f"{'give each its seed' if no_seed else 'keep one of them'}{apart}"


def _require_one_split(name: str, runs: list[Run]) -> None:
    """Refuse scores of two splits that no stage tells apart."""
    for stage in sorted({run.stage for run in runs}):
        splits = sorted({run.split for run in runs if run.stage == stage})
        if len(splits) > 1 and not stage:
            raise ConfigError(f"{name}: scores of {' and '.join(splits)}, and no column stage; {ADD_STAGE}")
        if len(splits) > 1:
            raise ConfigError(f"{name}: rows of stage {stage} have scores of {' and '.join(splits)}; keep one of them")
