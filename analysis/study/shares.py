"""The share of what fine-tuning brings: 0 is the head alone on the frozen base, 1 is full fine-tuning. The first
screen's answer: `python -m analysis.study.shares` writes docs/answer.png and docs/answer.csv and prints the README's
table."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.optimize import brentq

from lorax_lab.record.redact import guard

from .. import style
from .comparison import added, added_by_cuts, seeds_of
from .records import RECORDS, Records, load
from .statistics import Interval, crossed

STUDY, HEAD = "rank_sweep_2", "head alone"
DOCS = Path(__file__).parents[2] / "docs"
SURE, MEAN = 0.8, 0.9
"""The share that is asked for surely, and the one that is asked for in the mean."""
SEARCHED = (-20.0, 20.0)
"""Shares between which the ends of an interval are looked for."""
SIDES = {"rank": "rank of LoRA", "k": "directions kept of the full update, k"}


def scores(records: Records, task: str) -> dict[tuple[str, int], np.ndarray]:
    """What each test example adds to the score, (seeds, examples), the seeds in one order, by (side, size): of LoRA by
    its `rank`, of the full update cut to `k` directions, and of (`full`, 0) and (`head`, 0)."""
    arms = {("head", 0): HEAD, ("full", 0): records.protocol.reference}
    arms |= {("rank", arm.rank): arm.name for arm in records.protocol.ranked() if arm.rank is not None}
    lines = {place: seeds_of(records, task, name) for place, name in arms.items()}
    seeds = sorted(set.intersection(*map(set, lines.values())))
    by_place = {place: np.array([added(by_seed[seed]) for seed in seeds]) for place, by_seed in lines.items()}
    cuts = [added_by_cuts(lines["full", 0][seed], "cut") for seed in seeds]
    every = sorted(set.intersection(*map(set, cuts)) - {0})
    return by_place | {("k", k): np.array([of_seed[k] for of_seed in cuts]) for k in every}


def contrast(arm: np.ndarray, full: np.ndarray, head: np.ndarray, share: float) -> Interval:
    """The 95 % interval of `arm − share · full − (1 − share) · head`, above 0 where the arm keeps more than the share,
    whichever scores are better: where it lies above 0, the share is surely kept (retention of effect, Rothmann et al.
    2003). Each (seeds, examples)."""
    higher_is_better = bool(full.mean() > head.mean())
    return crossed(arm - share * full - (1 - share) * head).interval().oriented(higher_is_better)


def interval(arm: np.ndarray, full: np.ndarray, head: np.ndarray) -> tuple[float, float, float]:
    """(share, low, high): the shares that the contrast does not exclude (Fieller 1954). An infinite end means that no
    share on that side is excluded.

    >>> head, full = np.zeros((3, 4)), np.ones((3, 4))
    >>> [round(end, 6) for end in interval(0.5 * full, full, head)]
    [0.5, 0.5, 0.5]
    """
    mean = float((arm.mean() - head.mean()) / (full.mean() - head.mean()))
    low = _root(lambda share: contrast(arm, full, head, share).low, SEARCHED[0], mean)
    high = _root(lambda share: -contrast(arm, full, head, share).high, SEARCHED[1], mean)
    return mean, low, high


def _root(end: Callable[[float], float], far: float, mean: float) -> float:
    """Where an end of the contrast's interval crosses 0 between a far share and the mean one."""
    if end(far) <= 0:
        return math.copysign(math.inf, far)
    return float(brentq(end, far, mean)) if end(mean) < 0 else mean


def table(records: Records) -> pd.DataFrame:
    """One row per task, side and size: the share with its interval, whether `SURE` is surely kept, and the scores of
    full fine-tuning and of the head alone."""
    rows = []
    for task in records.conditions:
        by_place = scores(records, task)
        full, head = by_place["full", 0], by_place["head", 0]
        classes = len(next(iter(seeds_of(records, task, HEAD).values()))["inputs"]["classes"])
        for (side, size), arm in by_place.items():
            if side in SIDES:
                mean, low, high = interval(arm, full, head)
                row = {"task": task, "classes": classes, "full": full.mean(), "head": head.mean(), "side": side}
                row |= {"size": size, "share": mean, "low": low, "high": high, "seeds": len(arm)}
                rows.append(row | {"surely": contrast(arm, full, head, SURE).low > 0})
    return pd.DataFrame(rows)


