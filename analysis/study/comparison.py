"""Full fine-tuning against LoRA at each rank on one task: scores, paired differences, the rank that is enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lorax_lab.study.answers import (
    CORRECT,
    correct_answers,
    cut_answers,
    cut_pseudo_values,
    log_losses,
    pseudo_values,
)
from lorax_lab.study.published import Line

from ..scores import of_examples
from ..variants import COLLAPSED
from .records import KEPT, Records, has_collapsed, rate_of, score_of
from .statistics import Crossed, Interval, Smallest, crossed, holm, of_one_seed, smallest, t_interval
from .validator import failed_seeds, selection_of
from .words import listed

if TYPE_CHECKING:
    import pandas as pd

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
    lines = [line for line in records.of(task, "final") if records.arm_of(line) == arm]
    return {line["seed"]: line for line in lines if line["status"] == "completed"}


def every_seed(records: Records) -> pd.DataFrame:
    """One row per final run: task, arm, rank, seed, learning rate, status, validation and test score, and its
    difference on test from the reference of the same seed."""
    import pandas as pd

    rows = []
    for task in records.conditions:
        reference = seeds_of(records, task, records.protocol.reference)
        for line in sorted(records.of(task, "final"), key=_place(records)):
            score, seed = score_of(line, SPLIT), line["seed"]
            of_reference = score_of(reference[seed], SPLIT) if seed in reference else math.nan
            rows.append(
                {
                    "task": task,
                    "arm": records.arm_of(line),
                    "rank": line["rank"],
                    "seed": seed,
                    "learning_rate": rate_of(line),
                    "status": line["status"],
                    "validation": score_of(line, "validation"),
                    "test": score,
                    "difference": score - of_reference,
                    COLLAPSED: has_collapsed(line),
                }
            )
    return with_collapsed(records, pd.DataFrame(rows).astype({"rank": "Int64"}))


def trials(records: Records) -> pd.DataFrame:
    """One row per learning-rate trial: task, arm, learning rate, seed, status, validation score, and whether it is of
    the rate that was chosen."""
    import pandas as pd

    rows = []
    for task in records.conditions:
        chosen = selection_of(records, task).choices
        for line in sorted(records.of(task, "trial"), key=_place(records)):
            arm = str(records.arm_of(line))
            step = records.protocol.step(arm, rate_of(line))
            row = {"task": task, "arm": arm, "learning_rate": rate_of(line), "seed": line["seed"]}
            row |= {"status": line["status"], "validation": score_of(line, "validation")}
            row |= {"chosen": arm in chosen and chosen[arm].step == step}
            rows.append(row | {COLLAPSED: has_collapsed(line)})
    return with_collapsed(records, pd.DataFrame(rows))


def with_collapsed(records: Records, table: pd.DataFrame) -> pd.DataFrame:
    """The table with its column of collapsed runs where the study has any, else without it."""
    return table if any(map(has_collapsed, records.lines)) else table.drop(columns=COLLAPSED)


def differences(records: Records, task: str, arm: str) -> np.ndarray:
    """(seeds, examples) of what each test example adds to the score, the arm's minus the reference's, seeds and test
    examples the same on both sides; (seeds, 1) differences of scores whose lines do not say so."""
    pairs = _pairs(records, task, arm)
    known = [(a, b) for a, b in ((added(one), added(other)) for one, other in pairs) if a is not None and b is not None]
    if _one_split(pairs) and len(known) == len(pairs):
        return np.array([a - b for a, b in known])
    return np.array([[score_of(a, SPLIT) - score_of(b, SPLIT)] for a, b in pairs])


def loss_differences(records: Records, task: str, arm: str) -> np.ndarray | None:
    """(seeds, examples) differences in log loss on test, in nats, as `differences`; None where a line has no losses."""
    pairs = _pairs(records, task, arm)
    losses = [(log_losses(a), log_losses(b)) for a, b in pairs]
    known = [(a, b) for a, b in losses if a is not None and b is not None]
    if not known or len(known) < len(pairs) or not _one_split(pairs):
        return None
    return np.array([a - b for a, b in known])


def _pairs(records: Records, task: str, arm: str) -> list[tuple[Line, Line]]:
    """The lines of the arm and of the reference that have one seed."""
    ours, reference = seeds_of(records, task, arm), seeds_of(records, task, records.protocol.reference)
    return [(ours[seed], reference[seed]) for seed in sorted(set(ours) & set(reference))]


def _one_split(pairs: list[tuple[Line, Line]]) -> bool:
    return len({line["inputs"]["examples"]["test"] for pair in pairs for line in pair}) == 1


def added(line: Line) -> np.ndarray | None:
    """What each test example adds to the score, (n,), whose mean is the score: the right answers of an accuracy, else
    the line's pseudo-values; None where it has neither."""
    if is_counted(line):
        return correct_answers(line).astype(float)
    values = pseudo_values(line)
    return None if values is None else values + _rounded_off(line, values)


