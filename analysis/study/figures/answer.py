"""The answer: the rank at which LoRA matches full fine-tuning, beside the directions that the full update needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorax_lab.store.direction import oriented

from ... import style
from ...scores import cross, higher_is_better, score_label
from ...variants import COLLAPSED
from .. import comparison, update
from ..markdown import listed
from ..records import Records, has_collapsed, with_direction
from ..statistics import Interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LATEX = True
CROSSED = "collapsed run, or full fine-tune of its seed"
SEEDS: dict[str, Any] = {"linestyle": "", "marker": "o", "color": "0.6", "mec": "white", "mew": 0.4, "zorder": 3}


def table(records: Records) -> pd.DataFrame | None:
    """One row per task, side (`rank` of LoRA, `k` of the cut), size, and seed: the difference from full fine-tuning on
    test, or from the whole update on the split that k* is decided on; with the mean, its interval, how many test
    examples that covers, margin, and r* or k*. An arm of which a final run diverged has no mean. None where no arms
    differ in their rank alone, or no full update was cut."""
    import pandas as pd

    if not records.protocol.ranked() or not update.has_cuts(records):
        return None

    margin, rows, finals = records.protocol.margin, [], comparison.every_seed(records)
    for task in records.conditions:
        full = comparison.seeds_of(records, task, records.protocol.reference)
        beside = {seed for seed, line in full.items() if has_collapsed(line)}
        seeds = finals[(finals["task"] == task) & finals["rank"].notna()].rename(columns={"rank": "size"})
        cut, higher = _cut_seeds(records, task), records.higher_is_better(task)
        gains: dict[str, dict[Any, Interval]]
        gains = {"rank": comparison.by_rank(records, comparison.gains(records, task)), "k": update.gains(records, task)}
        sizes = {"rank": str(comparison.enough(records, task)), "k": str(update.functional_rank(records, task))}
        splits = {"rank": comparison.SPLIT, "k": comparison.SPLIT if update.is_on_test(records, task) else "validation"}
        for side, frame in (("rank", seeds), ("k", cut)):
            for size, of_size in frame.groupby("size"):
                gain = gains[side][size]
                interval = comparison.NONE if gain is comparison.LOST else gain.oriented(higher)
                row = {"task": task, "side": side, "size": size, "margin": margin, "enough": sizes[side]}
                row |= {
                    "split": records.scored_on(task, splits[side]),
                    "examples": interval.examples,
                    "mean": interval.mean,
                    "low": interval.low,
                    "high": interval.high,
                }
                own = of_size[COLLAPSED] if COLLAPSED in of_size else [False] * len(of_size)
                for seed, d, flag in zip(of_size["seed"], of_size["difference"], own, strict=True):
                    rows.append(row | {"seed": seed, "difference": d, COLLAPSED: flag or seed in beside})
    return with_direction(records, comparison.with_collapsed(records, pd.DataFrame(rows).astype({"size": int})))


def _cut_seeds(records: Records, task: str) -> pd.DataFrame:
    """One row per k and seed of the cut of all matrices: the difference that k* is decided by."""
    import pandas as pd

    seeds = list(comparison.seeds_of(records, task, records.protocol.reference))
    by_k = update.differences(records, task).items()
    rows = [(k, seed, d) for k, of_k in by_k for seed, d in zip(seeds, of_k.mean(1), strict=True)]
    return pd.DataFrame(rows, columns=["size", "seed", "difference"])


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Left, LoRA against full fine-tuning over the rank; right, the full update cut to k directions beside it."""
    tasks = list(dict.fromkeys(table["task"]))
    figure = style.canvas(style.PAGE, 1.0 + 1.9 * len(tasks))
    grid = figure.subplots(len(tasks), 2, squeeze=False, width_ratios=(2, 3))
    names = {"rank": ("rank of LoRA", "r*"), "k": ("directions kept of the full update, k", "k*")}
    for row, task in zip(grid, tasks, strict=True):
        for axes, (side, (label, star)) in zip(row, names.items(), strict=True):
            rows = table[(table["task"] == task) & (table["side"] == side)]
            _differences(axes, rows, float(rows["margin"].iloc[0]))
            if COLLAPSED in rows:
                of = rows[rows[COLLAPSED]]
                cross(axes, of["size"], of["difference"], grid[0][0], CROSSED)
            axes.set_xlabel(label)
            lost = sorted(set(rows.loc[rows["mean"].isna(), "size"]))
            diverged = f"\na run diverged, so no mean: rank {listed(lost)}" if lost else ""
            axes.set_title(f"{task}: {star} = {rows['enough'].iloc[0]}{diverged}", fontsize=7.5)
        row[0].set_ylabel(score_label("difference in score", table[table["task"] == task]))
    margin, count = table["margin"].iloc[0], table["seed"].nunique()
    text = f"left: LoRA against full fine-tuning ({_read(table, 'rank')})\n"
    text += f"right: the full update cut to k directions ({_read(table, 'k')})\n"
    text += f"{count} seeds (dots); dashed: the margin, {margin:g}"
    style.title(figure, text)
    if grid[0][0].get_legend_handles_labels()[1]:
        style.legend(figure, grid[0][0], columns=1)
    return figure


def _read(table: pd.DataFrame, side: str) -> str:
    """The split, and what the intervals cover."""
    rows = table[(table["side"] == side) & table["mean"].notna()]
    splits = " or ".join(dict.fromkeys(table.loc[table["side"] == side, "split"]))
    covered = f"seeds and {splits} examples" if (rows["examples"] > 0).all() else "seeds"
    return f"{splits}, 95 % intervals over {covered}"


def _differences(axes: Axes, rows: pd.DataFrame, margin: float) -> None:
    sizes = rows.drop_duplicates("size").sort_values("size")
    bars = [sizes["mean"] - sizes["low"], sizes["high"] - sizes["mean"]]
    axes.plot(rows["size"], rows["difference"], markersize=3, **SEEDS)
    axes.errorbar(sizes["size"], sizes["mean"], bars, color="black", marker="o", capsize=2, linewidth=1)
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.axhline(oriented(-margin, higher_is_better(rows)), color="0.4", linewidth=0.8, linestyle="--")
    style.rank_axis(axes, [int(size) for size in sizes["size"]])
