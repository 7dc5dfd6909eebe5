"""Full fine-tuning against LoRA at each rank on one task: scores, paired differences, the rank that is enough, and what
the declared margin can tell."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from lorax_lab.record.statistics import Crossed, Interval, Smallest, crossed, holm, power, smallest, t_interval
from lorax_lab.study.answers import CORRECT, LOSSES, PSEUDO_VALUES, by_example, cuts_by_example
from lorax_lab.study.published import Line

from ..variants import COLLAPSED
from .records import KEPT, Records, has_collapsed, rate_of, score_of
from .validator import failed_seeds, selection_of
from .words import listed

SPLIT = "test"
COUNTED = ("accuracy",)
"""Metrics that are the share of right answers, so that each test example has a part in the score. An F1 is no mean over
examples, nor is a perplexity or a rate of word errors over whole splits."""
RATE = "learning_rate"
Value = TypeVar("Value")
LOST = Interval(-math.inf, -math.inf, -math.inf, 0)
"""The gain of an arm of which a final run has no score."""
NONE = t_interval([])


def seeds_of(records: Records, task: str, arm: str) -> dict[int, Line]:
    """An arm's completed final runs by seed."""
    lines = [line for line in records.lines_in(task, "final") if records.arm_of(line) == arm]
    return {line["seed"]: line for line in lines if line["status"] == "completed"}


def trials(records: Records) -> pd.DataFrame:
    """One row per learning-rate trial, by arm as declared, then rate and seed: task, arm, learning rate, seed, status,
    validation score, and whether it is of the rate that was chosen."""
    order = [arm.name for arm in records.protocol.arms]

    def place(line: Line) -> tuple[int, float, int]:
        return order.index(str(records.arm_of(line))), rate_of(line), line["seed"]

    rows = []
    for task in records.conditions:
        choices = selection_of(records, task).choices
        for line in sorted(records.lines_in(task, "trial"), key=place):
            arm, rate = str(records.arm_of(line)), rate_of(line)
            row = {"task": task, "arm": arm, RATE: rate, "seed": line["seed"], "status": line["status"]}
            row |= {"validation": score_of(line, "validation")}
            row |= {"chosen": arm in choices and choices[arm].step == records.protocol.step(arm, rate)}
            rows.append(row | {COLLAPSED: has_collapsed(line)})
    return with_collapsed(records, pd.DataFrame(rows))


def with_collapsed(records: Records, table: pd.DataFrame) -> pd.DataFrame:
    """The table with its column of collapsed runs where the study has any, else without it."""
    return table if any(map(has_collapsed, records.lines)) else table.drop(columns=COLLAPSED)


def differences(records: Records, task: str, arm: str) -> np.ndarray:
    """(seeds, examples) of what each test example adds to the score, the arm's minus the reference's, seeds and test
    examples the same on both sides; (seeds, 1) differences of scores whose lines do not say so."""
    paired = _by_example(records, task, arm, added)
    if paired is not None:
        return paired
    scores = [score_of(a, SPLIT) - score_of(b, SPLIT) for a, b in _pairs(records, task, arm)]
    return np.array(scores)[:, None]


def loss_differences(records: Records, task: str, arm: str) -> np.ndarray | None:
    """(seeds, examples) differences in log loss on test, in nats, as `differences`; None where a line has no losses."""
    return _by_example(records, task, arm, lambda line: by_example(line, LOSSES))


def _by_example(records: Records, task: str, arm: str, read: Callable[[Line], np.ndarray | None]) -> np.ndarray | None:
    """What each test example has of an arm minus what it has of the reference; None where a line does not say."""
    values = [read(line) for pair in _pairs(records, task, arm) for line in pair]
    answered = [each for each in values if each is not None]
    is_whole = len(answered) == len(values) and len(set(map(len, answered))) == 1
    return np.array(answered[::2]) - np.array(answered[1::2]) if is_whole else None


def _pairs(records: Records, task: str, arm: str) -> list[tuple[Line, Line]]:
    """The lines of the arm and of the reference that have one seed."""
    lines, reference = seeds_of(records, task, arm), seeds_of(records, task, records.protocol.reference)
    return [(lines[seed], reference[seed]) for seed in sorted(set(lines) & set(reference))]


def added(line: Line) -> np.ndarray | None:
    """What each test example adds to the score, (n,), whose mean is the score: the right answers of an accuracy, else
    the line's pseudo-values; None where it has neither."""
    values = by_example(line, CORRECT if is_counted(line) else PSEUDO_VALUES)
    return values if is_counted(line) or values is None else values + _rounded_off(line, values)


