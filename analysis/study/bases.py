"""Each base of a study beside its first: the update's spectral ranks, and the share kept at each size. Seeds and data
of a task are the same on every base, so the differences are paired.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from . import share
from .comparison import seeds_of
from .records import Records
from .share import Scores
from .statistics import Interval, crossed, t_interval

FACTOR = "base"
"""The first factor of such a study."""
SPECTRAL = ("effective_rank", "stable_rank")
DECIDED = {"rank": 4, "k": 16, "dimension": 100_000}
"""The size of each side at which bases are compared on the page; the table has every size."""


def is_of_bases(records: Records) -> bool:
    """Whether the study's first factor is the base."""
    return next(iter(records.declared.factors)) == FACTOR


def places(records: Records) -> Iterator[tuple[str, str, str, str]]:
    """(condition, base, task, the condition of the first base on this task) of each condition."""
    first = next(iter(records.declared.factors[FACTOR]))
    for base, *others in product(*records.declared.factors.values()):
        task = ", ".join(others)
        yield f"{base}, {task}", base, task, f"{first}, {task}"


def table(records: Records) -> pd.DataFrame:
    """One row per base, task and number: of the spectrum (its size is empty), and of each side and size.

    Columns: base, task, quantity, size, value, low, high, and of every base but the first its difference from that,
    difference, difference_low, difference_high. A share has no interval here (`shares.csv`), and none at all where full
    fine-tuning is not surely better than the head alone.
    """
    rows = []
    for condition, base, task, first in places(records):
        against = None if condition == first else first
        parts = (*_spectral_rows(records, condition, against), *_share_rows(records, condition, against))
        rows += [{"base": base, "task": task} | row for row in parts]
    return pd.DataFrame(rows).astype({"size": "Int64"})


def _spectral_rows(records: Records, condition: str, first: str | None) -> Iterator[dict[str, Any]]:
    for measure in SPECTRAL:
        here, there = (_by_seed(records, name, measure) if name else {} for name in (condition, first))
        paired = t_interval([here[seed] - there[seed] for seed in sorted(here.keys() & there.keys())])
        yield {"quantity": measure, "size": None} | _numbers(t_interval(list(here.values())), paired)


def _share_rows(records: Records, condition: str, first: str | None) -> Iterator[dict[str, Any]]:
    here, there = share.scores(records, condition), share.scores(records, first) if first else None
    if here is None:
        return
    for (side, size), arm in here.arms.items():
        share_kept = Interval(share_by_example(here, arm)[0], math.nan, math.nan, len(arm))
        paired = difference(here, there, (side, size)) if there and (side, size) in there.arms else t_interval([])
        yield {"quantity": side, "size": size} | _numbers(share_kept, paired)


def share_by_example(scores: Scores, arm: np.ndarray) -> tuple[float, np.ndarray]:
    """The share s that an arm keeps, and how each seed and example moves it, (seeds, examples) with a mean of 0:
    (arm − s · full − (1 − s) · zero) / (full − zero), the share's linear part (delta method)."""
    brings = float(scores.full.mean() - scores.zero.mean())
    share_kept = float(arm.mean() - scores.zero.mean()) / brings
    return share_kept, (arm - share_kept * scores.full - (1 - share_kept) * scores.zero) / brings


def difference(here: Scores, there: Scores, place: tuple[str, int]) -> Interval:
    """The share kept at a side and size less that of another base, with its 95 % interval, paired by seed and example.
    What fine-tuning brings has to be surely above 0 on both."""
    (kept, moved), (kept_there, moved_there) = (share_by_example(one, one.arms[place]) for one in (here, there))
    spread = crossed(moved - moved_there).interval()
    by = kept - kept_there
    return Interval(by, by + spread.low, by + spread.high, spread.count, spread.examples)


def rows_of_page(records: Records) -> list[dict[str, Any]]:
    """What the page has of each condition: `learns`, and by name each number of `SPECTRAL` and side of `DECIDED`, a row
    of `table`; None where there is none."""
    made = table(records)
    rows = []
    for condition, base, task, _ in places(records):
        of_place = made[(made["base"] == base) & (made["task"] == task)]
        cells = {}
        for name in (*SPECTRAL, *DECIDED):
            of_name = of_place[of_place["quantity"] == name]
            of_size = of_name if name in SPECTRAL else of_name[of_name["size"] == DECIDED[name]]
            cells[name] = of_size.iloc[0].to_dict() if len(of_size) else None
        rows.append({"base": base, "task": task, "learns": share.scores(records, condition) is not None} | cells)
    return rows


def _by_seed(records: Records, condition: str, measure: str) -> dict[int, float]:
    """By seed the mean over the matrices of the full update."""
    lines = seeds_of(records, condition, records.protocol.reference)
    return {seed: float(np.mean([row[measure] for row in line["matrices"].values()])) for seed, line in lines.items()}


def _numbers(interval: Interval, paired: Interval) -> dict[str, float]:
    values = {"value": interval.mean, "low": interval.low, "high": interval.high}
    ends = {"difference": paired.mean, "difference_low": paired.low, "difference_high": paired.high}
    return values | ends