def added_by_cuts(line: Line, part: str) -> dict[int, np.ndarray]:
    """As `added`, of the update that was cut, by k; empty where the line does not say."""
    if is_counted(line):
        return {k: answers.astype(float) for k, answers in cut_answers(line, part).items()}
    whole, cuts = pseudo_values(line), cut_pseudo_values(line, part)
    return {k: values + _rounded_off(line, whole) for k, values in cuts.items()} if whole is not None else {}


def _rounded_off(line: Line, values: np.ndarray) -> float:
    """What the mean of the pseudo-values lacks of the score, since they are kept in half precision."""
    return score_of(line, SPLIT) - float(values.mean())


def is_counted(line: Line) -> bool:
    """Whether the score on test is the share of the answers that are right, and the line has them."""
    return line["metric"] in COUNTED and CORRECT in line


@lru_cache(maxsize=KEPT * 16)
def compared(records: Records, task: str) -> dict[str, Crossed]:
    """For each arm but the reference, the paired difference on test with its components of variance."""
    return _of_arms(records, lambda arm: differences(records, task, arm))


@lru_cache(maxsize=KEPT * 16)
def compared_losses(records: Records, task: str) -> dict[str, Crossed]:
    """As `compared`, of the log loss, which is better lower; empty where an arm's lines have none."""
    return _of_arms(records, lambda arm: loss_differences(records, task, arm))


def _of_arms(records: Records, of_arm: Callable[[str], np.ndarray | None]) -> dict[str, Crossed]:
    others = [arm.name for arm in records.protocol.arms if arm.name != records.protocol.reference]
    by_arm = {arm: d for arm in others if (d := of_arm(arm)) is not None}
    return {arm: crossed(d) for arm, d in by_arm.items()} if len(by_arm) == len(others) else {}


def gains(records: Records, task: str) -> dict[str, Interval]:
    """The gain over the reference on test by arm, above 0 is better whichever scores are: the one interval that r*, the
    column `matches` and every sentence are decided by. An arm of which a final run diverged falls short of any margin:
    the lowest score there is stands for that run."""
    higher = records.higher_is_better(task)
    return _with_lost(records, task, {arm: c.interval().oriented(higher) for arm, c in compared(records, task).items()})


def _with_lost(records: Records, task: str, gains: dict[str, Interval]) -> dict[str, Interval]:
    return {arm: LOST if is_lost(records, task, arm) else gain for arm, gain in gains.items()}


def is_lost(records: Records, task: str, arm: str) -> bool:
    """Whether a final run of an arm diverged. The arm then falls short, and what its other runs score is not its own
    score."""
    return bool(failed_seeds(records, records.of(task, "final"), arm))


def covers_examples(records: Records, task: str) -> bool:
    """Whether the intervals of `gains` cover the test examples besides the seeds, of every arm."""
    return all(gain.examples for gain in gains(records, task).values() if gain is not LOST)


def loss_gains(records: Records, task: str) -> dict[str, Interval]:
    """By how many nats the log loss on test is below the reference's, by arm; empty where lines have no losses."""
    nats = {arm: found.interval().oriented(False) for arm, found in compared_losses(records, task).items()}
    return _with_lost(records, task, nats)


def by_rank(records: Records, of_arms: Mapping[str, Value]) -> dict[int, Value]:
    """The values of the arms that differ only in their rank, by rank."""
    ranked = records.protocol.ranked()
    return {arm.rank: of_arms[arm.name] for arm in ranked if arm.rank is not None and arm.name in of_arms}


def enough(records: Records, task: str, margin: float | None = None) -> Smallest | None:
    """r*, the smallest rank whose LoRA is not inferior to the reference by more than the margin, the declared one
    unless another is given; None where no arms differ in their rank alone."""
    ranked = by_rank(records, gains(records, task))
    return smallest(ranked, records.protocol.margin if margin is None else margin) if ranked else None


def enough_by_loss(records: Records, task: str) -> Smallest | None:
    """As `enough`, by the log loss and its own margin; None where that was not declared, or no losses are kept."""
    ranked, margin = by_rank(records, loss_gains(records, task)), records.protocol.loss_margin
    return smallest(ranked, margin) if ranked and margin is not None else None


