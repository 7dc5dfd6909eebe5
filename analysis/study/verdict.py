"""The verdict: per task and type of matrix, is the update of fine-tuning of low rank? From the records alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from . import comparison, update
from .margin import head_is_enough
from .markdown import listed
from .records import KEPT, Records
from .scale import Scale
from .statistics import Interval, Smallest
from .validator import breaches

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
    r_star: Smallest | None
    """For all matrices only, since LoRA was trained on all of them."""
    k_star: Smallest
    at_r: Interval | None
    """The gain over full fine-tuning at r*; None where no rank is enough."""
    at_k: Interval | None
    """The gain over the whole update at k*; None where no cut is enough."""
    effective: Interval
    null: float
    """The effective rank that noise of these shapes has."""
    common: tuple[int, float, float] | None
    """Of the top k directions, how many two seeds share beyond chance in the column and in the row space."""
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
        cuts, spectra = update.functional(records, task), update.spectral(records, task)
        low, solved, scale = low_rank(records, task), head_is_enough(records, task), records.scale(task)
        r_star, of_ranks = (
            comparison.enough(records, task),
            comparison.by_rank(records, comparison.gains(records, task)),
        )
        at_r: Interval | None = None
        worse: tuple[int, ...] = ()
        if r_star and r_star.size is not None:
            at_r = of_ranks.get(r_star.size)
            worse = tuple(sorted(rank for rank, gain in of_ranks.items() if rank > r_star.size and gain.high < 0))
        alone = update.modules(cuts)
        for module in (update.ALL, *(alone if len(alone) > 1 else [])):
            whole = module == update.ALL
            k_star = update.functional_rank(records, task, module)
            at_k = update.gains(records, task, module=module).get(k_star.size) if k_star.size is not None else None
            evidence = [k_star, r_star] if whole and r_star else [k_star]
            effective = update.entry(spectra, "effective_rank", module)
            stars = (r_star if whole else None, k_star, at_r if whole else None, at_k)
            spectrum = (_interval(effective), effective["null"], update.common(records, task, module))
            beside = (
                comparison.enough_by_loss(records, task) if whole else None,
                update.is_on_test(records, task, module=module),
                worse if whole else (),
            )
            made.append(Ruling(task, module, rule(evidence, low, solved), *stars, *spectrum, *beside, scale=scale))
    return made


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
    parts = [f"{kind} on {listed(task for task, own in verdicts.items() if own == kind)}" for kind in kinds]
    return f"Low rank is {', '.join(parts)}" if kinds != [NO_VERDICT] else f"Low rank: {NO_VERDICT}"


def low_rank(records: Records, task: str) -> int:
    """The largest rank that is called low: the declared share of the matrices' smaller sides."""
    line = next(iter(comparison.seeds_of(records, task, records.protocol.reference).values()))
    return int(min(min(row["shape"]) for row in line["matrices"].values()) * records.declared.low_share)


def answer(records: Records) -> str:
    """The study's answer in a sentence."""
    if not update.asks_how_low(records):
        return arms_line(records)
    whole = of_tasks(records)
    stated = first_line(whole) if len(whole) <= FEW else counted_line(whole, records.condition_word)
    return f"{stated}{loss_line(whole)}"


def loss_line(whole: list[Ruling]) -> str:
    """r* by the second endpoint, the log loss on test, where that was declared: by the upper ends of the intervals."""
    found = {r.task: r.by_loss for r in whole if r.by_loss}
    if not found:
        return ""
    high = {task: star.high for task, star in found.items() if star.high is not None}
    without = [task for task in found if task not in high]
    parts = [f"at most {max(high.values())}{f' on {listed(high)}' if len(found) > 1 else ''}"] if high else []
    parts += [f"not found on {listed(without)}" if len(found) > 1 else "not found"] if without else []
    return f" By log loss r* is {', '.join(parts)}."


def of_tasks(records: Records) -> list[Ruling]:
    """The rulings of all matrices at once, one for each task."""
    return [ruling for ruling in rulings(records) if ruling.module == update.ALL]


def sentences(records: Records) -> list[str]:
    """A sentence for each task, where the study's answer does not have them."""
    whole = of_tasks(records) if update.asks_how_low(records) else []
    return [first_line([ruling]) for ruling in whole] if len(whole) > FEW else []


def arms_line(records: Records) -> str:
    """Which arms match the reference, for a study that does not ask how low the rank is."""
    parts, margin = [], records.protocol.margin
    for task in records.conditions:
        stated_margin = records.scale(task).amount(f"{margin:g}")
        gains = comparison.gains(records, task)
        matching = [arm for arm, gain in gains.items() if gain.low > -margin]
        short = [arm for arm, gain in gains.items() if gain.high < -margin]
        unsure = [arm for arm in gains if arm not in matching and arm not in short]
        says = [("surely within the margin", matching), ("surely short of it", short), ("undecided", unsure)]
        stated = "; ".join(f"{verdict}: {', '.join(arms)}" for verdict, arms in says if arms)
        parts.append(f"On {task}, against {records.protocol.reference} (margin {stated_margin}): {stated}.")
    return " ".join(parts)


