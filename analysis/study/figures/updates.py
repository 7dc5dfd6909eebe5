"""Four figures of the full update: its spectral ranks, what is left of its score when it is cut, in all matrices or in
one type, and the directions that pairs of updates have in common."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ... import constant, style
from ...scores import of_examples, score_label, split_label
from .. import comparison, update
from ..constants import with_constants
from ..records import Records, every, models_of, with_direction, with_model

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SPECTRAL = ("effective_rank", "stable_rank", "participation_ratio", "energy_rank_90")
NOISE = "gaussian"
LOW, HIGH = "low", "high"
"""The columns of the interval over the examples, where a task has one seed."""
PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "cut": ("top k directions", {"marker": "o"}),
    "remainder": ("all but the top k", {"marker": "s", "linestyle": "--"}),
    "random": ("k random directions", {"marker": "^", "linestyle": ":"}),
    "random_at_norm": ("k random directions at the cut's norm", {"marker": "^", "linestyle": ":"}),
    "bottom_at_norm": ("last k directions at the cut's norm", {"marker": "v", "linestyle": (0, (5, 1))}),
    "scaled": ("whole update at the cut's norm", {"marker": "D", "linestyle": "-."}),
}
APART = 2.2
"""Points between the lines at one k."""
SPACES = ("column", "row")


def spectral_table(records: Records) -> pd.DataFrame | None:
    """`update.spectral` of every task, by module and by layer (column `by`); None where the reference is no full
    fine-tuning, whose update is cut."""
    import pandas as pd

    if not update.has_cuts(records):
        return None
    parts = [every(records, update.spectral, by).assign(by=by) for by in ("module", "layer")]
    return with_model(records, pd.concat(parts, ignore_index=True).astype({"group": str}))


@style.styled
def spectral_draw(table: pd.DataFrame) -> Figure:
    """Each measure as a share of what noise of the same shape has, by module type (left) and by layer (right)."""
    tasks = list(dict.fromkeys(table["task"]))
    names = {by: list(dict.fromkeys(table.loc[table["by"] == by, "group"])) for by in ("module", "layer")}
    figure = style.canvas(style.PAGE, 1.9 + 1.35 * len(tasks))
    grid = figure.subplots(len(tasks), 2, squeeze=False, sharey=True, sharex="col")
    for row, task in zip(grid, tasks, strict=True):
        for axes, by in zip(row, ("module", "layer"), strict=True):
            rows = table[(table["task"] == task) & (table["by"] == by)]
            groups = names[by]
            for number, (measure, look) in enumerate(zip(SPECTRAL, style.looks(len(SPECTRAL)), strict=True)):
                subset = rows[rows["measure"] == measure]
                share, low, high = (subset[key] / subset["null"] for key in ("mean", "low", "high"))
                places = [groups.index(group) for group in subset["group"]]
                settings = look | {"linestyle": "", "markersize": 3.5, "label": measure.replace("_", " ")}
                beside = style.spread_out(number, len(SPECTRAL), 3.0)
                style.bars(axes, places, share, [share - low, high - share], beside, **settings)
            axes.axhline(1, color="0.4", linewidth=0.8)
            labels = [style.folded(g, 16) if by == "module" else g for g in groups]
            axes.set_xticks(range(len(groups)), labels, rotation=45 if by == "module" else 0)
            axes.set_xlim(-0.6, len(groups) - 0.4)
            axes.set_title(task)
            if task == tasks[-1]:
                axes.set_xlabel("type of matrix" if by == "module" else "layer")
        row[0].set_ylabel("share of noise's")
    count = int(table["seeds"].max())
    text = f"{models_of(table)}: the full update's spectral ranks, noise of its shape = 1"
    covered = f"95 % intervals over {count} seeds" if count > 1 else "one seed, no interval"
    style.title(figure, f"{text}; mean over matrices, {covered}")
    style.legend(figure, figure.axes[0], columns=4)
    return figure


def functional_table(records: Records) -> pd.DataFrame | None:
    """The parts of `update.functional` that are drawn, of every task, all matrices changed at once, with what one
    answer for every input scores on validation; None where no update was cut."""
    if not update.has_cuts(records):
        return None
    rows = every(records, update.functional)
    drawn = rows[(rows["module"] == update.ALL) & rows["part"].isin([*PARTS, NOISE])].drop(columns="module")
    return with_model(
        records, with_direction(records, with_constants(records, _with_ends(records, drawn), "validation"))
    )


def _with_ends(records: Records, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the interval of each score over its validation examples, `low` and `high`, where a task has one
    seed alone and its metric such an interval; a score and the number of examples are all that it takes."""
    ends = dict[Any, tuple[float, float]]()
    for task, subset in rows.groupby("task", sort=False):
        if len(set(subset["seed"])) == 1:
            [line] = comparison.seeds_of(records, str(task), records.protocol.reference).values()
            about = line["metric"], int(line["inputs"]["examples"]["validation"])
            ends |= {
                at: of_examples(float(score), *about) for at, score in zip(subset.index, subset["score"], strict=True)
            }
    if not ends or all(math.isnan(low) for low, _ in ends.values()):
        return rows
    sides = ([ends.get(at, (math.nan, math.nan))[side] for at in rows.index] for side in (0, 1))
    return rows.assign(**dict(zip((LOW, HIGH), sides, strict=True)))


def _ends_of(rows: pd.DataFrame) -> tuple[pd.Series[float], pd.Series[float]]:
    """How far the scores of one part reach, by k: from the lowest to the highest seed, or of one seed over its
    examples."""
    by_k = rows.groupby("k")
    if len(set(rows["seed"])) == 1 and LOW in rows and rows[LOW].notna().all():
        return by_k[LOW].first(), by_k[HIGH].first()
    return by_k["score"].min(), by_k["score"].max()


