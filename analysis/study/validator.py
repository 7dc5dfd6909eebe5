"""Is the comparison fair? Every breach of the protocol is named, and no verdict is drawn from an unfair comparison.

What is checked is what an honest author gets wrong: a study that is incomplete, arms of unequal tuning, seeds other
than declared, a test split that chose a learning rate, runs of other data, a run that diverged and was left out.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from lorax_lab.record.direction import of_line
from lorax_lab.record.provenance import PACKAGES, same_hardware
from lorax_lab.study.declaration import decisive
from lorax_lab.study.protocol import Choice, Protocol, Selection, select
from lorax_lab.study.published import Line

from ..scores import CORRELATIONS, SHARES
from .records import KEPT, Records, rate_of
from .words import first_names

LEAST_SEEDS = 5
"""An arm needs at least this many fresh seeds."""


@lru_cache(maxsize=KEPT)
def breaches(records: Records) -> list[str]:
    """Breaches of the protocol, a line each, with task, arm and runs; none where the comparison is fair."""
    faults = [f"damaged: {damage}" for damage in records.damages]
    faults += [*_of_no_arm(records), *_seeds(records.protocol)]
    if without := _without_scores(records.lines):
        return [*faults, *without]
    return faults + [f"{task}: {breach}" for task in records.conditions for breach in _of_task(records, task)]


@lru_cache(maxsize=KEPT)
def notes(records: Records) -> list[str]:
    """What is no breach, and a reader should know: runs of several versions of the code, or of none that is known."""
    versions = {line["git"]["commit"] for line in records.lines}
    dirty = sum(bool(line["git"]["dirty"]) for line in records.lines)
    sentences = [f"Runs of {len(versions)} commits."] if len(versions) > 1 else []
    return sentences + ([f"{dirty} of {len(records.lines)} runs are of code that was not committed."] if dirty else [])


def selection_of(records: Records, condition: str) -> Selection:
    """The choice of the learning rates, made again from the trials' validation scores."""
    return select(records.protocol, condition, records.trial)


def marked(records: Records) -> list[str]:
    """Arms whose best learning rate is still at the grid's edge after every extension. This is no breach, but it is
    reported."""
    rows = []
    for task in records.conditions:
        for arm, choice in selection_of(records, task).choices.items():
            if may_be_short(records.lines_in(task, "trial"), choice):
                rate = records.protocol.rate(arm, choice.step)
                rows.append(f"{task}, {arm}: the best learning rate, {rate:g}, is at the edge of what was tried")
    return rows


def may_be_short(lines: list[Line], choice: Choice) -> bool:
    """Whether a better score than an arm's best may lie beyond its grid: its rate stands at the edge, and its score is
    not the highest there is."""
    perfect = bool(lines) and lines[0].get("metric") in (*SHARES, *CORRELATIONS) and choice.score >= 1
    return choice.edge and not perfect


def failed_seeds(records: Records, finals: list[Line], arm: str) -> list[int]:
    """The seeds of an arm's final runs that have no score, since they diverged."""
    lines = [line for line in finals if records.arm_of(line) == arm and line["status"] != "completed"]
    return sorted(line["seed"] for line in lines)


def _of_no_arm(records: Records) -> list[str]:
    """Runs that belong to no cell, by what tells them from the cell that they are most like."""
    faults: dict[str, list[str]] = {}
    for line in records.lines:
        if records.cell(line) is None:
            faults.setdefault(_difference(records, line), []).append(line["run_id"])
    return [f"runs of no declared arm ({difference}): {first_names(runs)}" for difference, runs in faults.items()]


def _difference(records: Records, line: Line) -> str:
    declared = records.declared
    settings = decisive(line["config"], declared.apart)
    pair = min(declared.settings, key=lambda pair: len(declared.unlike(pair, settings)))
    keys = declared.unlike(pair, settings)
    if not keys:
        return "several are alike"
    values = [f"{key} is {settings.get(key)}, declared {declared.settings[pair].get(key)}" for key in keys[:2]]
    return f"{'; '.join(values)}, unlike {', '.join(pair)}"


def _seeds(protocol: Protocol) -> list[str]:
    """Final seeds are fresh, and enough."""
    faults = []
    if both := sorted(set(protocol.selection_seeds) & set(protocol.final_seeds)):
        faults.append(f"seeds {both} chose the learning rates and are final ones too: final seeds must be fresh")
    if len(set(protocol.final_seeds)) < LEAST_SEEDS:
        faults.append(f"{len(set(protocol.final_seeds))} final seeds are declared, fewer than {LEAST_SEEDS}")
    return faults


