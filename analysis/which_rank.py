"""`python -m analysis which_rank`: which rank shall I take? The regret of each rule, over the published studies.

A *cell* is a condition of a study: a natural task and a published base, on which full fine-tuning surely brings
something over the head alone. Conditions that share all of their runs are one cell. The *regret* of a rule is the score
of the best rank on test less that of the rule's rank. The best one is chosen by these very scores, so even equal ranks
have some regret. Repeats of one task are no independent samples, so intervals are over the means of tasks.
"""

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lorax_lab.errors import ConfigError, suggest
from lorax_lab.record.direction import oriented
from lorax_lab.record.files import write_csv, write_text
from lorax_lab.record.statistics import LEVEL, Interval, t_interval

from .pages import render
from .scores import UNITS
from .study import share
from .study.command import load_all
from .study.comparison import seeds_of
from .study.figures.capacity import BITS_A_NUMBER, COUNTING_FACTOR
from .study.records import RECORDS, Records, score_of
from .study.validator import breaches

DOCS = Path(__file__).parents[1] / "docs"
USUAL = 8
"""The constant rank that every other rule is compared with."""
CLOSE = 0.01
"""A rank is short where its score is more than this below the best one's."""
NEARLY_ALL = 0.9
"""Share of the settings that ran a rank, at least, for it to be advised."""
ROUNDING = 1e-9
DRAWS = 2000
"""Of the bootstrap over tasks."""
PRINTED, PRINTED_RANKS = 5, (1, 4, USUAL, 16, 64)
"""The cells that `--task-like` prints, and the ranks of which it prints the regret."""
PLACE = ("study", "condition", "task", "kind", "unit", "classes", "examples", "needed")
GAP, STABLE, CLASSES = "gain over rank 1", "stable rank", "classes"
SIGNALS = {
    GAP: f"what rank {USUAL} gains over rank 1 on validation, one seed",
    STABLE: f"stable rank of one LoRA of rank {USUAL}, the median matrix",
    CLASSES: "number of classes",
}
"""What is cheap to know and might forecast the rank that is needed."""
ADAPTIVE = {"AdaLoRA, ends at rank 8": "method=peft/adalora"}
"""Methods that choose the rank of each matrix, by the override of their arms at rank `USUAL`."""


@dataclass(frozen=True, eq=False)
class Cell:
    """What the runs of one condition say.

    Attributes:
        task: its own name, the same in every study.
        unit: of the scores; empty for shares and correlations, which lie in [0, 1].
        classes: 1 where the answer is a number, 0 where it is a text.
        examples: of training.
        alpha: LoRA's, which is divided by the rank.
        scores: on test by rank, means over seeds, oriented so that higher is better.
        adaptive: such a score of `ADAPTIVE` by name, and the parameters that it trains.
        parameters, seconds: by rank, those trained beside the head, and the median time of training.
        shapes: (out, in) of each adapted matrix, (matrices, 2).
        signals: by the names in `SIGNALS`; NaN where the runs lack one.
    """

    study: str
    condition: str
    task: str
    kind: str
    unit: str
    classes: int
    examples: int
    alpha: float
    scores: dict[int, float]
    adaptive: dict[str, tuple[float, int]]
    parameters: dict[int, int]
    seconds: dict[int, float]
    shapes: np.ndarray
    signals: dict[str, float]

    def regret(self, rank: int) -> float:
        """The best rank's score less that of one; NaN where it was not tried."""
        return max(self.scores.values()) - self.scores.get(rank, math.nan)

    @property
    def needed(self) -> int:
        """The smallest rank that is not short."""
        return min(rank for rank in self.scores if self.regret(rank) <= CLOSE + ROUNDING)

    def nearest(self, rank: float) -> int | None:
        """The nearest rank that was tried, less than a factor of 2 away; None where there is none."""
        octaves, tried = min((abs(math.log2(tried / rank)), tried) for tried in self.scores)
        return tried if octaves < 1 else None


