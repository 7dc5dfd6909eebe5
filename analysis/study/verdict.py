"""The verdict: per task and type of matrix, is the update of fine-tuning of low rank? From the records alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from . import comparison, update
from .records import KEPT, Records
from .statistics import Interval, Smallest

LOW_SHARE = 1 / 16
"""A rank up to this share of a matrix's smaller side is called low. The share was declared before the first final run,
the margin before the first trial."""
SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"


@dataclass(frozen=True)
class Ruling:
    """The conclusion for one task and one type of matrix (`all` for every matrix at once)."""

    task: str
    module: str
    verdict: str
    r_star: Smallest | None
    """For all matrices only, since LoRA was trained on all of them."""
    k_star: Smallest
    effective: Interval
    null: float
    """The effective rank that noise of these shapes has."""
    common: tuple[int, float, float] | None
    """Of the top k directions, how many two seeds share beyond chance in the column and in the row space."""


@lru_cache(maxsize=KEPT)
def rulings(records: Records) -> list[Ruling]:
    """One per task and type of matrix, the whole first."""
    made = []
    for task in records.conditions:
        cuts, spectra = update.functional(records, task), update.spectral(records, task)
        low = low_rank(records, task)
        r_star = comparison.enough(records, task)
        wider = comparison.enough(records, task, test_examples=True)
        for module in (update.ALL, *update.modules(cuts)):
            whole = module == update.ALL
            k_star = update.functional_rank(records, task, module)
            evidence = [k_star, *(star for star in (r_star, wider) if star)] if whole else [k_star]
            effective = update.entry(spectra, "effective_rank", module)
            key = (task, module, rule(evidence, low), r_star if whole else None, k_star)
            made.append(Ruling(*key, _interval(effective), effective["null"], update.common(records, task, module)))
    return made


def rule(evidence: list[Smallest], low: int) -> str:
    """Supported where every rank is surely at most `low`, not supported where one is surely above it. Undecided where
    no direction at all may be enough, since then the score cannot distinguish ranks."""
    if any(rank.low is None or rank.low > low for rank in evidence):
        return NOT_SUPPORTED
    if any(rank.low == 0 for rank in evidence):
        return UNDECIDED
    return SUPPORTED if all(rank.high is not None and rank.high <= low for rank in evidence) else UNDECIDED


def low_rank(records: Records, task: str) -> int:
    """The largest rank that is called low, from the matrices' smaller sides."""
    line = next(iter(comparison.seeds_of(records, task, records.protocol.reference).values()))
    return int(min(min(row["shape"]) for row in line["matrices"].values()) * LOW_SHARE)


def answer(records: Records) -> str:
    """The study's answer in a sentence."""
    return first_line(rulings(records)) if update.has_cuts(records) else arms_line(records)


def arms_line(records: Records) -> str:
    """Which arms match the reference, for a study whose reference is no full fine-tuning."""
    parts, margin = [], records.protocol.margin
    for task in records.conditions:
        gains = {arm: seeds for arm, (seeds, _) in comparison.gains(records, task).items()}
        matching = [arm for arm, seeds in gains.items() if seeds.low > -margin]
        short = [arm for arm, seeds in gains.items() if seeds.high < -margin]
        unsure = [arm for arm in gains if arm not in matching and arm not in short]
        says = [("surely within the margin", matching), ("surely short of it", short), ("undecided", unsure)]
        stated = "; ".join(f"{verdict}: {', '.join(arms)}" for verdict, arms in says if arms)
        parts.append(f"On {task}, against {records.protocol.reference} (margin {margin:g}): {stated}.")
    return " ".join(parts)


def first_line(of_study: list[Ruling]) -> str:
    """The answer in a sentence, for the README."""
    parts = []
    for ruling in (r for r in of_study if r.module == update.ALL):
        lora = f"LoRA matches full fine-tuning from rank {_size(ruling.r_star)}, and " if ruling.r_star else ""
        parts.append(
            f"on {ruling.task} the low-rank hypothesis is {ruling.verdict}: {lora}the full update keeps its score when "
            f"cut to its top {_size(ruling.k_star)} directions"
        )
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "."


def _size(rank: Smallest) -> str:
    if rank.low is None:
        return "above all that were tried"
    if rank.size is None:
        return f"{rank.low} or more (undecided)"
    return str(rank)


def _interval(row: dict[str, Any]) -> Interval:
    return Interval(row["mean"], row["low"], row["high"], row["seeds"])