def _without_scores(lines: list[Line]) -> list[str]:
    """Completed runs without the scores by which rates are chosen and arms compared."""
    lacking = [
        line["run_id"]
        for line in lines
        if line["status"] == "completed"
        for split in (("validation",) if line["config"]["measure"] == "trial" else ("validation", "test"))
        if f"{split}/{line.get('metric')}" not in line.get("metrics", {})
    ]
    return [f"completed runs without a score: {first_names(lacking)}"] if lacking else []


def _of_task(records: Records, task: str) -> Iterator[str]:
    trials, finals = records.lines_in(task, "trial"), records.lines_in(task, "final")
    yield from _trials(records, trials)
    chosen = selection_of(records, task)
    if not trials:
        yield "trials are missing: all"
        return
    if chosen.missing:
        counts = Counter(cell.arm for cell in chosen.missing)
        yield f"trials are missing: {', '.join(f'{count} of {arm}' for arm, count in counts.items())}"
        return
    edges = [arm for arm, choice in chosen.choices.items() if may_be_short(trials, choice)]
    if edges and not records.protocol.extensions:
        yield f"the best rate of {', '.join(edges)} is at the grid's edge, and no extension is declared"
    for arm in records.protocol.arms:
        rate = records.protocol.rate(arm.name, chosen.choices[arm.name].step)
        yield from _finals(records.protocol, arm.name, rate, [x for x in finals if records.arm_of(x) == arm.name])
    both = [*trials, *finals]
    declared = records.declared.scores.get(task)
    if wrong := [x["run_id"] for x in both if "metric" in x and declared and declared != (x["metric"], of_line(x))]:
        yield f"the metric is not the declared one: {first_names(wrong)}"
    for name in (records.protocol.reference, *records.declared.against):
        yield from _reference(records, finals, chosen, name)
    completed = [line for line in both if line["status"] == "completed"]
    yield from _same(records, completed, SAME)
    for seed in sorted({line["seed"] for line in completed}):
        yield from _same(records, [line for line in completed if line["seed"] == seed], SAME_OF_A_SEED)
    of_arms = [[line for line in trials if records.arm_of(line) == arm.name] for arm in records.protocol.arms]
    on_all_bases = [line for name in records.on_all_bases(task) for line in records.lines_in(name, "final")]
    for compared in (*of_arms, on_all_bases):
        yield from _same(records, [line for line in compared if line["status"] == "completed"], SAME_IN_A_STAGE)
    yield from _one_test_split(records, completed)
    yield from _paired(records, both)


def _trials(records: Records, trials: list[Line]) -> Iterator[str]:
    """Every arm has the same number of trials, scored only on validation."""
    protocol = records.protocol
    counts = Counter({arm.name: 0 for arm in protocol.arms})
    counts.update(arm for line in trials if (arm := records.arm_of(line)))
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{arm} {count}" for arm, count in counts.items())
        yield f"unequal numbers of learning-rate trials: {listed}"
    if read := [x["run_id"] for x in trials if any(key.startswith("test/") for key in x.get("metrics", {}))]:
        yield f"learning rates were chosen by runs that read the test split: {first_names(read)}"
    if others := [line["run_id"] for line in trials if line["seed"] not in protocol.selection_seeds]:
        yield f"trials with seeds that are not declared for the selection: {first_names(others)}"


def _finals(protocol: Protocol, arm: str, rate: float, lines: list[Line]) -> Iterator[str]:
    """An arm has one final run of each declared seed, at the chosen rate; one that diverged counts as one."""
    if others := [line["run_id"] for line in lines if not math.isclose(rate_of(line), rate, rel_tol=1e-6)]:
        yield f"{arm}: final runs with another learning rate than the chosen {rate:g}: {first_names(others)}"
    seeds = Counter(line["seed"] for line in lines if line["status"] in ("completed", "diverged"))
    if missing := sorted(set(protocol.final_seeds) - set(seeds)):
        yield f"{arm}: final runs are missing: seeds {', '.join(map(str, missing))}"
    if extra := sorted(set(seeds) - set(protocol.final_seeds)):
        yield f"{arm}: final seeds that were not declared: {', '.join(map(str, extra))}"
    if twice := sorted(seed for seed, count in seeds.items() if count > 1):
        yield f"{arm}: the test split was read more than once: seeds {', '.join(map(str, twice))}"


def _reference(records: Records, finals: list[Line], chosen: Selection, name: str) -> Iterator[str]:
    """Without the best score of a reference there is nothing to compare with."""
    if may_be_short(finals, chosen.choices[name]):
        rate = records.protocol.rate(name, chosen.choices[name].step)
        yield (
            f"the best learning rate of {name}, {rate:g}, is at the edge of what was tried: the reference may be short "
            "of its best score"
        )
    if seeds := failed_seeds(records, finals, name):
        yield f"{name}: final runs diverged, seeds {', '.join(map(str, seeds))}: the reference has no score to match"