def smallest_sizes(rows: pd.DataFrame) -> dict[str, int | None]:
    """Of one task and side: the smallest size from which on every one keeps the share, `surely` and in the `mean`."""
    sizes: dict[str, int | None] = {}
    for name, passes in (("surely", rows["surely"]), ("mean", rows["share"] >= MEAN)):
        passed = rows["size"][passes.to_numpy(dtype=bool)[::-1].cumprod().astype(bool)[::-1]]
        sizes[name] = int(passed.min()) if len(passed) else None
    return sizes


def markdown(table: pd.DataFrame) -> str:
    """The README's table: one row per task."""
    sizes = [f"{side}, {share:.0%} {how}" for side in SIDES for share, how in ((SURE, "surely"), (MEAN, "in the mean"))]
    heading = " | ".join(["task", "classes", "full", "head alone", *sizes]).replace("%", " %")
    lines = [f"| {heading} |", f"|{'---|' * (4 + len(sizes))}"]
    for task, rows in table.groupby("task", sort=False):
        first = rows.iloc[0]
        cells = [task, first["classes"] or "—", f"{first['full']:.3f}", f"{first['head']:.3f}"]
        for side in SIDES:
            enough = smallest_sizes(rows[rows["side"] == side].sort_values("size"))
            cells += [size or "none tried" for size in enough.values()]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Two panels: the share over LoRA's rank, and over the directions that are kept of the full update."""
    figure = style.canvas(style.PAGE, 3.1)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, (side, label) in zip((left, right), SIDES.items(), strict=True):
        of_side = table[table["side"] == side]
        sizes = sorted(int(size) for size in of_side["size"].unique())
        axes.set_xscale("log", base=2)  # first: the lines below are shifted by this scale
        axes.set_xlim(sizes[0] / 1.3, sizes[-1] * 1.3)
        axes.set_xticks(sizes, [str(size) if size != 256 else "" for size in sizes])  # beside 384 there is no room
        axes.minorticks_off()
        for task, look, shift in style.lines(list(dict.fromkeys(table["task"])), 1.6):
            rows = of_side[of_side["task"] == task].sort_values("size")
            means = 100 * rows["share"].to_numpy()
            ends = np.abs(100 * rows[["low", "high"]].clip(-9, 9).to_numpy().T - means)
            classes = int(rows["classes"].iloc[0])
            look |= {"label": f"{task} ({classes} classes)" if classes > 2 else task, "capsize": 1.5, "elinewidth": 0.7}
            axes.errorbar(rows["size"], means, ends, transform=style.shifted(axes, shift), **look)
        axes.axhline(100, color="0.3", linewidth=0.8, zorder=0)
        axes.axhline(100 * MEAN, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
        axes.set(xlabel=label, ylim=(0, 130))
    left.set_ylabel("share of what full fine-tuning\nbrings over the head alone, %")
    right.legend(loc="lower right")
    least = table.groupby(["side", "size"])["share"].min()
    text = f"LoRA of rank 8 keeps at least {least['rank', 8]:.0%} of what full fine-tuning brings, in the mean; "
    text += f"the top 32 directions of the full update keep at least {least['k', 32]:.0%}"
    style.title(figure, text.replace("%", " %"))
    return figure


def main() -> None:
    """Write the figure and its table into docs/, and print the table of the README."""
    guard()
    rows = table(load(RECORDS / STUDY))
    DOCS.mkdir(exist_ok=True)
    rows.to_csv(DOCS / "answer.csv", index=False, float_format="%.6g", lineterminator="\n")
    draw(rows).savefig(DOCS / "answer.png", dpi=150)
    print(markdown(rows))


if __name__ == "__main__":
    main()
