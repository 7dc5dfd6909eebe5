"""Do a condition's lines agree with what was declared for their cells, and with each other?"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any

from lorax_lab.study.continuity import KEY
from lorax_lab.study.declaration import Settings, decisive, same
from lorax_lab.study.protocol import CHOSEN_FROM, Choice, Selection, sha256_of_trials
from lorax_lab.study.published import Line

from ..scores import CORRELATIONS, SHARES
from . import copies
from .examples import ROUNDING
from .markdown import some
from .records import Records
from .spectra import FORMS, PRODUCT, rank_in

GROUPS = {"method": ("method.", "rank"), "task": ("task.",), "model": ("model",)}
"""The settings that an override of a whole group sets."""
BYTES = 4
"""Of a weight that trains: weights are fp32 whatever the precision of a step."""


def strangers(records: Records) -> list[str]:
    """Lines that belong to no cell, by what tells them from the cell that they are most like."""
    faults: dict[str, list[str]] = {}
    for line in records.lines:
        if records.cell(line) is None:
            faults.setdefault(_difference(records, line), []).append(line["run_id"])
    return [f"runs of no declared arm ({difference}): {some(runs)}" for difference, runs in faults.items()]


def _difference(records: Records, line: Line) -> str:
    declared = records.declared
    pair = min(declared.cells, key=lambda pair: len(declared.unlike(pair, line["config"])))
    keys, own = declared.unlike(pair, line["config"]), decisive(line["config"])
    if not keys:
        return "several are alike"
    values = [f"{key} is {own.get(key)}, declared {declared.cells[pair].get(key)}" for key in keys[:2]]
    return f"{'; '.join(values)}, unlike {', '.join(pair)}"


def of_condition(records: Records, condition: str, chosen: Selection) -> Iterator[str]:
    """What disagrees within a condition whose rates are chosen."""
    trials, finals = records.of(condition, "trial"), records.of(condition, "final")
    lines = [*trials, *finals]
    yield from _settings(records, condition, lines)
    yield from _measured(records, finals)
    yield from _parameters(records, lines)
    yield from _metric(records, condition, lines)
    yield from copies.without_losses(records, lines)
    yield from _order(records, trials, finals)
    yield from _reference(records, finals, chosen)


def _settings(records: Records, condition: str, lines: list[Line]) -> Iterator[str]:
    """The runs of an arm have one configuration, and those of two arms differ in what their overrides set."""
    declared, by_arm = records.declared, dict[str, Settings]()
    for arm in records.protocol.arms:
        kinds: dict[str, Settings] = {}
        for line in lines:
            if records.arm_of(line) == arm.name:
                own = decisive(line["config"], declared.apart)
                kept = {k: v for k, v in own.items() if v is not None and v != declared.neutral.get(k)}
                kinds.setdefault(json.dumps(kept, sort_keys=True), own)
        settings = list(kinds.values())
        if len(settings) > 1:
            yield f"{arm.name}: its runs differ in {_unlike(settings[0], settings[1], declared.neutral)}"
        by_arm |= {arm.name: settings[0]} if settings else {}
        set_by = declared.by_overrides.get((condition, arm.name), {})
        wrong = [k for k, v in set_by.items() if k in declared.settings.get((condition, arm.name), {})]
        wrong = [
            k
            for k in wrong
            if k not in ("task.name", "method.name", "model")
            and not same(set_by, declared.settings[condition, arm.name], k, {})
        ]
        if wrong:
            yield f"{arm.name}: its declared overrides are not its declared settings: {', '.join(wrong)}"
    for one, other in combinations(by_arm, 2):
        set_by_either = {o.partition("=")[0] for name in (one, other) for o in records.protocol.arm(name).overrides}
        if by_arm[one].get("method.name") == by_arm[other].get("method.name"):
            differ = _keys_unlike(by_arm[one], by_arm[other], declared.neutral)
            if undeclared := [key for key in differ if not any(_sets(override, key) for override in set_by_either)]:
                yield f"{one} and {other} differ in {', '.join(undeclared)}, which neither sets"


def _keys_unlike(one: Settings, other: Settings, neutral: Settings) -> list[str]:
    return sorted(key for key in one.keys() | other.keys() if not same(one, other, key, neutral))


def _unlike(one: Settings, other: Settings, neutral: Settings) -> str:
    keys = _keys_unlike(one, other, neutral)
    return ", ".join(f"{key} ({one.get(key)} and {other.get(key)})" for key in keys)


def _sets(override: str, key: str) -> bool:
    own = override.lstrip("+~")
    return own == key or key.startswith(GROUPS.get(own, ("\0",)))


def _measured(records: Records, finals: list[Line]) -> Iterator[str]:
    """Final runs measure what was declared, and the same matrices."""
    for arm in records.protocol.arms:
        own = [o.partition("=")[2] for o in records.declared.final.get(arm.name, ()) if o.startswith("measure=")]
        wanted = own[-1] if own else "standard"
        others = [x["run_id"] for x in finals if records.arm_of(x) == arm.name and x["config"]["measure"] != wanted]
        if others:
            yield f"{arm.name}: final runs that did not measure what was declared, {wanted}: {some(others)}"
    shapes = {
        line["run_id"]: (
            {name: (row["shape"], row["module"], row["layer"]) for name, row in line["matrices"].items()},
            line["config"]["method"].get("target_modules"),
            line["config"]["model"],
        )
        for line in finals
        if line.get("matrices")
    }
    yield from _odd("other matrices are measured than in the others", shapes, lambda s: s[0], lambda s: s[1:])


def bases(records: Records) -> Iterator[str]:
    """The norm of a matrix that was not trained yet is the same in all runs of one base."""
    norms: dict[tuple[str, ...], dict[float, list[str]]] = {}
    for line in records.lines:
        base = (str(line["config"]["model"]), str(line.get("inputs", {}).get("model_sha256")))
        precision = str(line["config"]["train"].get("precision"))
        for name, row in line.get("matrices", {}).items():
            if row.get("base_norm") is not None:
                runs = norms.setdefault((*base, precision, name), {}).setdefault(row["base_norm"], [])
                runs.append(line["run_id"])
    odd = [run for kinds in norms.values() if _differ(kinds) for run in min(kinds.values(), key=len)]
    if odd:
        yield f"a matrix of one base has another norm than in other runs: {some(dict.fromkeys(odd))}"


def before(records: Records) -> Iterator[str]:
    """The model before training scores the same in all final runs of a condition, in whichever of them says it."""
    for name in records.conditions:
        finals = [line for line in records.of(name, "final") if line["status"] == "completed"]
        scores: dict[str, dict[float, list[str]]] = {}
        for line in finals:
            for key in dict.fromkeys(key for other in finals for key in other.get("baselines", {})):
                score = line.get("baselines", {}).get(key)
                scores.setdefault(key, {}).setdefault(math.inf if score is None else score, []).append(line["run_id"])
        odd = [run for kinds in scores.values() if _differ(kinds) for run in min(kinds.values(), key=len)]
        if odd:
            runs = some(dict.fromkeys(odd))
            yield f"the model before training has another score on {name} than in other runs: {runs}"


def _differ(values: Iterable[float]) -> bool:
    return not math.isclose(min(values), max(values), rel_tol=ROUNDING)


def _odd(
    text: str, values: dict[str, Any], read: Callable[[Any], Any], within: Callable[[Any], Any] = lambda _: None
) -> Iterator[str]:
    """A fault where values of one group are of several kinds, with the runs of the rarest kind."""
    groups: dict[str, dict[str, list[str]]] = {}
    for run, value in values.items():
        kinds = groups.setdefault(json.dumps(within(value), sort_keys=True), {})
        kinds.setdefault(json.dumps(read(value), sort_keys=True), []).append(run)
    for kinds in groups.values():
        if len(kinds) > 1:
            rarest = min(kinds.values(), key=len)
            yield f"{text}: {some(rarest)}"


def _parameters(records: Records, lines: list[Line]) -> Iterator[str]:
    """The numbers of parameters follow from the arm: an adapter's from its rank and shapes, heads and bases are one."""
    completed = [line for line in lines if line["status"] == "completed" and line.get("parameters")]
    facts = {line["run_id"]: (line, records.arm_of(line)) for line in completed}
    text = "numbers of parameters are not those of the arm's other runs"
    yield from _odd(text, facts, lambda f: f[0]["parameters"], lambda f: f[1])

    def alike(fact: tuple[Line, str | None]) -> list[Any]:
        """What has one head and one base: the model, and what an arm sets beside its method and rank."""
        arms = [arm for arm in records.protocol.arms if arm.name == fact[1]]
        own = [o for arm in arms for o in arm.overrides if not o.startswith(("method", "rank="))]
        return [fact[0]["config"]["model"], own]

    yield from _odd("another head is trained", facts, lambda f: f[0]["parameters"]["head"], alike)
    known = {run: f for run, f in facts.items() if f[0]["method"] in FORMS}
    yield from _odd("the base has another size", known, lambda f: _base(f[0]), alike)
    weights = {run: f for run, f in known.items() if "weights" in f[0]["memory"]["by_category"]}
    text = "the bytes of the weights are not those of the parameters"
    yield from _odd(text, weights, lambda f: _bytes_over(f[0]), lambda f: [f[0]["method"], *alike(f)])
    wrong = [line["run_id"] for line in completed if line["method"] == PRODUCT and not _adapter_follows(line)]
    if wrong:
        yield f"the adapter's parameters are not those of its rank and matrices: {some(wrong)}"


