"""The answer of runs in sentences: which rank of LoRA retains 90 % of what full fine-tuning brings, on test, and how
many directions of the full update do, on validation. The closing table, the report, its figure, W&B and `analysis
compare` show these sentences and no others.

The 0 is a head that was fitted alone on the frozen base, a linear probe; where there is none, the arm that trained a
head alone or, of a language model, the model before training.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from lorax_lab.config.measured import CUT
from lorax_lab.record import variation
from lorax_lab.record.clusters import GROUPS, pooled
from lorax_lab.record.comparable import settings_of
from lorax_lab.record.direction import labelled, oriented, scored_on
from lorax_lab.record.folder import (
    CORRECT,
    HEAD_ALONE,
    HEAD_ON_VALIDATION,
    OUTPUTS,
    PSEUDO_VALUES,
    UNTRAINED,
    load_arrays,
)
from lorax_lab.record.record import Record
from lorax_lab.record.result import Result
from lorax_lab.record.share import MOST, from_where, needed
from lorax_lab.record.statistics import NOTHING, Interval, crossed

Arm = Mapping[int, tuple[Path, Result]]
"""The folder and the result of each run of an arm, by seed."""
ZEROS = {HEAD_ALONE: "the linear probe", UNTRAINED: "the model before training"}
"""What stands for the 0 of a full fine-tune, in the order of choice; an arm that trained the head comes between."""
TRAINED_HEAD = "the trained head"
SENTENCES = {
    "collapsed": "Every full fine-tune collapsed, so there is nothing for {who} to retain; type {longer}.",
    "no zero": "Nothing was scored without fine-tuning, so what {who} retains of its gain is not known; "
    "type method=head too.",
    "nothing": "Full fine-tuning does not beat {zero} ({full:.3f} and {nothing:.3f}, {score}), so no rank of {who} is "
    "judged; type {longer}.",
    "one seed": "One seed is not enough to tell which rank of {who} retains 90 % of what full fine-tuning gains over "
    "{zero}; type seed=0,1,2.",
    "not surely": "Full fine-tuning is not significantly better than {zero} ({full:.3f} and {nothing:.3f}, {score}), "
    "so no rank of {who} is judged; type more seeds, as in seed=0,1,2,3,4.",
    "surely": "{who} retains 90 % of what full fine-tuning gains over {zero} from rank {mean} on, 95 % interval {low} "
    "to {surely} ({score}).",
    "on average": "{who} retains 90 % of what full fine-tuning gains over {zero} from rank {mean} on, 95 % interval "
    "{low} or more ({score}).",
    "inconclusive": "No rank of {who} up to {largest} retains on average 90 % of what full fine-tuning gains over "
    "{zero}; rank {low} or more may ({score}, 95 % interval).",
    "short": "Every rank of {who} up to {largest} retains significantly less than 90 % of what full fine-tuning gains "
    "over {zero} ({score}, 95 % interval).",
}
"""What is said of a method with ranks, by what holds."""
DIRECTIONS = {
    "nothing": "The full update brings nothing over {zero} (validation).",
    "none": "Without its update of the matrices, full fine-tuning retains 90 % of its gain over {zero} (validation).",
    "one": "The top {k:g} of {all} directions of the full update retain 90 % of its gain over {zero} (validation).",
    "several": "The top {k:g} of {all} directions of the full update retain 90 % of its gain over {zero} ({low} to "
    "{high} by seed, validation).",
}
"""What is said of the full update."""


def answers(runs: Mapping[Path, Record]) -> list[str]:
    """What comparable runs, by folder, say of the rank: a sentence for each method with ranks, and one for the full
    update. None where no full fine-tune is completed."""
    done = {folder: run for folder, run in runs.items() if run.result and not run.is_trial}
    arms = _arms(done)
    full = {arm: by_seed for arm, by_seed in arms.items() if arm[0] == CUT}
    if not full:
        return []
    (reference,) = full.values()
    methods = dict.fromkeys(method for method, rank in arms if rank is not None)
    sentences = []
    for method in methods:
        by_rank = {rank: arm for (name, rank), arm in arms.items() if name == method and rank is not None}
        variants = {variation.arm(settings_of(run)) for run in done.values() if run.method == method}
        who = {"lora": "LoRA"}.get(method, method)
        who = who if len(variants) == len(by_rank) else f"the best variant of {who}"
        sentences.append(_of_ranks(who, by_rank, reference, arms.get(("head", None)), next(iter(done.values()))))
    return [sentence[0].upper() + sentence[1:] for sentence in (*sentences, *_of_directions(reference))]


def gain(arm: Arm, reference: Arm) -> Interval:
    """What an arm scores more than another on test, the seeds being the same, with its 95 % interval over seeds and
    test examples, or over seeds alone where outputs are gone. Above 0 is better."""
    seeds = sorted(set(arm) & set(reference))
    added = _added([arm, reference], seeds)
    higher = next(iter(reference.values()))[1].higher_is_better
    return crossed(added[0] - added[1]).interval().oriented(higher)


def longer(config: Mapping[str, Any]) -> str:
    """What to type where full fine-tuning is trained too little, or at a wrong rate: four times the budget, and rates
    around its default."""
    train = config.get("train", {})
    key = "max_steps" if train.get("max_steps") else "epochs"
    return (
        f"train.{key}={4 * (train.get(key) or 1)}, and for the rate method=full train.learning_rate=3e-5,1e-4,3e-4 -m"
    )


def _arms(runs: Mapping[Path, Record]) -> dict[tuple[str, int | None], Arm]:
    """Of each method and rank one arm: that of the runs which others are compared with, else that of most seeds, and of
    these the best on validation."""
    declared = {run.completed.reference for run in runs.values()}
    variants: dict[tuple[str, int | None], dict[str, dict[int, tuple[Path, Result]]]] = {}
    for folder, run in runs.items():
        of_size = variants.setdefault((run.method, run.rank), {})
        of_size.setdefault(variation.arm(settings_of(run)), {})[run.seed] = folder, run.completed

    def place(arm: Arm) -> tuple[bool, int, float]:
        scores = [oriented(result.score("validation"), result.higher_is_better) for _, result in arm.values()]
        validation = fmean(scores)
        is_declared = any(folder.name in declared for folder, _ in arm.values())
        return is_declared, len(arm), -math.inf if math.isnan(validation) else validation

    return {size: max(of_size.values(), key=place) for size, of_size in variants.items()}


def _of_ranks(who: str, by_rank: Mapping[int, Arm], full: Arm, head: Arm | None, first: Record) -> str:
    """The one of `SENTENCES` that holds."""
    results = [result for _, result in full.values()]
    metric, higher = results[0].metric, results[0].higher_is_better
    if all(result.collapsed for result in results):
        return SENTENCES["collapsed"].format(who=who, longer=longer(first.config))
    scored = [name for name in ZEROS if all(_baseline(result, name) is not None for result in results)]
    zero = HEAD_ALONE if HEAD_ALONE in scored else TRAINED_HEAD if head else next(iter(scored), None)
    if zero is None:
        return SENTENCES["no zero"].format(who=who)
    most = max(len(set(arm) & set(full)) for arm in by_rank.values())
    by_rank = {rank: arm for rank, arm in sorted(by_rank.items()) if len(set(arm) & set(full)) == most}
    seeds = sorted(set(full).intersection(*by_rank.values(), *([head] if head and zero == TRAINED_HEAD else [])))
    if not seeds:
        return SENTENCES["one seed"].format(who=who, zero=ZEROS.get(zero, zero))
    ones, *of_ranks, zeros = _added([full, *by_rank.values(), head or {}], seeds, zero)
    brings = crossed(ones - zeros).interval().oriented(higher)
    over = f"{len(seeds)} seeds" + (f" and {brings.examples:,} examples" if brings.examples else "")
    score = labelled(f"{scored_on(first.config, 'test')} {metric}", higher)
    said = {"who": who, "zero": ZEROS.get(zero, zero), "full": ones.mean(), "nothing": zeros.mean()}
    said |= {"score": f"{score}, {over}" if len(seeds) > 1 else score, "largest": max(by_rank)}
    said["longer"] = longer(first.config)
    if not brings.mean > 0:
        return SENTENCES["nothing"].format_map(said)
    if len(seeds) < 2:
        return SENTENCES["one seed"].format_map(said)
    if not brings.low > 0:
        return SENTENCES["not surely"].format_map(said)
    contrasts = [crossed(arm - MOST * ones - (1 - MOST) * zeros).interval().oriented(higher) for arm in of_ranks]
    by_size = dict(zip(by_rank, contrasts, strict=True))
    said["low"] = next((rank for rank, contrast in by_size.items() if contrast.high >= 0), None)
    said["mean"] = from_where({rank: contrast.mean for rank, contrast in by_size.items()}, -NOTHING, True)
    said["surely"] = from_where({rank: contrast.low for rank, contrast in by_size.items()}, 0.0, True)
    ends = ("surely", "surely"), ("mean", "on average"), ("low", "inconclusive")
    return SENTENCES[next((name for end, name in ends if said[end] is not None), "short")].format_map(said)


def _of_directions(full: Arm) -> list[str]:
    """The one of `DIRECTIONS` that holds, on validation, of the seeds whose full update brings anything."""
    sizes, largest, zero = list[int](), 0, ""
    cut = [result for _, result in full.values() if result.truncation and not result.collapsed]
    for result in cut:
        rows = [row for row in result.truncation or [] if row["part"] == "cut" and row.get("module") is None]
        by_k = {row["k"]: row[result.metric] for row in rows}
        probe, largest = result.baselines.get(f"{HEAD_ON_VALIDATION}/{result.metric}"), max(by_k)
        zero = "k = 0" if probe is None else ZEROS[HEAD_ALONE]
        enough = needed(by_k[0] if probe is None else probe, by_k[largest], result.higher_is_better)
        k = None if enough is None else from_where(by_k, enough, result.higher_is_better)
        sizes += [] if k is None else [k]
    if not cut:
        return []
    said = {"zero": zero, "all": largest}
    if not sizes:
        return [DIRECTIONS["nothing"].format_map(said)]
    said |= {"k": median(sizes), "low": min(sizes), "high": max(sizes)}
    name = "none" if not any(sizes) else "one" if len(set(sizes)) == 1 else "several"
    return [DIRECTIONS[name].format_map(said)]


def _baseline(result: Result, name: str) -> float | None:
    return result.baselines.get(f"{name}/{result.metric}")


def _added(arms: Iterable[Arm], seeds: list[int], zero: str = "") -> list[np.ndarray]:
    """What each test example, or group of them, adds to each arm's score, (seeds, examples); (seeds, 1) scores where a
    run does not say so. With `zero` the last arm is what stands for the 0: a baseline of the first, or itself."""
    first, *others = arms
    conditions = [("test", arm) for arm in (first, *others)]
    if zero in ZEROS:
        conditions[-1] = f"{zero}/0", first
    conditions = [(name, {seed: arm[seed] for seed in seeds if seed in arm}) for name, arm in conditions]
    outputs = {folder: _outputs(folder) for _, arm in conditions for folder, _ in arm.values()}
    groups = next((of["test"][GROUPS] for of in outputs.values() if GROUPS in of.get("test", {})), None)

    def score(name: str, result: Result) -> float:
        baseline = None if name == "test" else _baseline(result, name.removesuffix("/0"))
        return result.score("test") if baseline is None else baseline

    def values(name: str, folder: Path, result: Result) -> np.ndarray | None:
        answered = outputs[folder].get(name, {})
        if result.metric == "accuracy" and CORRECT in answered:
            return pooled(answered[CORRECT].astype(float), groups)
        if PSEUDO_VALUES not in answered:
            return None
        added = pooled(answered[PSEUDO_VALUES].astype(float), groups)
        return added + score(name, result) - added.mean()  # some are kept in half precision

    by_example = [[values(name, *run) for run in arm.values()] for name, arm in conditions]
    every = [of_run for arm in by_example for of_run in arm]
    if any(of_run is None for of_run in every) or len({len(of_run) for of_run in every if of_run is not None}) > 1:
        return [np.array([[score(name, result)] for _, result in arm.values()]) for name, arm in conditions]
    return [np.array(arm) for arm in by_example]


def _outputs(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    try:
        return load_arrays(folder, OUTPUTS, (CORRECT, PSEUDO_VALUES, GROUPS))
    except (OSError, ValueError):  # gone or damaged: the scores alone are compared
        return {}
