"""Is the comparison fair? Every breach of the protocol is named, and no verdict is drawn from an unfair comparison."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from lorax_lab.record.code import shared_half
from lorax_lab.record.direction import of_line
from lorax_lab.record.provenance import same_hardware
from lorax_lab.study.equivalence import components
from lorax_lab.study.protocol import Protocol, Selection, select
from lorax_lab.study.published import Line

from . import content, copies, origin
from .agreement import bases, before, may_be_short, of_condition, strangers
from .markdown import some
from .records import KEPT, Records, rate_of

LEAST_SEEDS = 5
"""An arm needs at least this many fresh seeds."""


@lru_cache(maxsize=KEPT)
def breaches(records: Records) -> list[str]:
    """Breaches of the protocol, a line each, with task, arm and runs; none where the comparison is fair."""
    return list(every_breach(records))


def every_breach(records: Records) -> Iterator[str]:
    """The breaches one by one, those that are soon found first."""
    yield from (f"damaged: {damage}" for damage in records.damages)
    yield from _committed(records.lines)
    yield from _one_version(records)
    yield from strangers(records)
    yield from origin.faults(records)
    yield from _seeds(records.protocol)
    yield from _contents(records)
    if not any(content.lacking_of(line) for line in records.lines if line["status"] == "completed"):
        for task in records.conditions:
            yield from (f"{task}: {breach}" for breach in _of_task(records, task))
        yield from bases(records)
        yield from before(records)
        yield from copies.of_study(records)


def _seeds(protocol: Protocol) -> list[str]:
    """Final seeds are fresh, and enough."""
    faults = []
    if both := sorted(set(protocol.selection_seeds) & set(protocol.final_seeds)):
        faults.append(f"seeds {both} chose the learning rates and are final ones too: final seeds must be fresh")
    if len(set(protocol.final_seeds)) < LEAST_SEEDS:
        faults.append(f"{len(set(protocol.final_seeds))} final seeds are declared, fewer than {LEAST_SEEDS}")
    return faults


def _contents(records: Records) -> list[str]:
    """What in single lines contradicts the rest of them."""
    faults: dict[str, list[str]] = {}
    for line in records.lines:
        for fault in content.of_line(records, line):
            faults.setdefault(fault, []).append(line["run_id"])
    return [f"{fault}: {some(runs)}" for fault, runs in faults.items()]


def not_begun(records: Records) -> list[str]:
    """The tasks whose rates are not chosen yet, and the arms without one completed final run: nothing can be drawn."""
    faults = []
    for task in records.conditions:
        done = {records.arm_of(line) for line in records.of(task, "final") if line["status"] == "completed"}
        if selection_of(records, task).missing:
            faults.append(f"{task}: learning-rate trials are missing")
        faults += [
            f"{task}, {arm.name}: no final run is completed" for arm in records.protocol.arms if arm.name not in done
        ]
    return faults


def selection_of(records: Records, condition: str) -> Selection:
    """The choice of the learning rates, made again from the trials' validation scores."""
    return select(records.protocol, condition, records.trial)


def marked(records: Records) -> list[str]:
    """Arms whose best learning rate is still at the grid's edge after every extension. This is no breach, but it is
    reported."""
    rows = []
    for task in records.conditions:
        for arm, choice in selection_of(records, task).choices.items():
            if may_be_short(records.of(task, "trial"), choice):
                rate = records.protocol.rate(arm, choice.step)
                rows.append(f"{task}, {arm}: the best learning rate, {rate:g}, is at the edge of what was tried")
    return rows


def _of_task(records: Records, task: str) -> list[str]:
    protocol, trials, finals = records.protocol, records.of(task, "trial"), records.of(task, "final")
    faults = _trials(records, trials)
    chosen = selection_of(records, task)
    if chosen.missing:
        cells = Counter(cell.arm for cell in chosen.missing)
        listed = ", ".join(f"{count} of {arm}" for arm, count in cells.items())
        return [*faults, f"trials are missing: {listed}"]
    edges = [arm for arm, choice in chosen.choices.items() if may_be_short(trials, choice)]
    if edges and not protocol.extensions:
        faults.append(f"the best rate of {', '.join(edges)} is at the grid's edge, and no extension is declared")
    for arm in protocol.arms:
        rate = protocol.rate(arm.name, chosen.choices[arm.name].step)
        lines = [line for line in finals if records.arm_of(line) == arm.name]
        faults += _finals(protocol, arm.name, rate, lines)
    both = [*trials, *finals]
    faults += [*of_condition(records, task, chosen), *_same(records, both), *_one_test_split(records, both)]
    return [*faults, *_shared_code(records, both), *_paired(records, both)]