def cells(published: Iterable[Records]) -> list[Cell]:
    """The cells of those studies that are complete and fair.

    Only bases and tasks of studies with a single base count, controls not among them. A control may make its bases and
    tasks, and so may a study that compares bases. A cell whose runs are a part of another's is not counted, and gives
    it its `adaptive` scores.
    """
    studies = [study for study in published if _tries_from_one(study) and not breaches(study)]
    bases_of = {study: {study.model(name) for name in study.conditions} for study in studies}
    of_one_base = [study for study in studies if len(bases_of[study]) == 1 and not study.declared.control_of]
    bases = set().union(*(bases_of[study] for study in of_one_base))
    tasks = {line["config"]["task"]["name"] for study in of_one_base for line in study.lines}
    runs: dict[Cell, set[str]] = {}
    for study in studies:
        for name in study.conditions:
            is_natural = study.model(name) in bases and not study.scored_on(name, "")
            if is_natural and share.scores(study, name):
                cell, ids = _cell(study, name)
                if cell.task in tasks and ids not in runs.values():
                    runs[cell] = ids
    larger = {cell: [other for other, more in runs.items() if ids < more] for cell, ids in runs.items()}
    for cell, others in larger.items():
        for other in others:
            other.adaptive.update(cell.adaptive)
    return [cell for cell, others in larger.items() if not others]


def _tries_from_one(study: Records) -> bool:
    """Whether it tries several ranks from 1 up; without rank 1 it cannot tell which one is needed."""
    ranks = {arm.rank for arm in study.protocol.ranked()}
    return len(ranks) > 1 and 1 in ranks


def _cell(study: Records, condition: str) -> tuple[Cell, set[str]]:
    """A cell, and the runs that its scores are of."""
    lines = {arm.rank or 0: seeds_of(study, condition, arm.name) for arm in study.protocol.ranked()}
    lines = {rank: by_seed for rank, by_seed in sorted(lines.items()) if by_seed}
    singles = {rank: by_seed[min(by_seed)] for rank, by_seed in lines.items()}
    first, usual = next(iter(singles.values())), singles.get(USUAL, {"matrices": {}})
    task = first["config"]["task"]
    classes = 1 if task["kind"] == "regression" else len(first["inputs"].get("classes") or ())

    def score(runs: Sequence[Any], split: str) -> float:
        values = [score_of(line, split) for line in runs]
        return oriented(float(np.mean(values)), study.higher_is_better(condition)) if values else math.nan

    validation = {rank: score([line], "validation") for rank, line in singles.items()}
    stable = [row["stable_rank"] for row in usual["matrices"].values()]
    cell = Cell(
        study.name, condition, task["name"], task["kind"], UNITS.get(study.metric(condition), ""), classes,
        first["inputs"]["examples"]["train"], first["config"]["method"].get("alpha", math.nan),
        scores={rank: score([*by_seed.values()], "test") for rank, by_seed in lines.items()},
        adaptive={
            name: (score(runs, "test"), runs[0]["parameters"]["adapter"])
            for name, override in ADAPTIVE.items()
            for arm in study.protocol.arms
            if override in arm.overrides and arm.rank == USUAL
            for runs in [[*seeds_of(study, condition, arm.name).values()]]
        },
        parameters={rank: line["parameters"]["adapter"] for rank, line in singles.items()},
        seconds={
            rank: float(np.median([line["time"]["train_seconds"] for line in by_seed.values()]))
            for rank, by_seed in lines.items()
        },
        shapes=np.array([row["shape"] for row in first["matrices"].values()]),
        signals={
            GAP: validation.get(USUAL, math.nan) - validation.get(1, math.nan),
            STABLE: float(np.median(stable)) if stable else math.nan,
            CLASSES: float(classes),
        },
    )  # fmt: skip
    return cell, {line["run_id"] for by_seed in lines.values() for line in by_seed.values()}


# ---- the rules

Rule = Callable[[Cell, Sequence[Cell]], float | None]
"""The rank that a rule names for a cell, given the cells of all other tasks; None where it names none."""


