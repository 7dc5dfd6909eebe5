"""Is the comparison fair? What breaks the protocol is named, and nothing is concluded from it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from analysis.study.records import Records, rate_of, score_of
from lorax_lab.store.protocol import Protocol, Selection, select
from lorax_lab.store.published import Line

LEAST_SEEDS = 5
"""Fresh seeds of an arm, at least."""


def breaches(records: Records) -> list[str]:
    """What breaks the protocol, a line each, naming task, arm and runs; none where the comparison is fair."""
    found = [f"damaged: {damage}" for damage in records.damages]
    found += _one_version(records.lines)
    found += _known_arms(records)
    rules = records.rules
    if set(rules.selection_seeds) & set(rules.final_seeds):
        both = sorted(set(rules.selection_seeds) & set(rules.final_seeds))
        found.append(f"seeds {both} chose the learning rates and are final ones too: final seeds must be fresh")
    if len(set(rules.final_seeds)) < LEAST_SEEDS:
        found.append(f"{len(set(rules.final_seeds))} final seeds are declared, fewer than {LEAST_SEEDS}")
    for task in records.tasks:
        found += [f"{task}: {breach}" for breach in _of_task(records, task)]
    return found


def not_begun(records: Records) -> list[str]:
    """The tasks whose rates are not chosen yet, and the arms without one completed final run: nothing can be drawn."""
    found = []
    for task in records.tasks:
        done = {records.arm_of(line) for line in records.of(task, "final") if line["status"] == "completed"}
        if selection_of(records, task).missing:
            found.append(f"{task}: learning-rate trials are missing")
        found += [
            f"{task}, {arm.name}: no final run is completed" for arm in records.rules.arms if arm.name not in done
        ]
    return found


def selection_of(records: Records, task: str) -> Selection:
    """The choice of the learning rates, made again from the trials' validation scores."""
    rules, scores = records.rules, {}
    for line in records.of(task, "trial"):
        arm = records.arm_of(line)
        if arm is not None and line["seed"] in rules.selection_seeds:
            score = score_of(line, "validation") if line["status"] == "completed" else -math.inf
            scores[arm, rules.step(arm, rate_of(line)), line["seed"]] = score
    return select(rules, task, scores)


def marked(records: Records) -> list[str]:
    """Arms whose best learning rate still is at the grid's edge after every extension: not a breach, but said."""
    rows = []
    for task in records.tasks:
        for arm, choice in selection_of(records, task).choices.items():
            if choice.edge:
                rate = records.rules.rate(arm, choice.step)
                rows.append(f"{task}, {arm}: the best learning rate, {rate:g}, is at the edge of what was tried")
    return rows


def _of_task(records: Records, task: str) -> list[str]:
    rules, trials, finals = records.rules, records.of(task, "trial"), records.of(task, "final")
    found = _trials(records, trials)
    chosen = selection_of(records, task)
    if chosen.missing:
        cells = Counter(cell.arm for cell in chosen.missing)
        listed = ", ".join(f"{count} of {arm}" for arm, count in cells.items())
        return [*found, f"trials are missing: {listed}"]
    edges = [arm for arm, choice in chosen.choices.items() if choice.edge]
    if edges and not rules.extensions:
        found.append(f"the best rate of {', '.join(edges)} is at the grid's edge, and no extension is declared")
    for arm in rules.arms:
        rate = rules.rate(arm.name, chosen.choices[arm.name].step)
        lines = [line for line in finals if records.arm_of(line) == arm.name]
        found += _finals(rules, arm.name, rate, lines)
    return found + _same(records, [*trials, *finals]) + _paired(records, finals)