def _trials(records: Records, trials: list[Line]) -> list[str]:
    """Every arm has the same number of trials, scored only on validation."""
    protocol, faults = records.protocol, []
    counts = Counter({arm.name: 0 for arm in protocol.arms})
    counts.update(arm for line in trials if (arm := records.arm_of(line)))
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{arm} {count}" for arm, count in counts.items())
        faults.append(f"unequal numbers of learning-rate trials: {listed}")
    read = [line["run_id"] for line in trials if any(key.startswith("test/") for key in line.get("metrics", {}))]
    if read:
        faults.append(f"learning rates were chosen by runs that read the test split: {some(read)}")
    strangers = [line["run_id"] for line in trials if line["seed"] not in protocol.selection_seeds]
    if strangers:
        faults.append(f"trials with seeds that are not declared for the selection: {some(strangers)}")
    return faults


def _finals(protocol: Protocol, arm: str, rate: float, lines: list[Line]) -> list[str]:
    faults = []
    other = [line["run_id"] for line in lines if not math.isclose(rate_of(line), rate, rel_tol=1e-6)]
    if other:
        faults.append(f"{arm}: final runs with another learning rate than the chosen {rate:g}: {some(other)}")
    seeds = Counter(line["seed"] for line in lines if line["status"] in ("completed", "diverged"))
    if missing := sorted(set(protocol.final_seeds) - set(seeds)):
        faults.append(f"{arm}: final runs are missing: seeds {', '.join(map(str, missing))}")
    if extra := sorted(set(seeds) - set(protocol.final_seeds)):
        faults.append(f"{arm}: final seeds that were not declared: {', '.join(map(str, extra))}")
    if twice := sorted(seed for seed, count in seeds.items() if count > 1):
        faults.append(f"{arm}: the test split was read more than once: seeds {', '.join(map(str, twice))}")
    return faults


SAME: tuple[tuple[str, tuple[str, ...], Callable[[Line], Any]], ...] = (
    ("model", ("model",), lambda line: line["inputs"]["model_sha256"]),
    (
        "data or splits",
        ("task",),
        lambda line: [line["inputs"]["data_sha256"], line["inputs"]["examples"], line["config"]["task"]],
    ),
    ("classes", ("task",), lambda line: line["inputs"].get("classes")),
    ("metric", (), lambda line: [line["metric"], of_line(line)]),
    ("precision", ("train.precision",), lambda line: line["config"]["train"].get("precision")),
    ("numeric settings", (), lambda line: [line["versions"], line["hardware"]]),
    ("training budget", ("model", "task", "train"), lambda line: _budget(line)),
)
"""Per check: its name; the overrides that let arms differ in it; how to read it from a line."""
MAY_DIFFER = ("train_examples", "max_length")
"""Settings of a task that leave the test examples as they are. Arms may differ in these alone. Columns are not among
them, because rows with equal texts are kept in one split."""


def _same(records: Records, lines: list[Line]) -> list[str]:
    faults = []
    completed = _completed(records, lines)
    for subject, keys, read in SAME:
        for group in _groups(records, completed, keys):
            kinds: dict[str, list[str]] = {}
            for line in group:
                kinds.setdefault(json.dumps(read(line), sort_keys=True), []).append(line["run_id"])
            if len(kinds) > 1:
                few = min(kinds.values(), key=len)
                faults.append(
                    f"{subject} differ: {len(kinds)} kinds in {len(group)} runs, unlike the others {some(few)}"
                )
    return faults


def _completed(records: Records, lines: list[Line]) -> list[Line]:
    """The completed runs. Their configurations lack neutral settings, as those of records older than a setting do, and
    of their machines there is what all of them state."""
    neutral = records.declared.neutral

    def plain(config: dict[str, Any], section: str) -> dict[str, Any]:
        return {key: value for key, value in config[section].items() if value != neutral.get(f"{section}.{key}")}

    completed = [line for line in lines if line["status"] == "completed"]
    machines = same_hardware(line["hardware"] for line in completed)
    return [
        line
        | {"config": line["config"] | {section: plain(line["config"], section) for section in ("task", "train")}}
        | {"hardware": machine}
        for line, machine in zip(completed, machines, strict=True)
    ]