def constant(rank: int) -> Rule:
    return lambda cell, others: rank


def axolotl(cell: Cell, others: Sequence[Cell]) -> int:
    """By the number of examples."""
    return next((rank for most, rank in ((1_000, 8), (10_000, 16), (100_000, 32)) if cell.examples < most), 64)


def tinker(cell: Cell, others: Sequence[Cell]) -> int | None:
    """As many parameters as tokens to complete, of which a label is one. Records do not count those of texts."""
    return math.ceil(cell.examples / cell.shapes.sum()) if cell.classes else None


def two_bits(cell: Cell, others: Sequence[Cell]) -> int | None:
    """So many bits a parameter hold the N·log2(K) bits of N labels of K classes."""
    bits = cell.examples * math.log2(cell.classes) if cell.classes else 0
    return math.ceil(bits / BITS_A_NUMBER / cell.shapes.sum()) or None


def by_counting(cell: Cell, others: Sequence[Cell]) -> int | None:
    """The smallest r of which Σ r(m + n) − r² over the matrices is above 1.35·K·N."""
    free = ((rank, (rank * cell.shapes.sum(1) - rank**2).sum()) for rank in range(1, cell.shapes.min() + 1))
    least = COUNTING_FACTOR * cell.classes * cell.examples
    return next((rank for rank, numbers in free if numbers > least), None) if cell.classes else None


def forecast(signal: str) -> Rule:
    """2 to the power of a line over a signal, fitted to the ranks that all other tasks need."""

    def rule(cell: Cell, others: Sequence[Cell]) -> float | None:
        points = [(other.signals[signal], math.log2(other.needed)) for other in others]
        x, y = np.array([point for point in points if not math.isnan(point[0])]).reshape(-1, 2).T
        if len(set(x)) < 2 or math.isnan(cell.signals[signal]):
            return None
        octaves = np.polyval(np.polyfit(x, y, 1), cell.signals[signal])
        return float(np.clip(2**octaves, 1, max(cell.scores)))

    return rule


FORECASTS = {f"forecast from the {name}": forecast(name) for name in SIGNALS}
RULES: dict[str, Rule] = {
    **{f"rank {rank}": constant(rank) for rank in (1, 4, USUAL, 16)},
    "axolotl's proposal": axolotl,
    "Tinker's": tinker,
    "2 bits a parameter": two_bits,
    "√N": lambda cell, others: math.sqrt(cell.examples),
    "1.35·K·N": by_counting,
    **FORECASTS,
}


def table(of_cells: Sequence[Cell]) -> pd.DataFrame:
    """One row per cell and rule that names a rank near one that was tried.

    Columns: `PLACE`, rule, names (its rank), rank (that was tried), regret, more (than that of rank `USUAL`),
    parameters (in thousands), times_needed (the rank over the needed one).
    """
    rows = []
    for cell in of_cells:
        of_other_tasks = [other for other in of_cells if other.task != cell.task and other.unit == cell.unit]
        place = {key: getattr(cell, key) for key in PLACE}
        for name, rule in RULES.items():
            if (named := rule(cell, of_other_tasks)) and (rank := cell.nearest(named)):
                row = {"rule": name, "names": named, "rank": rank, "regret": cell.regret(rank)}
                row |= {"parameters": cell.parameters[rank] / 1000, "times_needed": rank / cell.needed}
                rows.append(place | row | {"more": cell.regret(rank) - cell.regret(USUAL)})
        for name, (score, parameters) in cell.adaptive.items():
            more = cell.scores[USUAL] - score
            row = {"rule": name, "rank": USUAL, "regret": more + cell.regret(USUAL), "more": more}
            times = parameters / cell.parameters[cell.needed]
            rows.append(place | row | {"parameters": parameters / 1000, "times_needed": times})
    return pd.DataFrame(rows).round(6)


