"""The answer: how much LoRA of each rank keeps of what fine-tuning brings, the full update cut to k directions, and
random subspaces of d numbers where a study has them.

Where nothing stands for the 0 of that share, the difference from full fine-tuning, or from the uncut update, is drawn.
"""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorax_lab.record.share import MOST

from ... import style
from ...scores import score_label
from .. import comparison, share, update
from ..records import Records, models_of
from ..share import SIDES

TITLE = "the share of what fine-tuning brings that LoRA keeps by rank, and the full update cut to k directions"
CROWDED = 1.6
"""Two sizes nearer than this ratio have one number between them."""
MARGIN, WIDE = 1.3, 0.07
"""How far an axis goes beyond its sizes, as a ratio, and as a share of its length where sizes are far apart."""
LIMITS, ABOVE = (0, 130), 1.15
"""Per cent that the axis of shares shows at least, and by how much it goes beyond a mean that is higher."""
ALONE = 4.5
"""Width of a figure of one panel, inches."""
FAR = 2000.0
"""Per cent at which infinite ends are drawn; and the ratio of sizes that are far apart."""
FULL = "full"


def table(records: Records) -> pd.DataFrame | None:
    """`share.table`; where no condition has a share, one row per condition, side and size with the difference in score
    and the declared margin. None where no arms differ in their rank alone, or no full update was cut."""
    if not records.protocol.ranked() or not update.has_cuts(records):
        return None
    shares = share.table(records)
    return _differences(records) if shares is None else shares


def _differences(records: Records) -> pd.DataFrame:
    rows = []
    for task in records.conditions:
        ranks = comparison.by_rank(records, comparison.gains(records, task))
        for side, gains in (("rank", ranks), ("k", {k: gain for k, gain in update.gains(records, task).items() if k})):
            for size, gain in sorted(gains.items()):
                shown = comparison.NONE if gain is comparison.LOST else gain
                shown = shown.oriented(records.higher_is_better(task))
                row = {"task": task, "side": side, "size": size, "margin": records.protocol.margin, "seeds": gain.count}
                row |= {"difference": shown.mean, "difference_low": shown.low, "difference_high": shown.high}
                rows.append(row)
    return pd.DataFrame(rows)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel for each side, a line per condition."""
    sides = [side for side in SIDES if (table["side"] == side).any()]
    tasks = list(dict.fromkeys(table["task"]))
    figure = style.canvas(style.PAGE if len(sides) > 1 else ALONE, 3.4 + 0.12 * len(tasks))
    panels = figure.subplots(1, len(sides), sharey=True, squeeze=False)[0]
    is_share = "share" in table
    for axes, side in zip(panels, sides, strict=True):
        of_side = table[table["side"] == side]
        _lines(axes, of_side, tasks, "share" if is_share else "difference")
        axes.set_xlabel(SIDES[side])
    if is_share:
        highest = 100 * float(table["share"].max())
        panels[0].set_ylim(LIMITS[0], max(LIMITS[1], ABOVE * highest))
        panels[0].set_ylabel("share kept of what full fine-tuning brings, %")
    else:
        panels[0].set_ylabel(score_label("difference in score", table, "\n"))
    covered = "seeds and examples" if table.get("examples", pd.Series([2])).min() > 1 else "seeds"
    over = f"95 % intervals over {covered}" if table["seeds"].max() > 1 else "one seed, no intervals"
    text = f"{models_of(table)}: {'share kept' if is_share else 'difference in score'} by rank, and by directions"
    text += " of the full update" + ("; by the numbers of a random subspace" if "dimension" in sides else "")
    return style.finish(figure, f"{text}; {over}", panels[0], columns=3)


def _lines(axes: Axes, rows: pd.DataFrame, tasks: list[str], key: str) -> None:
    """The lines of a side."""
    scale = 100 if key == "share" else 1
    sizes = sorted({int(size) for size in rows["size"]})
    least, most = sizes[0], sizes[-1]
    beyond = max(MARGIN, (most / least) ** WIDE) if most / least > FAR else MARGIN
    axes.set_xscale("log", base=2)  # before the lines, which are moved in its units
    axes.set_xlim(least / beyond, most * beyond)
    axes.set_xticks(sizes, _numbers(sizes))
    axes.minorticks_off()
    for task, look, shift in style.lines(tasks, CROWDED):
        points = rows[rows["task"] == task].sort_values("size")
        if points.empty:
            continue
        mean, low, high = (scale * points[f"{key}{end}"].to_numpy(dtype=float) for end in ("", "_low", "_high"))
        if key == "share":
            low, high = (np.clip(ends, -FAR, FAR) for ends in (low, high))  # an end may be infinite
        look |= {"label": _named(task, points), "capsize": 1.5, "elinewidth": 0.7, "markersize": 3.5}
        style.bars(axes, points["size"], mean, low, high, shift=shift, **look)
    axes.axhline(scale if key == "share" else 0, color="0.3", linewidth=0.8, zorder=0)
    if key == "share":
        axes.axhline(100 * MOST, color="0.5", linewidth=0.8, linestyle="--", zorder=0)


def _numbers(sizes: list[int]) -> list[str]:
    """The numbers of ticks; none where a larger tick with a number is too near.

    >>> _numbers([8, 16, 24, 32, 1000])
    ['8', '16', '', '32', '$10^{3}$']
    """
    numbers, above = list[str](), math.inf
    for size in reversed(sizes):
        power = round(math.log10(size))
        number = f"$10^{{{power}}}$" if power > 2 and size == 10**power else str(size)
        numbers.insert(0, number if above / size >= CROWDED else "")
        above = size if numbers[0] else above
    return numbers


def _named(task: str, rows: pd.DataFrame) -> str:
    """The condition, with the number of its classes where that is unusual, and the arm that is the 1 where that is not
    full fine-tuning."""
    classes = int(rows["classes"].iloc[0]) if "classes" in rows else 0
    reference = str(rows["reference"].iloc[0]) if "reference" in rows else FULL
    unusual = [f"{classes} classes"] * (classes > 2) + [f"100 % is {reference}"] * (reference != FULL)
    return f"{task} ({', '.join(unusual)})" if unusual else task