def table(records: Records, task: str) -> pd.DataFrame:
    """One row per arm: learning rate, score, difference from the reference, p (Holm), whether it matches, the same of
    the log loss where it is kept, and its cost. An arm of which a final run diverged has no score and no difference; in
    the correction of the others' p it counts as 1."""
    import pandas as pd

    protocol, chosen, by_arm = records.protocol, selection_of(records, task).choices, compared(records, task)
    gained, losses = gains(records, task), compared_losses(records, task)
    lost = {arm for arm in by_arm if is_lost(records, task, arm)}
    corrected = holm({arm: 1.0 if arm in lost else found.p() for arm, found in by_arm.items()})
    rows: list[dict[str, Any]] = []
    for arm in protocol.arms:
        lines = seeds_of(records, task, arm.name)
        scores = NONE if arm.name in lost else _interval(list(lines.values()))
        finals = [x for x in records.of(task, "final") if records.arm_of(x) == arm.name]
        row: dict[str, Any] = {"task": task, "arm": arm.name, "rank": arm.rank}
        row |= {"learning_rate": protocol.rate(arm.name, chosen[arm.name].step), "at_edge": chosen[arm.name].edge}
        row |= {"seeds": len(lines), "diverged": sum(line["status"] == "diverged" for line in finals)}
        row |= {COLLAPSED: sum(map(has_collapsed, lines.values()))}
        row |= _columns("test", scores)
        if arm.name in by_arm:
            row |= _columns("difference", NONE if arm.name in lost else by_arm[arm.name].interval())
            row |= {"p_holm": math.nan if arm.name in lost else corrected[arm.name]}
            row |= {"matches": gained[arm.name].low > -protocol.margin}
        if arm.name in losses:
            row |= _columns("loss_difference", NONE if arm.name in lost else losses[arm.name].interval())
        row |= _cost(list(lines.values()))
        rows.append(row)
    return with_collapsed(records, pd.DataFrame(rows).astype({"rank": "Int64", "matches": "boolean"}))


def with_ends_of_one_seed(records: Records, rows: pd.DataFrame) -> pd.DataFrame:
    """`table` of some tasks as figures show it: a difference of one seed has the interval of its test examples, where
    the lines keep what each adds. It says nothing of other seeds, so no verdict is made of it."""
    rows = rows.copy()
    for place, row in rows[rows["seeds"] == 1].iterrows():
        pair = records, str(row["task"]), str(row["arm"])
        for name, found in (("difference", differences(*pair)), ("loss_difference", loss_differences(*pair))):
            if found is not None and found.shape[1] > 1 and len(found) == 1 and row.get(name) == row.get(name):
                over = of_one_seed(found)
                rows.loc[place, [f"{name}_low", f"{name}_high"]] = [over.low, over.high]
    return rows


def usual_rate(rows: pd.DataFrame) -> float | None:
    """The learning rate of most arms of LoRA on one task, the lowest of several; None where no arm has a rank.

    Args:
        rows: of one task, as `table` has them.

    >>> import pandas as pd
    >>> usual_rate(pd.DataFrame({"rank": [None, 1, 2, 4], "learning_rate": [7e-5, 2e-3, 1e-3, 2e-3]}))
    0.002
    """
    counts = rows.loc[rows["rank"].notna(), RATE].value_counts()
    return float(counts[counts == counts.max()].index.min()) if len(counts) else None


def has_unlike_rate(rows: pd.DataFrame) -> np.ndarray:
    """Which arms of LoRA have another rate than most of them, (arms,); none of another method has."""
    most = usual_rate(rows)
    same = rows[RATE].map(lambda rate: most is not None and bool(np.isclose(rate, most)))
    return np.asarray(rows["rank"].notna() & ~same, dtype=bool)


def unlike_rates(rows: pd.DataFrame) -> str:
    """Those rates and that of most, in words; nothing where all arms of LoRA have one rate.

    >>> import pandas as pd
    >>> unlike_rates(pd.DataFrame({"rank": [1, 2, 4], "learning_rate": [2e-3, 1e-3, 2e-3]}))
    'learning rate 0.001, not 0.002'
    """
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


def _interval(lines: list[Line]) -> Interval:
    """The mean score on test with Student's interval over the seeds; one seed has the interval of its test examples,
    which says nothing of other seeds: that of the metric, else Student's over what each example adds."""
    scores = [score_of(line, SPLIT) for line in lines]
    if len(lines) != 1:
        return t_interval(scores)
    (line,), (score,) = lines, scores
    low, high = of_examples(score, line["metric"], line["inputs"]["examples"][SPLIT])
    if math.isnan(low) and (values := added(line)) is not None:
        over = of_one_seed(values[None])
        low, high = over.low, over.high
    return Interval(score, low, high, 1)


def _columns(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _place(records: Records) -> Any:
    order: list[str | None] = [arm.name for arm in records.protocol.arms]
    return lambda line: (order.index(records.arm_of(line)), rate_of(line), line["seed"])
