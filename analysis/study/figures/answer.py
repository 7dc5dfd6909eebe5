"""The answer: the rank at which LoRA matches full fine-tuning, beside the directions that the full update needs."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ... import style
from ...axes import margin_axis, scale_of, worse_by_margin
from ...scores import cross, score_label
from ...variants import COLLAPSED
from .. import comparison, update, verdict
from ..records import Records, has_collapsed, models_of
from ..words import listed

SIDES = {"rank": ("rank of LoRA", "r*"), "k": ("directions kept of the full update, k", "k*")}
CROSSED = "collapsed run, or full fine-tune of its seed"
SEEDS: dict[str, Any] = {"linestyle": "", "marker": "o", "color": "0.6", "markersize": 2.5, "zorder": 1.5}
MEANS: dict[str, Any] = {"color": "black", "marker": "o", "markersize": 4.5, "linewidth": 1}
FEW, HIGH, LOW = 4, 1.5, 1.15
"""Up to so many tasks a row is high, inches; with more it is low."""


def table(records: Records) -> pd.DataFrame | None:
    """One row per task, side (`rank` of LoRA, `k` of the cut), size, and seed: the difference from full fine-tuning on
    test, or from the whole update on the split that k* is decided on; with the mean, its interval, how many test
    examples that covers, margin, r* or k*, whether this size is surely within the margin, and the task's verdict. An
    arm of which a final run diverged has no mean. None where no arms differ in their rank alone, or no full update was
    cut."""
    if not records.protocol.ranked() or not update.has_cuts(records):
        return None
    finals, verdicts = comparison.every_seed(records), verdict.by_task(records)
    parts = []
    for task in records.conditions:
        sizes, seeds = _sizes(records, task), _seeds(records, task, finals[finals["task"] == task])
        sizes.insert(1, "verdict", verdicts[task])
        parts.append(sizes.merge(seeds, on=["side", "size"]))
    return comparison.with_collapsed(records, pd.concat(parts, ignore_index=True).astype({"size": int}))


def _sizes(records: Records, task: str) -> pd.DataFrame:
    """One row per side and size of a task: its mean, and what was concluded of it."""
    margin, rows = records.protocol.margin, []
    ranks = comparison.by_rank(records, comparison.gains(records, task))
    split = comparison.SPLIT if update.is_on_test(records, task) else "validation"
    for side, gains, enough, scored_on in (
        ("rank", ranks, comparison.enough(records, task), comparison.SPLIT),
        ("k", update.gains(records, task), update.functional_rank(records, task), split),
    ):
        for size, gain in sorted(gains.items()):
            shown = comparison.NONE if gain is comparison.LOST else gain
            shown = shown.oriented(records.higher_is_better(task))
            row = {"task": task, "side": side, "size": size, "margin": margin, "enough": str(enough)}
            row |= {"within": bool(gain.low > -margin), "split": records.scored_on(task, scored_on)}
            rows.append(row | {key: getattr(shown, key) for key in ("examples", "mean", "low", "high")})
    return pd.DataFrame(rows)


def _seeds(records: Records, task: str, finals: pd.DataFrame) -> pd.DataFrame:
    """One row per side, size and seed of a task: its difference, and whether its run or the reference's collapsed."""
    ranked = finals["arm"].isin([arm.name for arm in records.protocol.ranked()])
    trained = finals[ranked].rename(columns={"rank": "size"}).assign(side="rank")
    reference = comparison.seeds_of(records, task, records.protocol.reference)
    by_k = update.differences(records, task).items()
    cuts = [("k", k, seed, d) for k, seeds in by_k for seed, d in zip(reference, seeds.mean(1), strict=True)]
    columns = ["side", "size", "seed", "difference"]
    flags = trained.get(COLLAPSED, pd.Series(False, trained.index))
    trained = trained[columns].assign(**{COLLAPSED: flags})
    rows = pd.concat([trained, pd.DataFrame(cuts, columns=columns).assign(**{COLLAPSED: False})], ignore_index=True)
    collapsed = [seed for seed, line in reference.items() if has_collapsed(line)]
    return rows.assign(**{COLLAPSED: rows[COLLAPSED] | rows["seed"].isin(collapsed)})


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Left, LoRA against full fine-tuning over the rank; right, the full update cut to k directions beside it; one
    scale per row."""
    tasks = list(dict.fromkeys(table["task"]))
    high = HIGH if len(tasks) <= FEW else LOW
    figure = style.canvas(style.PAGE, 1.3 + (high + 0.45) * len(tasks))
    grid = figure.subplots(len(tasks), 2, squeeze=False, sharey="row", width_ratios=(2, 3))
    for panels, (task, task_rows) in zip(grid, table.groupby("task", sort=False), strict=True):
        for axes, (side, (label, star)) in zip(panels, SIDES.items(), strict=True):
            rows = task_rows[task_rows["side"] == side]
            _differences(axes, rows)
            if COLLAPSED in rows:
                crossed = rows[rows[COLLAPSED]]
                cross(axes, crossed["size"], crossed["difference"], grid[0][0], CROSSED, style.BESIDE)
            if task == tasks[-1]:
                axes.set_xlabel(label)
            above = f"{task}: {rows['verdict'].iloc[0]}" if side == "rank" else ""
            lost = f"\na run diverged, so no mean: rank {sizes}" if (sizes := diverged(rows)) else ""
            axes.set_title(f"{above}\n{star} = {rows['enough'].iloc[0]}{lost}")
        margin_axis(panels[0], task_rows[["difference", "low", "high"]].to_numpy(float), worse_by_margin(task_rows))
        panels[0].set_ylabel(score_label("difference in score", task_rows, "\n"))
    _explain(grid[0][0], table)
    return style.finish(figure, _heading(table), grid[0][0], columns=2)


def _heading(table: pd.DataFrame) -> str:
    verdicts = dict(zip(table["task"], table["verdict"], strict=True))
    text = f"{verdict.headline(verdicts)}\nleft: LoRA against full fine-tuning ({covered(table, 'rank')})\n"
    return f"{text}right: the full update cut to k directions ({covered(table, 'k')}); {models_of(table)}"


def covered(table: pd.DataFrame, side: str) -> str:
    """The split of one side, `rank` or `k`, and what its intervals cover."""
    rows = table[table["side"] == side]
    splits = " or ".join(dict.fromkeys(rows["split"]))
    if table["seed"].nunique() < 2:
        return f"{splits}, one seed, no interval"
    has_examples = (rows.loc[rows["mean"].notna(), "examples"] > 0).all()
    return f"{splits}, 95 % intervals over seeds{f' and {splits} examples' if has_examples else ''}"


def diverged(rows: pd.DataFrame) -> str:
    """The ranks that have no mean since a run of theirs diverged, or nothing."""
    return listed(sorted(set(rows.loc[rows["mean"].isna(), "size"])))


def _differences(axes: Axes, rows: pd.DataFrame) -> None:
    """The seeds beside the means; a mean is filled where it is surely within the margin."""
    sizes = rows.drop_duplicates("size").sort_values("size")
    if len(set(rows["seed"])) > 1:
        axes.plot(rows["size"], rows["difference"], transform=style.shifted(axes, style.BESIDE), **SEEDS)
    ends = [(sizes["mean"] - sizes["low"]).fillna(0), (sizes["high"] - sizes["mean"]).fillna(0)]
    axes.errorbar(sizes["size"], sizes["mean"], ends, capsize=2, **MEANS)
    short = sizes[~sizes["within"].astype(bool)]
    axes.plot(short["size"], short["mean"], **(MEANS | {"linestyle": "", "mfc": "white", "zorder": 4}))
    style.zero_and_margin(axes, worse_by_margin(rows))
    style.rank_axis(axes, [int(size) for size in sizes["size"]])


def _explain(axes: Axes, table: pd.DataFrame) -> None:
    margin, seeds = float(table["margin"].iloc[0]), table["seed"].nunique()
    axes.errorbar([], [], [], label="mean and interval; filled: surely within the margin", capsize=2, **MEANS)
    axes.plot([], [], color="0.4", linewidth=0.8, linestyle="--", label=f"the margin, {margin:g}")
    if seeds > 1:
        axes.plot([], [], label=f"beside: each of {seeds} seeds", **SEEDS)
    if margin > 0:
        axes.plot([], [], linestyle="", label=scale_of(margin))
