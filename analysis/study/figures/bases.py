"""Each base of a study beside its first: the update's spectral ranks, and the share kept at each size. Seeds and data
of a task are the same on every base, so the differences are paired. The figure has a row of panels for each task.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lorax_lab.record.share import MOST
from lorax_lab.record.statistics import Interval, crossed, t_interval

from ... import style
from .. import share
from ..comparison import seeds_of
from ..records import BASE, Records
from ..share import Scores

TITLE = "the share that each base keeps by rank, by directions and by dimension"
LIMITS = (-20, 140)
"""Per cent that are drawn."""
SHORT = {"rank": "rank of LoRA", "k": "directions kept, k", "dimension": "dimension d"}
SPECTRAL = ("effective_rank", "stable_rank")
DECIDED = {"rank": 4, "k": 16, "dimension": 100_000}
"""The size of each side at which bases are compared on the page; the table has every size."""


def is_of_bases(records: Records) -> bool:
    """Whether the study's first factor is the base."""
    return next(iter(records.declared.factors), None) == BASE


def places(records: Records) -> Iterator[tuple[str, str, str, str]]:
    """(condition, base, task, the condition of the first base on this task) of each condition that has its runs."""
    first = next(iter(records.declared.factors[BASE]))
    for condition in records.conditions:
        base = records.declared.levels[condition][BASE]
        task = condition.removeprefix(f"{base}, ")
        yield condition, base, task, f"{first}, {task}"


def by_base(records: Records) -> pd.DataFrame:
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
    of `by_base`; None where there is none."""
    made = by_base(records)
    shown = made[made["size"].isna() | made["size"].eq(made["quantity"].map(DECIDED))]
    cells = {(row["base"], row["task"], row["quantity"]): row for row in shown.to_dict("records")}
    rows = []
    for condition, base, task, _ in places(records):
        row = {"base": base, "task": task, "learns": share.scores(records, condition) is not None}
        rows.append(row | {name: cells.get((base, task, name)) for name in (*SPECTRAL, *DECIDED)})
    return rows


def differing(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """Of `rows_of_page`, by number: the bases of which it is surely `lower`, or `higher`, than of the first base on
    every task; only numbers of which there are some."""
    by_base: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_base.setdefault(row["base"], []).append(row)
    others = list(by_base)[1:]
    signs = {"lower": lambda cell: cell["difference_high"] < 0, "higher": lambda cell: cell["difference_low"] > 0}
    bases_by_name = {
        sign: {
            name: [base for base in others if all(row[name] and is_so(row[name]) for row in by_base[base])]
            for name in (*SPECTRAL, *DECIDED)
        }
        for sign, is_so in signs.items()
    }
    return {sign: {name: bases for name, bases in names.items() if bases} for sign, names in bases_by_name.items()}


def _by_seed(records: Records, condition: str, measure: str) -> dict[int, float]:
    """By seed the mean over the matrices of the full update."""
    lines = seeds_of(records, condition, records.protocol.reference)
    return {seed: float(np.mean([row[measure] for row in line["matrices"].values()])) for seed, line in lines.items()}


def _numbers(interval: Interval, paired: Interval) -> dict[str, float]:
    values = {"value": interval.mean, "low": interval.low, "high": interval.high}
    ends = {"difference": paired.mean, "difference_low": paired.low, "difference_high": paired.high}
    return values | ends


# ---- the figure


def table(records: Records) -> pd.DataFrame | None:
    """`share.table` with the columns base and learned, the task; None where the bases are no factor of the study, or
    nothing is learned."""
    rows = share.table(records) if is_of_bases(records) else None
    if rows is None:
        return None
    names = {condition: (base, task) for condition, base, task, _ in places(records)}
    bases, learned = zip(*(names[condition] for condition in rows["task"]), strict=True)
    return rows.assign(base=bases, learned=learned)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A row for each task, a column for each side, a line for each base that learns the task."""
    tasks, bases = (list(dict.fromkeys(table[column])) for column in ("learned", "base"))
    sides = [side for side in share.SIDES if (table["side"] == side).any()]
    figure = style.canvas(style.PAGE, 1.2 + 1.6 * len(tasks))
    grid = figure.subplots(len(tasks), len(sides), sharey=True, sharex="col", squeeze=False)
    for row, task in zip(grid, tasks, strict=True):
        for axes, side in zip(row, sides, strict=True):
            rows = table[(table["learned"] == task) & (table["side"] == side)]
            for base, look, shift in style.lines(bases, 1.6):
                points = rows[rows["base"] == base].sort_values("size")
                ends = [np.clip(100 * points[f"share{end}"].to_numpy(float), *LIMITS) for end in ("", "_low", "_high")]
                look |= {"capsize": 1.5, "elinewidth": 0.7, "markersize": 3.5, "label": base}
                style.bars(axes, points["size"], *ends, shift=shift, **look)
            axes.axhline(100, color="0.3", linewidth=0.8, zorder=0)
            axes.axhline(100 * MOST, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
            axes.set_ylim(*LIMITS)
        row[0].set_ylabel(f"{task}: share, %")
    for axes, side in zip(grid[-1], sides, strict=True):
        sizes = sorted({int(size) for size in table.loc[table["side"] == side, "size"]})
        style.rank_axis(axes, sizes)
        axes.set_xlabel(SHORT[side])
    text = "share kept of what full fine-tuning brings on the same base; 95 % intervals over seeds and examples; "
    text += "what lies outside stands at the edge"
    return style.finish(figure, text, grid[0][0], columns=4)


def claim(table: pd.DataFrame) -> str:
    """From which rank on LoRA keeps 90 % in the mean, by base, over the tasks that it learns."""
    parts = []
    for base, rows in table[table["side"] == "rank"].groupby("base", sort=False):
        of_tasks = rows.groupby("learned", sort=False)
        sizes = {str(task): share.enough(of_task, MOST).mean or "none" for task, of_task in of_tasks}
        parts.append(f"{base} {', '.join(f'{size} on {task}' for task, size in sizes.items())}")
    return f"Rank from which on LoRA keeps {100 * MOST:.0f} % in the mean: {'; '.join(parts)}"
