"""The verdict: per task and type of matrix, is the update of fine-tuning of low rank? From the records alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from ..pages import render
from . import comparison, update
from .margin import head_is_enough
from .records import KEPT, Records
from .statistics import Interval, Smallest
from .validator import breaches
from .words import Scale, listed

SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"
NO_VERDICT = "no verdict"
HIGH, LOW, NOT_SURE = "high", "low", "not sure"
SAMPLE = re.compile(r" \(sample \d+\)$")
"""Ends the name of a condition that is another task of the study with other training examples."""
FEW = 3
"""Tasks that one sentence tells each by itself; more are counted, and named by their verdict."""


@dataclass(frozen=True)
class Ruling:
    """The conclusion for one task and one type of matrix (`all` for every matrix at once)."""

    task: str
    module: str
    verdict: str
    k_star: Smallest
    at_k: Interval | None
    """The gain over the whole update at k*; None where no cut is enough."""
    effective: Interval
    null: float
    """The effective rank that noise of these shapes has."""
    common: tuple[int, float, float] | None = None
    """Of the top k directions, how many two seeds share beyond chance in the column and in the row space."""
    r_star: Smallest | None = None
    """For all matrices only, since LoRA was trained on all of them."""
    at_r: Interval | None = None
    """The gain over full fine-tuning at r*; None where no rank is enough."""
    by_loss: Smallest | None = None
    """r* by the log loss on test, for all matrices only; None where it has no declared margin."""
    on_test: bool = True
    """Whether k* is decided on examples that chose nothing."""
    worse: tuple[int, ...] = ()
    """The ranks above r* at which LoRA is surely worse than full fine-tuning."""
    scale: Scale = field(default_factory=Scale)


@lru_cache(maxsize=KEPT)
def rulings(records: Records) -> list[Ruling]:
    """One per task and type of matrix, the whole first."""
    made = []
    for task in records.conditions:
        made.append(_of_all_matrices(records, task))
        modules = update.modules(update.functional(records, task))
        made += [_ruling(records, task, module) for module in modules if len(modules) > 1]
    return made


def _of_all_matrices(records: Records, task: str) -> Ruling:
    r_star = comparison.enough(records, task)
    ruling = _ruling(records, task, update.ALL, [r_star] if r_star else [])
    ruling = replace(ruling, r_star=r_star, by_loss=comparison.enough_by_loss(records, task))
    if r_star is None or r_star.size is None:
        return ruling
    by_rank = comparison.by_rank(records, comparison.gains(records, task))
    worse = sorted(rank for rank, gain in by_rank.items() if rank > r_star.size and gain.high < 0)
    return replace(ruling, at_r=by_rank[r_star.size], worse=tuple(worse))


def _ruling(records: Records, task: str, module: str, r_stars: Sequence[Smallest] = ()) -> Ruling:
    k_star = update.functional_rank(records, task, module)
    gains = update.gains(records, task, module=module)
    effective = update.entry(update.spectral(records, task), "effective_rank", module)
    return Ruling(
        task,
        module,
        rule([k_star, *r_stars], low_rank(records, task), head_is_enough(records, task)),
        k_star,
        at_k=None if k_star.size is None else gains[k_star.size],
        effective=interval_of(effective),
        null=effective["null"],
        common=update.common(records, task, module),
        on_test=update.is_on_test(records, task, module=module),
        scale=records.scale(task),
    )


def rule(evidence: list[Smallest], low: int, solved: bool = False) -> str:
    """Supported where every rank is surely at most `low`, not supported where one is surely above it: a size of `low`
    or more was tried and falls short. Undecided where no direction at all may be enough, since then the score cannot
    distinguish ranks; also where it is `solved` without an update, since the head alone may be enough."""
    if solved:
        return UNDECIDED
    if any((rank.low if rank.low is not None else (rank.tried or 0) + 1) > low for rank in evidence):
        return NOT_SUPPORTED
    if any(rank.low == 0 for rank in evidence):
        return UNDECIDED
    return SUPPORTED if all(rank.high is not None and rank.high <= low for rank in evidence) else UNDECIDED


def by_task(records: Records) -> dict[str, str]:
    """The verdict on each task's whole update; `NO_VERDICT` where the comparison is not fair or not complete."""
    if breaches(records):
        return dict.fromkeys(records.conditions, NO_VERDICT)
    return {ruling.task: ruling.verdict for ruling in of_tasks(records)}


def headline(verdicts: Mapping[str, str]) -> str:
    """The verdicts in a sentence, those that are alike together.

    >>> headline({"a": SUPPORTED, "b": UNDECIDED, "c": SUPPORTED})
    'Low rank is supported on a and c, undecided on b'
    """
    kinds = [kind for kind in (SUPPORTED, NOT_SUPPORTED, UNDECIDED, NO_VERDICT) if kind in verdicts.values()]
    parts = [f"{kind} on {listed(task for task in verdicts if verdicts[task] == kind)}" for kind in kinds]
    return f"Low rank is {', '.join(parts)}" if kinds != [NO_VERDICT] else f"Low rank: {NO_VERDICT}"