def first_line(of_study: list[Ruling]) -> str:
    """The answer in a sentence, for the README. A score is kept, or a match plain, only where no loss is sure."""
    parts = [
        f"on {r.task} the low-rank hypothesis is {r.verdict}: {_of_lora(r)}{_of_cuts(r)}"
        for r in of_study
        if r.module == update.ALL
    ]
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "."


def counted_line(whole: list[Ruling], word: str = "task") -> str:
    """The answer of a study of many tasks, or other conditions: how many have which verdict, and the ranks that decide
    it, by the sides of their intervals that speak against the verdict."""
    kinds = {kind: [r for r in whole if r.verdict == kind] for kind in (SUPPORTED, NOT_SUPPORTED, UNDECIDED)}
    parts = [f"{kind} on {len(found)} ({_named(kind, found)})" for kind, found in kinds.items() if found]
    repeated = sum(SAMPLE.search(r.task) is not None for r in whole)
    samples = f" and {repeated} second training sample{'s' * (repeated > 1)}" if repeated else ""
    return f"Of {len(whole) - repeated} {word}s{samples} the low-rank hypothesis is {'; '.join(parts)}."


def _named(kind: str, found: list[Ruling]) -> str:
    if kind == NOT_SUPPORTED:
        return ", and ".join(f"{r.task}, with {_stars(r)}" for r in found)
    tasks = listed(r.task for r in found)
    if kind == UNDECIDED:
        return tasks
    k = max(r.k_star.high for r in found if r.k_star.high is not None)
    r = max((r.r_star.high for r in found if r.r_star and r.r_star.high is not None), default=None)
    ends = f"r* at most {r} and k* at most {k}" if r else f"k* at most {k}"
    return f"{tasks}, with {ends} by the upper ends of the 95 % intervals"


def _stars(ruling: Ruling) -> str:
    k_star = f"k* {ruling.k_star}"
    return f"r* {ruling.r_star} and {k_star}" if ruling.r_star else k_star


def _of_lora(ruling: Ruling) -> str:
    star, at = ruling.r_star, ruling.at_r
    if star is None:
        return ""
    if at is None:
        if star.low is None:
            return "LoRA is surely short of full fine-tuning even at the highest rank tried, and "
        return f"no rank is shown to be enough for LoRA, {star.low} is the lowest that may be, and "
    there = f", where it {ruling.scale.change(at)}" if at.high < 0 or at.low > 0 else ""
    if at.high < 0 or ruling.worse:
        above = f", and surely worse than it at rank {listed(ruling.worse)}" if ruling.worse else ""
        return f"LoRA is within the margin of full fine-tuning from rank {star}{there}{above}, and "
    return f"LoRA matches full fine-tuning from rank {star}{there}, and "


def _of_cuts(ruling: Ruling) -> str:
    star, at = ruling.k_star, ruling.at_k
    if at is None:
        if star.low is None:
            return "the full update is surely short of itself at every cut that was scored"
        return f"no cut of the full update is shown to be enough, {star.low} directions are the fewest that may be"
    split = "" if ruling.on_test else ", on validation"
    if star.size == 0:
        return f"the model {ruling.scale.change(at)} without any update of the matrices (k = 0){split}"
    return (
        f"the full update {ruling.scale.change(at)} when cut to its top {star} direction{'s' * (star.size != 1)}{split}"
    )


def reading(interval: Interval, low: int) -> str:
    """What a spectral rank says of the update: low where it surely is at most `low`, high where it surely is above."""
    if interval.high <= low:
        return LOW
    return HIGH if interval.low > low else NOT_SURE


def spectrum_line(records: Records) -> str:
    """What the spectrum alone would have said, each measure for itself, by the line that r* and k* are read by."""
    groups: dict[str, list[str]] = {}
    for measure in update.MEASURES:
        entries = {task: update.entry(update.spectral(records, task), measure) for task in records.conditions}
        says = {task: reading(_interval(row), low_rank(records, task)) for task, row in entries.items()}
        means = _values([row["mean"] for row in entries.values()])
        noise = listed(dict.fromkeys(f"{row['null']:.0f}" for row in entries.values()))
        kinds = dict.fromkeys(says.values())
        by_task = [f"{kind} on {listed(task for task, said in says.items() if said == kind)}" for kind in kinds]
        key = next(iter(kinds)) if len(kinds) == 1 else " and ".join(by_task)
        groups.setdefault(key, []).append(f"{measure.replace('_', ' ')} ({means}; noise {noise})")
    line = listed(sorted({low_rank(records, task) for task in records.conditions}))
    stated = "; ".join(f"{key} by {', '.join(measures)}" for key, measures in groups.items())
    return f"By the same line, {line}, the spectrum alone would have said {stated}."


def _values(means: list[float]) -> str:
    """The means in whole numbers, each once; of many the least and the greatest."""
    if len(means) > FEW and not any(map(math.isnan, means)):
        means = [min(means), max(means)]
        return " to ".join(dict.fromkeys(map(_whole, means)))
    return listed(dict.fromkeys(map(_whole, means)))


def _whole(mean: float) -> str:
    return "no value" if math.isnan(mean) else f"{mean:.0f}"


def _interval(row: dict[str, Any]) -> Interval:
    return Interval(row["mean"], row["low"], row["high"], row["seeds"])