def standing(rows: pd.DataFrame, name: str) -> dict[str, Any]:
    """A rule's numbers over the rows of one unit; without a row, that there are 0 cells.

    `regret` and `more` are means over tasks with Student's interval, `times_needed` a geometric mean with one;
    `left_out` has the means without one of the tasks.
    """
    of_rule = rows[rows["rule"] == name]
    if of_rule.empty:
        return {"name": name, "cells": 0}
    octaves = of_rule.assign(octaves=np.log2(of_rule["times_needed"]))
    means = octaves.groupby("task")[["regret", "more", "octaves"]].mean()
    times = t_interval(list(means["octaves"]))
    return {
        "name": name,
        "cells": len(of_rule),
        "regret": t_interval(list(means["regret"])),
        "more": t_interval(list(means["more"].dropna())),
        "left_out": [float(means["regret"].drop(task).mean()) for task in means.index],
        "worst": of_rule["regret"].max(),
        "short": int((of_rule["regret"] > CLOSE + ROUNDING).sum()),
        "parameters": of_rule["parameters"].median(),
        "times_needed": times.mapped(math.exp2),
    }


def correlation(of_cells: Sequence[Cell], signal: str) -> Interval:
    """Spearman's of a signal with the needed rank, with a 95 % interval by a bootstrap over tasks."""
    rows = pd.DataFrame([(cell.task, cell.signals[signal], cell.needed) for cell in of_cells]).dropna()
    tasks, draw = [part for _, part in rows.groupby(0)], np.random.default_rng(0)
    samples = [pd.concat([tasks[i] for i in draw.integers(len(tasks), size=len(tasks))]) for _ in range(DRAWS)]
    mean, *drawn = (sample[1].rank().corr(sample[2].rank()) for sample in (rows, *samples))
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high), len(tasks))


# ---- what is printed and written


