"""The answer: the rank at which LoRA matches full fine-tuning, beside the directions that the full update needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import style
from ...axes import margin_axis, scale_of, worse_by_margin
from ...scores import cross, score_label
from ...variants import COLLAPSED
from .. import comparison, update, verdict
from ..records import Records, has_collapsed, models_of, with_direction, with_model
from ..statistics import Interval, of_one_seed
from ..words import listed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDES = {"rank": ("rank of LoRA", "r*"), "k": ("directions kept of the full update, k", "k*")}
CROSSED = "collapsed run, or full fine-tune of its seed"
SEEDS: dict[str, Any] = {"linestyle": "", "marker": "o", "color": "0.6", "markersize": 2.5, "zorder": 1.5}
MEANS: dict[str, Any] = {"color": "black", "marker": "o", "markersize": 4.5, "capsize": 2, "linewidth": 1}
FEW, HIGH, LOW = 4, 1.5, 1.15
"""Up to so many tasks a row is high, inches; with more it is low."""


def table(records: Records) -> pd.DataFrame | None:
    """One row per task, side (`rank` of LoRA, `k` of the cut), size, and seed: the difference from full fine-tuning on
    test, or from the whole update on the split that k* is decided on; with the mean, its interval, how many test
    examples that covers, margin, r* or k*, whether this size is surely within the margin, and the task's verdict. An
    arm of which a final run diverged has no mean; the interval of one seed is that of its test examples. None where no
    arms differ in their rank alone, or no full update was cut."""
    import pandas as pd

    if not records.protocol.ranked() or not update.has_cuts(records):
        return None

    margin, rows, finals = records.protocol.margin, [], comparison.every_seed(records)
    verdicts = verdict.by_task(records)
    for task in records.conditions:
        full = comparison.seeds_of(records, task, records.protocol.reference)
        beside = {seed for seed, line in full.items() if has_collapsed(line)}
        seeds = finals[(finals["task"] == task) & finals["rank"].notna()].rename(columns={"rank": "size"})
        cut, higher = _cut_seeds(records, task), records.higher_is_better(task)
        gains = _gains(records, task)
        shown = {side: _shown(records, task, side, gains[side]) for side in SIDES}
        sizes = {"rank": str(comparison.enough(records, task)), "k": str(update.functional_rank(records, task))}
        splits = {"rank": comparison.SPLIT, "k": comparison.SPLIT if update.is_on_test(records, task) else "validation"}
        for side, frame in (("rank", seeds), ("k", cut)):
            for size in sorted({int(size) for size in frame["size"]}):
                of_size = frame[frame["size"] == size]
                gain, interval = gains[side][size], shown[side][size].oriented(higher)
                row = {"task": task, "verdict": verdicts[task], "side": side, "size": size}
                row |= {"margin": margin, "enough": sizes[side], "within": bool(gain.low > -margin)}
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
    facts = comparison.with_collapsed(records, pd.DataFrame(rows).astype({"size": int}))
    return with_model(records, with_direction(records, facts))


def _gains(records: Records, task: str) -> dict[str, dict[int, Interval]]:
    """The gain of each size of each side, which the verdict is made of."""
    of_rank = comparison.by_rank(records, comparison.gains(records, task))
    return {"rank": of_rank, "k": update.gains(records, task)}


def _shown(records: Records, task: str, side: str, gains: dict[int, Interval]) -> dict[int, Interval]:
    """The same as it is drawn: none of a lost arm; of one seed the interval of its test examples."""
    higher, arms = records.higher_is_better(task), {arm.rank: arm.name for arm in records.protocol.ranked()}
    shown = dict[int, Interval]()
    for size, gain in gains.items():
        shown[size] = comparison.NONE if gain is comparison.LOST else gain
        if gain.count == 1:
            cut = update.differences(records, task)[size] if side == "k" else None
            differences = comparison.differences(records, task, arms[size]) if cut is None else cut
            shown[size] = of_one_seed(differences).oriented(higher)
    return shown


def _cut_seeds(records: Records, task: str) -> pd.DataFrame:
    """One row per k and seed of the cut of all matrices: the difference that k* is decided by."""
    import pandas as pd

    seeds = list(comparison.seeds_of(records, task, records.protocol.reference))
    by_k = update.differences(records, task).items()
    rows = [(k, seed, d) for k, of_k in by_k for seed, d in zip(seeds, of_k.mean(1), strict=True)]
    return pd.DataFrame(rows, columns=["size", "seed", "difference"])


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Left, LoRA against full fine-tuning over the rank; right, the full update cut to k directions beside it; one
    scale per row."""
    tasks = list(dict.fromkeys(table["task"]))
    high = HIGH if len(tasks) <= FEW else LOW
    figure = style.canvas(style.PAGE, 1.3 + (high + 0.45) * len(tasks))
    grid = figure.subplots(len(tasks), 2, squeeze=False, sharey="row", width_ratios=(2, 3))
    for row, task in zip(grid, tasks, strict=True):
        of_task = table[table["task"] == task]
        for axes, (side, (label, star)) in zip(row, SIDES.items(), strict=True):
            rows = of_task[of_task["side"] == side]
            _differences(axes, rows)
            if COLLAPSED in rows:
                subset = rows[rows[COLLAPSED]]
                cross(axes, subset["size"], subset["difference"], grid[0][0], CROSSED, style.BESIDE)
            if task == tasks[-1]:
                axes.set_xlabel(label)
            above = f"{task}: {of_task['verdict'].iloc[0]}" if side == "rank" else ""
            lost = f"\na run diverged, so no mean: rank {sizes}" if (sizes := diverged(rows)) else ""
            axes.set_title(f"{above}\n{star} = {rows['enough'].iloc[0]}{lost}")
        margin_axis(row[0], of_task[["difference", "low", "high"]].to_numpy(float), worse_by_margin(of_task))
        row[0].set_ylabel(score_label("difference in score", of_task, "\n"))
    _explain(grid[0][0], table)
    style.title(figure, _heading(table))
    style.legend(figure, grid[0][0], columns=2)
    return figure