def _over(table: pd.DataFrame) -> str:
    """What points and bands are."""
    count = int(table.groupby("task")["seed"].nunique().max())
    if count > 1:
        return f"mean and range of {count} seeds"
    split = split_label("validation", table)
    return f"one seed, 95 % interval over its {split} examples" if LOW in table else "one seed, no interval"


@style.styled
def functional_draw(table: pd.DataFrame) -> Figure:
    """Scores over k of the cut and its controls, mean and range of the seeds."""
    tasks = list(dict.fromkeys(table["task"]))
    figure, panels = style.panels(len(tasks), 2.3, "k", f"score on {split_label('validation', table)}")
    for axes, task in zip(panels, tasks, strict=True):
        rows = table[table["task"] == task]
        shown = [part for part in PARTS if part in set(table["part"])]
        for part, colour in zip(shown, style.distinct(len(shown)), strict=True):
            label, look = PARTS[part]
            scores = rows[rows["part"] == part].groupby("k")["score"]
            if len(scores):
                axes.plot(scores.mean(), label=label, color=colour, **(look | {"markersize": 3.5}))
                low, high = _ends_of(rows[rows["part"] == part])
                axes.fill_between(low.index, low, high, color=colour, alpha=0.15, linewidth=0)
        noise = rows[rows["part"] == NOISE]["score"]
        if len(noise):
            name = "Gaussian noise of its norm"
            axes.axhline(noise.mean(), color="0.4", linewidth=0.9, linestyle=(0, (1, 3)), label=name)
        constant.draw_line(axes, rows, panels[0])
        style.rank_axis(axes, sorted({int(k) for k in rows[rows["part"] == "cut"]["k"]}))
        axes.set_title(score_label(task, rows, "\n"))
    style.title(
        figure, f"{models_of(table)}: what is left of the full update's score when it is changed; {_over(table)}"
    )
    style.legend(figure, figure.axes[0], columns=3)
    return figure


def modules_table(records: Records) -> pd.DataFrame | None:
    """`update.functional` of every task, one type of matrix cut alone; None where that was not measured."""
    if not update.has_cuts(records):
        return None
    rows = every(records, update.functional)
    rows = rows[rows["module"] != update.ALL]
    return with_model(records, with_direction(records, rows)) if len(rows) else None


@style.styled
def modules_draw(table: pd.DataFrame) -> Figure:
    """A panel per task, a line per type of matrix; the lines stand beside each other at each k."""
    names, tasks = update.modules(table), list(dict.fromkeys(table["task"]))
    figure, panels = style.panels(len(tasks), 1.9, "k", "difference in score")
    for axes, task in zip(panels, tasks, strict=True):
        rows = table[table["task"] == task]
        axes.axhline(0, color="0.4", linewidth=0.8)
        sizes = set[int]()
        for number, (name, look) in enumerate(zip(names, style.looks(len(names)), strict=True)):
            cut = update.cut_intervals(rows, "cut", name)
            sizes |= set(cut)
            means = [interval.mean for interval in cut.values()]
            bars = [[i.mean - i.low for i in cut.values()], [i.high - i.mean for i in cut.values()]]
            fine = {"markersize": 3, "linewidth": 0.9, "elinewidth": 0.6}
            beside = style.spread_out(number, len(names), APART)
            style.bars(axes, list(cut), means, bars, beside, label=name, **(look | fine))
        style.rank_axis(axes, sorted(sizes))
        axes.set_title(score_label(task, rows, "\n"))
    split = split_label("validation", table)
    several = len(set(table["seed"])) > 1
    covered = (
        "95 % intervals over the seeds" if several else "one seed, no interval: the answers of these cuts are not kept"
    )
    text = f"{models_of(table)}: one type of matrix cut to k directions, the others whole; {split}, {covered}"
    style.title(figure, text)
    style.legend(figure, figure.axes[0], columns=3)
    return figure


def shared_table(records: Records) -> pd.DataFrame | None:
    """`update.shared`; None where the directions were not measured."""
    return None if records.shared is None else update.shared(records.shared)


@style.styled
def shared_draw(table: pd.DataFrame) -> Figure:
    """φ(k, k) of full updates over k, a panel per kind of pair, beside what random subspaces have."""
    kinds = list(dict.fromkeys(table["pair"]))
    figure, panels = style.panels(len(kinds), 1.7, "k", "φ(k, k)")
    for axes, kind in zip(panels, kinds, strict=True):
        for number, (side, look) in enumerate(zip(SPACES, style.looks(len(SPACES)), strict=True)):
            subset = table[(table["pair"] == kind) & (table["side"] == side)]
            bars = [subset["similarity"] - subset["low"], subset["high"] - subset["similarity"]]
            settings = look | {"markersize": 3.5, "capsize": 2, "label": f"{side} space"}
            style.bars(
                axes, subset["k"], subset["similarity"], bars, style.spread_out(number, len(SPACES), 3.0), **settings
            )
            random = {"color": look["color"], "linestyle": ":", "linewidth": 1}
            axes.plot(subset["k"], subset["random"], label=f"random subspaces of the {side} space", **random)
        style.rank_axis(axes, sorted({int(k) for k in table["k"]}))
        axes.set_title(style.wrapped(kind, 32))
    panels[0].set_ylim(0, None)
    text = "directions that full updates have in common: similarity of their top k, mean over matrices"
    style.title(figure, f"{text}; 95 % intervals over the pairs")
    style.legend(figure, panels[0], columns=2)
    return figure