BUDGET = ("model", "task", "train")
"""What an arm may set that changes its budget."""
Checks = tuple[tuple[str, tuple[str, ...], Callable[[Line], Any]], ...]
"""Per check: its name; the overrides that let arms differ in it; how to read it from a line. A run with another setting
than declared is of no arm."""
SAME: Checks = (
    ("model", ("model",), lambda line: line["inputs"]["model_sha256"]),
    ("data or splits", ("task",), lambda line: [line["inputs"]["data_sha256"], line["inputs"]["examples"]]),
    ("metric", (), lambda line: [line["metric"], of_line(line)]),
    (
        "training budget",
        BUDGET,
        lambda line: _budget(line, may_stop=line["config"]["train"].get("max_steps") is not None),
    ),
)
SAME_OF_A_SEED: Checks = (("training budget of a seed", BUDGET, lambda line: _budget(line, may_stop=False)),)
SAME_IN_A_STAGE: Checks = (("numeric settings", (), lambda line: [line["versions"], line["hardware"]]),)
"""Of an arm's trials, which choose its rate, and of final runs on all bases of a task: each may be of another machine
than the rest."""
MAY_DIFFER = ("train_examples", "max_length")
"""Settings of a task that leave the test examples as they are. Arms may differ in these alone. Columns are not among
them, because rows with equal texts are kept in one split."""


def _budget(line: Line, may_stop: bool) -> list[int]:
    """Steps, examples and tokens of a run; where training may stop within a pass the steps alone, since seeds then read
    other examples."""
    return [line["time"][key] for key in (("steps",) if may_stop else ("steps", "examples", "tokens"))]


def _same(records: Records, lines: list[Line], checks: Checks) -> Iterator[str]:
    """Arms differ in what their overrides say, and in nothing else that decides a score."""
    machines = same_hardware(line["hardware"] for line in lines)  # what all of them state
    stated = [pair for line in lines for pair in line["versions"].items() if pair[0] not in (*PACKAGES, "python")]
    of_methods = {name: version for (name, version), _ in reversed(Counter(stated).most_common())}  # as PEFT's
    completed = [
        line | {"hardware": machine, "versions": of_methods | line["versions"]}
        for line, machine in zip(lines, machines, strict=True)
    ]
    for subject, keys, read in checks:
        for group in _groups(records, completed, keys):
            kinds: dict[str, list[str]] = {}
            for line in group:
                kinds.setdefault(json.dumps(read(line), sort_keys=True), []).append(line["run_id"])
            if len(kinds) > 1:
                few = min(kinds.values(), key=len)
                yield f"{subject} differ: {len(kinds)} kinds in {len(group)} runs, unlike the others {first_names(few)}"


def _one_test_split(records: Records, lines: list[Line]) -> Iterator[str]:
    """All arms are scored on the same test examples, whatever their overrides say: answers are paired by position."""
    splits = [_test_split(line, records.declared.neutral) for line in lines]
    keys = dict.fromkeys(key for split in splits for key in split)
    if differ := [key for key in keys if len({json.dumps(split.get(key)) for split in splits}) > 1]:
        yield f"the test split is not the same in every run: {', '.join(differ)} differ"


def _test_split(line: Line, neutral: Mapping[str, Any]) -> dict[str, Any]:
    """What the choice of the test examples depends on; records that are older than a setting lack it, as neutral."""
    task = {f"task.{key}": value for key, value in line["config"]["task"].items() if key not in MAY_DIFFER}
    task, inputs = {key: value for key, value in task.items() if value != neutral.get(key)}, line["inputs"]
    return task | {"data_sha256": inputs["data_sha256"], "number of test examples": inputs["examples"].get("test")}


def _groups(records: Records, lines: list[Line], keys: Iterable[str]) -> list[list[Line]]:
    """The lines at once, or arm by arm where an arm's overrides set one of the keys."""
    set_by_arms = {o.partition("=")[0] for arm in records.protocol.arms for o in arm.overrides}
    if not any(name == key or name.startswith(f"{key}.") for name in set_by_arms for key in keys):
        return [lines]
    return [[line for line in lines if records.arm_of(line) == arm.name] for arm in records.protocol.arms]


def _paired(records: Records, lines: list[Line]) -> Iterator[str]:
    """The same seed starts from the same head in every arm, in its trials and in its final runs."""
    if _groups(records, lines, ("model",)) != [lines]:
        return
    for seed in (*records.protocol.final_seeds, *records.protocol.selection_seeds):
        heads = {x["inputs"].get("head_sha256") for x in lines if x["seed"] == seed and "inputs" in x}
        if len(heads) > 1:
            yield f"seed {seed}: the arms start from {len(heads)} different heads"