def main(arguments: list[str]) -> int:
    """Write the table and the page, or print the cells most like a task. Returns the exit code: 0, or 2 for a wrong
    input."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis which_rank", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    like = "print the published cells most like a task: one that has records, or KIND CLASSES EXAMPLES; CLASSES is 1 "
    like += "for a number, 0 for a text. For instance: sarcasm; classification 24 2000"
    parser.add_argument("--task-like", nargs="+", metavar="WORD", help=like)
    options = parser.parse_args(arguments)
    of_cells = cells(load_all(RECORDS))
    if words := options.task_like:
        alike = most_like(of_cells, words)
        print(alike.to_string(index=False, float_format="{:.4f}".format, na_rep="–"))
        print(advice(alike, "the settings above"))
        return 0
    rows = table(of_cells)
    write_csv(DOCS / "which_rank.csv", rows)
    write_text(DOCS / "which_rank.md", page(of_cells, rows))
    print(DOCS / "which_rank.csv", DOCS / "which_rank.md", sep="\n")
    print(advice(_regrets([cell for cell in of_cells if not cell.unit]), "all settings"))
    return 0


def advice(regrets: pd.DataFrame, which: str) -> str:
    """The rank to take by the settings of `_regrets`, and what to type: the smallest of the ranks that nearly all tried
    whose mean regret is at most `CLOSE`."""
    columns = {rank: regrets[f"regret at {rank}"].dropna() for rank in PRINTED_RANKS}
    enough = {
        rank: of_rank for rank, of_rank in columns.items()
        if len(of_rank) >= NEARLY_ALL * len(regrets) and of_rank.mean() <= CLOSE
    }  # fmt: skip
    if not enough:
        return f"advice: none, since no rank is within {CLOSE} of the best on average over {which}"
    rank = min(enough)
    short, tried = int((enough[rank] > CLOSE + ROUNDING).sum()), len(enough[rank])
    regret = f"over {which} it scores {enough[rank].mean():.4f} less than the best rank on average"
    because = f"{regret}, and more than {CLOSE} less in {short} of {tried}"
    return f"advice: take rank {rank}, because {because}; type python -m lorax_lab.run task=TASK rank={rank}"


def most_like(of_cells: Sequence[Cell], words: Sequence[str]) -> pd.DataFrame:
    """The cells most like a task, the most alike first: of its kind, then by the factors between the numbers of classes
    and of examples; each with the rank needed and the regret of `PRINTED_RANKS`.

    Args:
        words: the name of a task that has cells, or its kind, classes and examples.

    Raises:
        ConfigError: no cell has a task of that name, and the words are no kind and two numbers.
    """
    of_name = [cell for cell in of_cells if [cell.task] == list(words)]
    kinds, names = (sorted({getattr(cell, key) for cell in of_cells}) for key in ("kind", "task"))
    if of_name:
        words = [of_name[0].kind, str(of_name[0].classes), str(of_name[0].examples)]
    if len(words) != 3 or words[0] not in kinds or not all(word.isdecimal() for word in words[1:]):
        usage = f"or type a kind ({', '.join(kinds)}), classes and examples: --task-like classification 24 2000"
        raise ConfigError(f"--task-like {' '.join(words)}: {suggest(words[0], names)}, {usage}")

    def unlike(cell: Cell) -> tuple[bool, bool, float]:
        pairs = zip((cell.classes, cell.examples), words[1:], strict=True)
        octaves = (abs(math.log2((1 + number) / (1 + int(word)))) for number, word in pairs)
        return cell not in of_name, cell.kind != words[0], sum(octaves)

    chosen = sorted(of_cells, key=unlike)[:PRINTED]
    return _regrets(chosen)


def _regrets(of_cells: Sequence[Cell]) -> pd.DataFrame:
    """A row for each cell: its place, and the regret of `PRINTED_RANKS`, NaN where a rank was not tried."""
    places = [{key: getattr(cell, key) for key in PLACE if key != "task"} for cell in of_cells]
    regrets = [{f"regret at {rank}": cell.regret(rank) for rank in PRINTED_RANKS} for cell in of_cells]
    return pd.DataFrame([place | regret for place, regret in zip(places, regrets, strict=True)])


def page(of_cells: Sequence[Cell], rows: pd.DataFrame) -> str:
    """`docs/which_rank.md`, of the cells whose scores lie in [0, 1]."""
    of_scores = [cell for cell in of_cells if not cell.unit]
    usual = [cell for cell in of_scores if USUAL in cell.scores]
    gaps: dict[bool, list[float]] = {True: [], False: []}
    for cell in (cell for cell in usual if not math.isnan(cell.signals[GAP])):
        gaps[cell.regret(USUAL) > CLOSE + ROUNDING].append(cell.signals[GAP])
    needed: dict[str, list[int]] = {}
    for cell in of_scores:
        needed.setdefault(cell.task, []).append(cell.needed)
    rules = {name: standing(rows[rows["unit"] == ""], name) for name in (*RULES, *ADAPTIVE)}
    repeats = max(needed.items(), key=lambda of_task: len(of_task[1]))
    repeated = [cell for cell in of_scores if cell.task == repeats[0]]
    coarsest = min((set(cell.scores) for cell in repeated), key=len)
    cards = pd.read_csv(DOCS / "cards.csv")
    return render(
        "which_rank.md",
        rules=rules,
        forecasts=[rules[name] for name in FORECASTS if rules[name]["cells"]],
        signals={text: correlation(of_scores, name) for name, text in SIGNALS.items()},
        in_units=[cell for cell in of_cells if cell.unit],
        needed=needed,
        repeats=repeats,
        coarse=[cell for cell in repeated if set(cell.scores) == coarsest],
        short=[cell for cell in usual if cell.regret(USUAL) > CLOSE + ROUNDING],
        gaps=gaps,
        alphas=sorted({cell.alpha for cell in usual if not math.isnan(cell.alpha)}),
        examples=[cell.examples for cell in usual],
        share=np.median([cell.parameters[USUAL] / cell.shapes.prod(axis=1).sum() for cell in usual]),
        slower=[cell.seconds[64] / cell.seconds[USUAL] for cell in usual if 64 in cell.seconds],
        median=np.median,
        cards=cards,
        cut=cards[cards["is_cut"]],
        USUAL=USUAL,
        CLOSE=CLOSE,
        ROUNDING=ROUNDING,
    )
