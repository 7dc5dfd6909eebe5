"""Full fine-tuning against LoRA at each rank on one task: scores, paired differences, the rank that is enough."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from lorax_lab.store.published import Line, correct_answers

from ..variants import COLLAPSED
from .agreement import failed_seeds
from .records import KEPT, Records, has_collapsed, rate_of, score_of
from .statistics import (
    Interval,
    Smallest,
    bootstrap_interval,
    holm,
    paired_p,
    smallest,
    t_interval,
)
from .validator import selection_of

if TYPE_CHECKING:
    import pandas as pd

SPLIT = "test"
LOST = Interval(-math.inf, -math.inf, -math.inf, 0)
"""The gain of an arm of which a final run has no score."""


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
            beside = score_of(reference[seed], SPLIT) if seed in reference else math.nan
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
                    "difference": score - beside,
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
    """(seeds, examples) of right answers, the arm's minus the reference's, seeds and test examples the same on both
    sides; (seeds, 1) differences of scores where answers are not right or wrong, or lower scores are better."""
    ours, reference = seeds_of(records, task, arm), seeds_of(records, task, records.protocol.reference)
    both = sorted(set(ours) & set(reference))
    pairs = [(ours[seed], reference[seed]) for seed in both]
    sizes = {line["inputs"]["examples"]["test"] for pair in pairs for line in pair}
    counted = records.higher_is_better(task) and all("correct" in line for pair in pairs for line in pair)
    if len(sizes) == 1 and counted:
        return np.array([correct_answers(a).astype(float) - correct_answers(b) for a, b in pairs])
    return np.array([[score_of(a, SPLIT) - score_of(b, SPLIT)] for a, b in pairs])


@lru_cache(maxsize=KEPT * 16)
def intervals(records: Records, task: str) -> dict[str, tuple[Interval, Interval]]:
    """For each arm but the reference, two intervals of the paired difference on test: the t interval over the seeds,
    and the bootstrap interval over seeds and test examples."""
    by_arm = {}
    for arm in records.protocol.arms:
        if arm.name != records.protocol.reference:
            d = differences(records, task, arm.name)
            by_arm[arm.name] = (t_interval(d.mean(1).tolist()), bootstrap_interval(d))
    return by_arm


def gains(records: Records, task: str) -> dict[str, tuple[Interval, Interval]]:
    """`intervals` as gains over the reference: above 0 is better, whichever scores are. An arm of which a final run
    diverged falls short of any margin: the lowest score there is stands for that run."""
    higher, finals = records.higher_is_better(task), records.of(task, "final")
    return {
        arm: (LOST, LOST) if failed_seeds(records, finals, arm) else (seeds.oriented(higher), both.oriented(higher))
        for arm, (seeds, both) in intervals(records, task).items()
    }


def by_rank(records: Records, task: str) -> dict[int, tuple[Interval, Interval]]:
    """`gains` of the arms that differ only in their rank, by rank."""
    by_arm = gains(records, task)
    ranked = records.protocol.ranked()
    return {arm.rank: by_arm[arm.name] for arm in ranked if arm.rank is not None and arm.name in by_arm}


def enough(records: Records, task: str, test_examples: bool = False) -> Smallest | None:
    """r*, the smallest rank whose LoRA is not inferior to the reference by more than the margin; None where no arms
    differ in their rank alone.

    Args:
        test_examples: whether the intervals also include the uncertainty from the test examples.
    """
    ranked = {rank: pair[test_examples] for rank, pair in by_rank(records, task).items()}
    return smallest(ranked, records.protocol.margin) if ranked else None


def table(records: Records, task: str) -> pd.DataFrame:
    """One row per arm: learning rate, scores, differences from the reference with both intervals, p (Holm), whether it
    matches, and its cost."""
    import pandas as pd

    protocol, chosen, by_arm = records.protocol, selection_of(records, task).choices, intervals(records, task)
    gained = gains(records, task)
    d = {arm: differences(records, task, arm).mean(1) for arm in by_arm}
    corrected = holm({arm: paired_p(values.tolist()) for arm, values in d.items()})
    rows: list[dict[str, Any]] = []
    for arm in protocol.arms:
        lines = seeds_of(records, task, arm.name)
        scores = t_interval([score_of(line, SPLIT) for line in lines.values()])
        finals = [x for x in records.of(task, "final") if records.arm_of(x) == arm.name]
        row: dict[str, Any] = {"task": task, "arm": arm.name, "rank": arm.rank}
        row |= {"learning_rate": protocol.rate(arm.name, chosen[arm.name].step), "at_edge": chosen[arm.name].edge}
        row |= {"seeds": len(lines), "diverged": sum(line["status"] == "diverged" for line in finals)}
        row |= {COLLAPSED: sum(map(has_collapsed, lines.values()))}
        row |= _columns("test", scores)
        if arm.name in by_arm:
            seeds, examples = by_arm[arm.name]
            row |= _columns("difference", seeds) | {"boot_low": examples.low, "boot_high": examples.high}
            row |= {"p_holm": corrected[arm.name], "matches": gained[arm.name][0].low > -protocol.margin}
        row |= _cost(list(lines.values()))
        rows.append(row)
    return with_collapsed(records, pd.DataFrame(rows).astype({"rank": "Int64", "matches": "boolean"}))


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


def _columns(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _place(records: Records) -> Any:
    order: list[str | None] = [arm.name for arm in records.protocol.arms]
    return lambda line: (order.index(records.arm_of(line)), rate_of(line), line["seed"])