def _heading(table: pd.DataFrame) -> str:
    verdicts = dict(zip(table["task"], table["verdict"], strict=True))
    text = f"{verdict.headline(verdicts)}\nleft: LoRA against full fine-tuning ({covered(table, 'rank')})\n"
    return f"{text}right: the full update cut to k directions ({covered(table, 'k')}); {models_of(table)}"


def covered(table: pd.DataFrame, side: str) -> str:
    """The split of one side, `rank` or `k`, and what its intervals cover."""
    rows = table[(table["side"] == side) & table["mean"].notna()]
    splits = " or ".join(dict.fromkeys(table.loc[table["side"] == side, "split"]))
    parts = [] if table["seed"].nunique() < 2 else ["seeds"]
    parts += [f"{splits} examples"] if (rows["examples"] > 0).all() else []
    return f"{splits}, 95 % intervals over {' and '.join(parts)}" if parts else f"{splits}, one seed, no interval"


def diverged(rows: pd.DataFrame) -> str:
    """The ranks that have no mean since a run of theirs diverged, or nothing."""
    return listed(sorted(set(rows.loc[rows["mean"].isna(), "size"])))


def _differences(axes: Axes, rows: pd.DataFrame) -> None:
    """The seeds beside the means; a mean is filled where it is surely within the margin."""
    sizes = rows.drop_duplicates("size").sort_values("size")
    if len(set(rows["seed"])) > 1:
        axes.plot(rows["size"], rows["difference"], transform=style.shifted(axes, style.BESIDE), **SEEDS)
    bars = [(sizes["mean"] - sizes["low"]).fillna(0), (sizes["high"] - sizes["mean"]).fillna(0)]
    axes.errorbar(sizes["size"], sizes["mean"], bars, **MEANS)
    short = sizes[~sizes["within"].astype(bool)]
    axes.plot(short["size"], short["mean"], **(_means() | {"mfc": "white", "zorder": 4}))
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.axhline(worse_by_margin(rows), color="0.4", linewidth=0.8, linestyle="--")
    style.rank_axis(axes, [int(size) for size in sizes["size"]])


def _means() -> dict[str, Any]:
    return {key: value for key, value in MEANS.items() if key != "capsize"} | {"linestyle": ""}


def _explain(axes: Axes, table: pd.DataFrame) -> None:
    margin, seeds = float(table["margin"].iloc[0]), table["seed"].nunique()
    axes.errorbar([], [], [], label="mean and interval; filled: surely within the margin", **MEANS)
    axes.plot([], [], color="0.4", linewidth=0.8, linestyle="--", label=f"the margin, {margin:g}")
    if seeds > 1:
        axes.plot([], [], label=f"beside: each of {seeds} seeds", **SEEDS)
    if margin > 0:
        axes.plot([], [], linestyle="", label=scale_of(margin))