def _trials(records: Records, trials: list[Line]) -> list[str]:
    """Every arm as many trials, on validation alone."""
    rules, found = records.rules, []
    counts = Counter({arm.name: 0 for arm in rules.arms})
    counts.update(arm for line in trials if (arm := records.arm_of(line)))
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{arm} {count}" for arm, count in counts.items())
        found.append(f"unequal numbers of learning-rate trials: {listed}")
    read = [line["run_id"] for line in trials if any(key.startswith("test/") for key in line.get("metrics", {}))]
    if read:
        found.append(f"learning rates were chosen by runs that read the test split: {_some(read)}")
    strangers = [line["run_id"] for line in trials if line["seed"] not in rules.selection_seeds]
    if strangers:
        found.append(f"trials with seeds that are not declared for the selection: {_some(strangers)}")
    return found


def _finals(rules: Protocol, arm: str, rate: float, lines: list[Line]) -> list[str]:
    found = []
    other = [line["run_id"] for line in lines if not math.isclose(rate_of(line), rate, rel_tol=1e-6)]
    if other:
        found.append(f"{arm}: final runs with another learning rate than the chosen {rate:g}: {_some(other)}")
    seeds = Counter(line["seed"] for line in lines if line["status"] in ("completed", "diverged"))
    if missing := sorted(set(rules.final_seeds) - set(seeds)):
        found.append(f"{arm}: final runs are missing: seeds {', '.join(map(str, missing))}")
    if extra := sorted(set(seeds) - set(rules.final_seeds)):
        found.append(f"{arm}: final seeds that were not declared: {', '.join(map(str, extra))}")
    if twice := sorted(seed for seed, count in seeds.items() if count > 1):
        found.append(f"{arm}: the test split was read more than once: seeds {', '.join(map(str, twice))}")
    return found


SAME: tuple[tuple[str, Callable[[Line], Any]], ...] = (
    ("model", lambda line: line["inputs"]["model_sha256"]),
    (
        "data or splits",
        lambda line: [line["inputs"]["data_sha256"], line["inputs"]["examples"], line["config"]["task"]],
    ),
    ("precision", lambda line: line["config"]["train"]["precision"]),
    ("numeric settings", lambda line: [line["versions"], line["hardware"]]),
    ("training budget", lambda line: _budget(line)),
)
"""What must agree in all runs of a task, and how it is read."""


def _same(records: Records, lines: list[Line]) -> list[str]:
    found = []
    completed = [line for line in lines if line["status"] == "completed"]
    for what, read in SAME:
        kinds: dict[str, list[str]] = {}
        for line in completed:
            kinds.setdefault(json.dumps(read(line), sort_keys=True), []).append(line["run_id"])
        if len(kinds) > 1:
            few = min(kinds.values(), key=len)
            found.append(f"{what} differ: {len(kinds)} kinds in {len(completed)} runs, unlike the others {_some(few)}")
    return found


def _paired(records: Records, finals: list[Line]) -> list[str]:
    """The same seed starts from the same head in every arm."""
    found = []
    for seed in records.rules.final_seeds:
        heads = {line["inputs"]["head_sha256"] for line in finals if line["seed"] == seed and "inputs" in line}
        if len(heads) > 1:
            found.append(f"seed {seed}: the arms start from {len(heads)} different heads")
    return found


def _budget(line: Line) -> dict[str, Any]:
    """What a run was given: the training settings without the rate, and the steps and examples that came of them."""
    train = {key: value for key, value in line["config"]["train"].items() if key not in ("learning_rate", "precision")}
    return train | {key: line["time"][key] for key in ("steps", "examples", "tokens")}


def _one_version(lines: list[Line]) -> list[str]:
    versions = Counter(line["code"] for line in lines)
    found = []
    if len(versions) > 1:
        commits = {line["code"]: str(line["git"]["commit"])[:10] for line in lines}
        listed = ", ".join(f"{count} runs of {commits[code]}" for code, count in versions.most_common())
        found.append(f"runs of {len(versions)} versions of the code: {listed}")
    if dirty := [line["run_id"] for line in lines if line["git"]["dirty"]]:
        found.append(f"runs of code that was not committed: {_some(dirty)}")
    return found


def _known_arms(records: Records) -> list[str]:
    strangers = [line["run_id"] for line in records.lines if records.arm_of(line) is None]
    return [f"runs of no declared arm: {_some(strangers)}"] if strangers else []


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more