def added_by_cuts(line: Line, part: str) -> dict[int, np.ndarray]:
    """As `added`, of the update that was cut, by k; empty where the line does not say."""
    if is_counted(line):
        return cuts_by_example(line, CORRECT, part)
    uncut, cuts = by_example(line, PSEUDO_VALUES), cuts_by_example(line, PSEUDO_VALUES, part)
    return {k: values + _rounded_off(line, uncut) for k, values in cuts.items()} if uncut is not None else {}


def _rounded_off(line: Line, values: np.ndarray) -> float:
    """What the mean of the pseudo-values lacks of the score, since they are kept in half precision."""
    return score_of(line, SPLIT) - float(values.mean())


def is_counted(line: Line) -> bool:
    """Whether the score on test is the share of the answers that are right, and the line has them."""
    return line["metric"] in COUNTED and CORRECT in line


@lru_cache(maxsize=KEPT * 32)
def compared(records: Records, task: str, by_loss: bool = False) -> dict[str, Crossed]:
    """For each arm but the reference, the paired difference on test with its components of variance: of the score, or
    of the log loss, which is empty where an arm's lines have none."""
    read = loss_differences if by_loss else differences
    arms = [arm.name for arm in records.protocol.arms if arm.name != records.protocol.reference]
    by_arm = {arm: values for arm in arms if (values := read(records, task, arm)) is not None}
    return {arm: crossed(values) for arm, values in by_arm.items()} if len(by_arm) == len(arms) else {}


def gains(records: Records, task: str, by_loss: bool = False) -> dict[str, Interval]:
    """The gain over the reference on test by arm, above 0 is better whichever scores are: the one interval that r*, the
    column `matches` and every sentence are decided by. An arm of which a final run diverged falls short of any margin:
    the lowest score there is stands for that run.

    Args:
        by_loss: by how many nats the log loss is below the reference's; empty where lines have no losses.
    """
    higher = not by_loss and records.higher_is_better(task)
    intervals = {arm: values.interval().oriented(higher) for arm, values in compared(records, task, by_loss).items()}
    return {arm: LOST if is_lost(records, task, arm) else gain for arm, gain in intervals.items()}


def is_lost(records: Records, task: str, arm: str) -> bool:
    """Whether a final run of an arm diverged. The arm then falls short, and what its other runs score is not its own
    score."""
    return bool(failed_seeds(records, records.lines_in(task, "final"), arm))


def covers_examples(records: Records, task: str) -> bool:
    """Whether the intervals of `gains` cover the test examples besides the seeds, of every arm."""
    return all(gain.examples for gain in gains(records, task).values() if gain is not LOST)


def by_rank(records: Records, by_arm: Mapping[str, Value]) -> dict[int, Value]:
    """The values of the arms that differ only in their rank, by rank."""
    ranked = records.protocol.ranked()
    return {arm.rank: by_arm[arm.name] for arm in ranked if arm.rank is not None and arm.name in by_arm}


def enough(records: Records, task: str, margin: float | None = None) -> Smallest | None:
    """r*, the smallest rank whose LoRA is not inferior to the reference by more than the margin, the declared one
    unless another is given; None where no arms differ in their rank alone."""
    ranked = by_rank(records, gains(records, task))
    return smallest(ranked, records.protocol.margin if margin is None else margin) if ranked else None


def enough_by_loss(records: Records, task: str) -> Smallest | None:
    """As `enough`, by the log loss and its own margin; None where that was not declared, or no losses are kept."""
    ranked, margin = by_rank(records, gains(records, task, by_loss=True)), records.protocol.loss_margin
    return smallest(ranked, margin) if ranked and margin is not None else None