def _base(line: Line) -> int:
    counts = line["parameters"]
    return int(counts["total"] - (counts["adapter"] if line["method"] == PRODUCT else 0))


def _bytes_over(line: Line) -> int:
    return int(line["memory"]["by_category"]["weights"] - BYTES * line["parameters"]["total"])


def _adapter_follows(line: Line) -> bool:
    shapes = {name: row["shape"] for name, row in line.get("matrices", {}).items()}
    total = sum((rank_in(line, name) or 0) * sum(shape) for name, shape in shapes.items())
    return not shapes or bool(line["parameters"]["adapter"] == total)


def _metric(records: Records, condition: str, lines: list[Line]) -> Iterator[str]:
    declared = records.declared.scores.get(condition)
    wrong = []
    for line in lines:
        if "metric" in line:
            configured = line["config"]["task"].get("metric")
            own = (line["metric"], bool(line.get("higher_is_better", True)))
            if (declared and own != declared) or (configured and configured != own[0]):
                wrong.append(line["run_id"])
    if wrong:
        yield f"the metric is not the declared one: {some(wrong)}"


def _order(records: Records, trials: list[Line], finals: list[Line]) -> Iterator[str]:
    """Final runs follow the trials that chose their rates, those that were recorded under the same declaration or an
    earlier one, and say which these were."""
    place = {declared.sha256: number for number, declared in enumerate(records.declared.versions)}
    early, others = [], []
    for line in finals:
        own = place.get(str(line.get(KEY)), 0)
        before = [trial for trial in trials if place.get(str(trial.get(KEY)), 0) <= own]
        if any(line["written"] < trial["written"] for trial in before):
            early.append(line["run_id"])
        if KEY in line and line.get(CHOSEN_FROM) != sha256_of_trials(before):
            others.append(line["run_id"])
    if early:
        yield f"final runs that are older than the trials that chose their rates: {some(early)}"
    if others:
        yield f"final runs whose rates were chosen from other trials than those recorded: {some(others)}"