def _one_test_split(records: Records, lines: list[Line]) -> list[str]:
    """All arms are scored on the same test examples, whatever their overrides say: answers are paired by position."""
    splits = [_test_split(line) for line in _completed(records, lines)]
    keys = dict.fromkeys(key for split in splits for key in split)
    differ = [key for key in keys if len({json.dumps(split.get(key)) for split in splits}) > 1]
    return [f"the test split is not the same in every run: {', '.join(differ)} differ"] if differ else []


def _test_split(line: Line) -> dict[str, Any]:
    """What the choice of the test examples depends on."""
    task = {f"task.{key}": value for key, value in line["config"]["task"].items() if key not in MAY_DIFFER}
    inputs = line["inputs"]
    return task | {"data_sha256": inputs["data_sha256"], "number of test examples": inputs["examples"].get("test")}


def _groups(records: Records, lines: list[Line], keys: tuple[str, ...]) -> list[list[Line]]:
    """The lines at once, or arm by arm where an arm's overrides set one of the keys."""
    set_by_arms = {o.partition("=")[0] for arm in records.protocol.arms for o in arm.overrides}
    if not any(own == key or own.startswith(f"{key}.") for own in set_by_arms for key in keys):
        return [lines]
    return [[line for line in lines if records.arm_of(line) == arm.name] for arm in records.protocol.arms]


def _paired(records: Records, lines: list[Line]) -> list[str]:
    """The same seed starts from the same head in every arm, in its trials and in its final runs. All seeds start from
    one head, which the base has, or each from its own."""
    faults = []
    of_one_model = _groups(records, lines, ("model",)) == [lines]
    for seed in (*records.protocol.final_seeds, *records.protocol.selection_seeds) if of_one_model else ():
        heads = {line["inputs"]["head_sha256"] for line in lines if line["seed"] == seed and "inputs" in line}
        if len(heads) > 1:
            faults.append(f"seed {seed}: the arms start from {len(heads)} different heads")
    pairs = {(line["seed"], line["inputs"]["head_sha256"]) for line in lines if "inputs" in line}
    seeds, heads = ({pair[i] for pair in pairs} for i in (0, 1))
    if of_one_model and 1 < len(heads) < len(seeds):
        faults.append(f"{len(seeds)} seeds start from {len(heads)} different heads, and not from one or from as many")
    return faults


def _budget(line: Line) -> dict[str, Any]:
    """The budget of a run: its training settings without the rate, and the resulting steps and examples."""
    train = {key: value for key, value in line["config"]["train"].items() if key not in ("learning_rate", "precision")}
    return train | {key: line["time"][key] for key in ("steps", "examples", "tokens")}


def _committed(lines: list[Line]) -> list[str]:
    dirty = [line["run_id"] for line in lines if line["git"]["dirty"]]
    return [f"runs of code that was not committed: {some(dirty)}"] if dirty else []


def _one_version(records: Records) -> list[str]:
    """Runs that choose the same code were made by one version of it, or by versions proven equivalent."""
    faults = []
    groups: dict[tuple[str, ...], list[Line]] = {}
    for line in records.lines:
        config, task = line["config"], line["config"]["task"]
        chosen = (config["model"], config["method"]["name"], task.get("kind"), task.get("source"), task.get("metric"))
        key = tuple(map(str, chosen))
        groups.setdefault(key, []).append(line)
    for lines in groups.values():
        faults += _versions(lines, lambda one, other: (one, other) in records.equivalent)
    return list(dict.fromkeys(faults))


def _shared_code(records: Records, lines: list[Line]) -> list[str]:
    """The code that runs of all methods share had one version, or versions proven equivalent. A proof of one method's
    runs counts for all, so that a study may gain a method that no earlier version had."""
    proven = {(shared_half(one), shared_half(other)) for one, other in records.equivalent}

    def joined(one: str, other: str) -> bool:
        halves = (shared_half(one), shared_half(other))
        return halves[0] == halves[1] or halves in proven

    return _versions(lines, joined)


def _versions(lines: list[Line], joined: Callable[[str, str], bool]) -> list[str]:
    versions = components({_version(line): None for line in lines}, joined)
    if len(versions) < 2:
        return []
    listed = []
    for codes in versions:
        of_version = [line for line in lines if _version(line) in codes]
        commits = sorted({str(line["git"]["commit"])[:10] for line in of_version})
        listed.append((len(of_version), f"{len(of_version)} runs of {' and '.join(commits)}"))
    counts = ", ".join(text for _, text in sorted(listed, reverse=True))
    return [f"runs of {len(versions)} versions of the code: {counts}"]


def _version(line: Line) -> str:
    """The hash of the code; a line that is older than it goes by its commit."""
    return str(line["code"] or f"commit {line['git']['commit']}")