def table(records: Records, task: str) -> pd.DataFrame:
    """One row per arm: learning rate, score, difference from the reference, p (Holm), whether it matches, the same of
    the log loss where it is kept, and its cost. An arm of which a final run diverged has no score and no difference; in
    the correction of the others' p it counts as 1."""
    protocol, choices, by_arm = records.protocol, selection_of(records, task).choices, compared(records, task)
    matches = {arm: gain.low > -protocol.margin for arm, gain in gains(records, task).items()}
    losses = compared(records, task, by_loss=True)
    lost = {arm for arm in by_arm if is_lost(records, task, arm)}
    corrected = holm({arm: 1.0 if arm in lost else values.p() for arm, values in by_arm.items()})
    rows: list[dict[str, Any]] = []
    for arm in protocol.arms:
        name, choice, lines = arm.name, choices[arm.name], list(seeds_of(records, task, arm.name).values())
        finals = [line for line in records.lines_in(task, "final") if records.arm_of(line) == name]
        row: dict[str, Any] = {"task": task, "arm": name, "rank": arm.rank}
        row |= {RATE: protocol.rate(name, choice.step), "at_edge": choice.edge, "seeds": len(lines)}
        row |= {"diverged": sum(line["status"] == "diverged" for line in finals)}
        row |= {COLLAPSED: sum(map(has_collapsed, lines))}
        intervals = {"test": t_interval([score_of(line, SPLIT) for line in lines])}
        if name in by_arm:
            intervals["difference"] = by_arm[name].interval()
        if name in losses:
            intervals["loss_difference"] = losses[name].interval()
        for column, interval in intervals.items():
            shown = NONE if name in lost else interval
            row |= {column: shown.mean, f"{column}_low": shown.low, f"{column}_high": shown.high}
            if column == "difference":
                row |= {"p_holm": math.nan if name in lost else corrected[name], "matches": matches[name]}
        rows.append(row | _cost(lines))
    return with_collapsed(records, pd.DataFrame(rows).astype({"rank": "Int64", "matches": "boolean"}))


def usual_rate(rows: pd.DataFrame) -> float:
    """The learning rate of most arms of LoRA in one task's `table`, the lowest of several; NaN where none has a rank.

    >>> usual_rate(pd.DataFrame({"rank": [None, 1, 2, 4], "learning_rate": [7e-5, 2e-3, 1e-3, 2e-3]}))
    0.002
    """
    return float(rows.loc[rows["rank"].notna(), RATE].mode().min())


def has_unlike_rate(rows: pd.DataFrame) -> np.ndarray:
    """Which arms with a rank have another rate than most of them, (arms,)."""
    return rows["rank"].notna().to_numpy() & ~np.isclose(rows[RATE], usual_rate(rows))


def unlike_rates(rows: pd.DataFrame) -> str:
    """Those rates and that of most, in words; nothing where all arms of LoRA have one rate."""
    unlike = sorted({f"{rate:g}" for rate in rows.loc[has_unlike_rate(rows), RATE]}, key=float)
    return f"learning rate {listed(unlike)}, not {usual_rate(rows):g}" if unlike else ""


def _cost(lines: list[Line]) -> dict[str, Any]:
    """Trained parameters, peak memory in MiB and seconds of training, the latter two as medians over the seeds."""
    if not lines:
        return {}
    return {
        "trained_body": lines[0]["parameters"]["adapter"],
        "trained_head": lines[0]["parameters"]["head"],
        "peak_mib": float(np.median([line["memory"]["peak_bytes"] for line in lines])) / 2**20,
        "train_seconds": float(np.median([line["time"]["train_seconds"] for line in lines])),
    }


# ---- what the declared margin can tell


def head_is_enough(records: Records, task: str, margin: float | None = None) -> bool:
    """Whether the head alone is not surely short of a match, by the declared margin unless another is given. The score
    then distinguishes no ranks."""
    arm = head_arm(records, task)
    allowed = records.protocol.margin if margin is None else margin
    return arm is not None and gains(records, task)[arm].high >= -allowed


def head_arm(records: Records, task: str) -> str | None:
    """The first arm that trains the reference's head and nothing of the body, by the parameters of its runs, none of
    which diverged."""
    reference = seeds_of(records, task, records.protocol.reference).values()
    heads = {(0, line["parameters"]["head"]) for line in reference}
    for arm in (arm.name for arm in records.protocol.arms if arm.name != records.protocol.reference):
        lines = seeds_of(records, task, arm).values()
        counts = {(line["parameters"]["adapter"], line["parameters"]["head"]) for line in lines}
        if counts and counts <= heads and not is_lost(records, task, arm):
            return arm
    return None


def powers(records: Records, task: str) -> dict[str, tuple[float, float]]:
    """For each arm but the reference, the chances that the study finds it within the margin where its true difference
    is 0, and where it is half the margin worse, at its own components of variance. An arm of which a final run diverged
    has none."""
    margin, by_arm = records.protocol.margin, compared(records, task)
    return {
        arm: (power(difference, margin, 0.0), power(difference, margin, -margin / 2))
        for arm, difference in by_arm.items()
        if not is_lost(records, task, arm)
    }