def may_be_short(lines: Sequence[Line], choice: Choice) -> bool:
    """Whether a better score than an arm's best may lie beyond its grid: its rate stands at the edge, and its score is
    not the highest there is.

    Args:
        lines: of the arm's condition.
    """
    perfect = bool(lines) and lines[0].get("metric") in (*SHARES, *CORRELATIONS) and choice.score >= 1
    return choice.edge and not perfect


def _reference(records: Records, finals: list[Line], chosen: Selection) -> Iterator[str]:
    """Without the reference's best score there is nothing to compare with."""
    name = records.protocol.reference
    if may_be_short(finals, chosen.choices[name]):
        rate = records.protocol.rate(name, chosen.choices[name].step)
        yield (
            f"the best learning rate of {name}, {rate:g}, is at the edge of what was tried: the reference may be short "
            "of its best score"
        )
    if seeds := failed_seeds(records, finals, name):
        yield f"{name}: final runs diverged, seeds {', '.join(map(str, seeds))}: the reference has no score to match"


def failed_seeds(records: Records, finals: list[Line], arm: str) -> list[int]:
    """The seeds of an arm's final runs that have no score, since they diverged."""
    lines = [line for line in finals if records.arm_of(line) == arm and line["status"] != "completed"]
    return sorted(line["seed"] for line in lines)