def low_rank(records: Records, task: str) -> int:
    """The largest rank that is called low: the declared share of the matrices' smaller sides."""
    line = update.lines_of(records, task)[0]
    return int(min(min(row["shape"]) for row in line["matrices"].values()) * records.declared.low_share)


def of_tasks(records: Records) -> list[Ruling]:
    """The rulings of all matrices at once, one for each task."""
    return [ruling for ruling in rulings(records) if ruling.module == update.ALL]


def answer(records: Records) -> str:
    """The study's answer in a sentence: which update is of low rank, or which arms match the reference."""
    if not update.asks_how_low(records):
        arms = [by_match(records, task) for task in records.conditions]
        return render("answer.md", arms=arms, reference=records.protocol.reference).strip()
    return answer_of(of_tasks(records), records.condition_word)


def sentences(records: Records) -> list[str]:
    """A sentence for each task, where the study's answer does not have them."""
    rulings = of_tasks(records) if update.asks_how_low(records) else []
    return [answer_of([replace(ruling, by_loss=None)]) for ruling in rulings] if len(rulings) > FEW else []


def answer_of(rulings: list[Ruling], word: str = "task") -> str:
    """The answer over tasks: a part for each of a few; of more how many have which verdict, with the ranks that decide
    it, by the ends of their intervals that speak against the verdict.

    Args:
        rulings: of all matrices at once, one for each task.
        word: what a condition of the study is called.
    """
    counted: dict[str, Any] = {}
    for kind in (SUPPORTED, NOT_SUPPORTED, UNDECIDED) if len(rulings) > FEW else ():
        if of_kind := [r for r in rulings if r.verdict == kind]:
            stars = [r.r_star for r in of_kind if r.r_star]
            counted[kind] = {"rulings": of_kind, "r": _highest(stars), "k": _highest([r.k_star for r in of_kind])}
    by_task = {r.task: r.by_loss for r in rulings if r.by_loss}
    by_loss: dict[str, Any] = {"high": [task for task, star in by_task.items() if star.high]}
    by_loss |= {"without": [task for task, star in by_task.items() if not star.high]}
    by_loss |= {"several": len(by_task) > 1, "most": _highest(list(by_task.values()))}
    repeated = sum(SAMPLE.search(r.task) is not None for r in rulings)
    numbers = {"rulings": rulings, "word": word, "counted": counted, "repeated": repeated}
    return render("answer.md", **numbers, by_loss=by_loss if by_task else {}).strip()


def _highest(stars: list[Smallest]) -> int | None:
    """The largest upper end of the intervals; None where no interval has one."""
    return max((star.high for star in stars if star.high is not None), default=None)


def by_match(records: Records, task: str) -> tuple[str, str, dict[str, list[str]]]:
    """The task, its margin, and the arms by whether they match the reference."""
    gains, margin = comparison.gains(records, task), records.protocol.margin
    matching = [arm for arm, gain in gains.items() if gain.low > -margin]
    short = [arm for arm, gain in gains.items() if gain.high < -margin]
    unsure = [arm for arm in gains if arm not in (*matching, *short)]
    verdicts = {"surely within the margin": matching, "surely short of it": short, "undecided": unsure}
    return task, records.scale(task).amount(f"{margin:g}"), verdicts


def reading(interval: Interval, low: int) -> str:
    """What a spectral rank says of the update: low where it surely is at most `low`, high where it surely is above."""
    if interval.high <= low:
        return LOW
    return HIGH if interval.low > low else NOT_SURE


def by_spectrum(records: Records) -> list[dict[str, Any]]:
    """What the spectrum alone would have said, by the line that r* and k* are read by: which tasks are low, high or not
    sure (`kinds`), and by which measures, each with its means and those of noise over the tasks."""
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for measure in update.MEASURES:
        rows = {task: update.entry(update.spectral(records, task), measure) for task in records.conditions}
        says = {task: reading(interval_of(row), low_rank(records, task)) for task, row in rows.items()}
        kinds = {kind: [task for task in says if says[task] == kind] for kind in says.values()}
        group = groups.setdefault(tuple(says.values()), {"kinds": kinds, "measures": []})
        means, nulls = ([row[key] for row in rows.values()] for key in ("mean", "null"))
        group["measures"].append({"name": measure, "means": means, "nulls": nulls})
    return list(groups.values())


def interval_of(row: dict[str, Any]) -> Interval:
    """The interval in a row of `update.spectral`."""
    return Interval(row["mean"], row["low"], row["high"], row["seeds"])
