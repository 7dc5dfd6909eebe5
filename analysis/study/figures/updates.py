"""Four figures of the full update: its spectral ranks, what is left of its score when it is cut, in all matrices or in
one type, and the directions that pairs of updates have in common."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ... import constant, style
from ...scores import intervals_over, score_label, split_label
from .. import update
from ..records import Records, every, models_of, with_model

SPECTRAL_TITLE = "the full update's spectral ranks by type of matrix and layer, as shares of noise's"
CUT_TITLE = "what is left of the full update's score when it is cut, and under the controls"
MODULES_TITLE = "the difference in score when one type of matrix is cut to k directions"
SHARED_TITLE = "the directions that pairs of full updates have in common"
SPECTRAL = ("effective_rank", "stable_rank", "participation_ratio", "energy_rank_90")
NOISE = "gaussian"
PLACES = {"module": "type of matrix", "layer": "layer"}
"""By what spectral ranks are shown, and the names of the axes."""
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
MANY = 16
"""Labels of an axis that have room; of more every second one stands there, and points stand closer."""
SPACES = ("column", "row")


def spectral_table(records: Records) -> pd.DataFrame | None:
    """`update.spectral` of every task, by module and by layer (column `by`); None where the reference is no full
    fine-tuning, whose update is cut."""
    if not update.has_cuts(records):
        return None
    parts = [every(records, update.spectral, by).assign(by=by) for by in PLACES]
    return with_model(records, pd.concat(parts, ignore_index=True).astype({"group": str}))


@style.styled
def spectral_draw(table: pd.DataFrame) -> Figure:
    """Each measure as a share of what noise of the same shape has, by module type (left) and by layer (right)."""
    by_task = table.groupby("task", sort=False)
    figure = style.canvas(style.PAGE, 1.9 + 1.35 * len(by_task))
    grid = figure.subplots(len(by_task), 2, squeeze=False, sharey=True, sharex="col")
    for panels, (task, task_rows) in zip(grid, by_task, strict=True):
        for axes, by in zip(panels, PLACES, strict=True):
            groups = list(dict.fromkeys(table.loc[table["by"] == by, "group"]))
            _shares(axes, task_rows[task_rows["by"] == by], groups)
            labels = [style.folded(group, 16) if by == "module" else group for group in groups]
            step = 1 + len(groups) // MANY
            axes.set_xticks(range(0, len(groups), step), labels[::step], rotation=45 if by == "module" else 0)
            axes.set_title(task)
    grid[len(grid) // 2][0].set_ylabel("share of noise's")
    for axes, label in zip(grid[-1], PLACES.values(), strict=True):
        axes.set_xlabel(label)
    text = f"{models_of(table)}: the full update's spectral ranks, noise of its shape = 1; mean over matrices"
    return style.finish(figure, f"{text}, {intervals_over(table)}", grid[0][0], columns=4)


def _shares(axes: Axes, rows: pd.DataFrame, groups: list[str]) -> None:
    for measure, look, shift in style.lines(SPECTRAL, 3.0 if len(groups) <= MANY else 1.0):
        points = rows[rows["measure"] == measure]
        ends = [points[key] / points["null"] for key in ("mean", "low", "high")]
        look |= {"linestyle": "", "markersize": 3.5, "label": measure.replace("_", " ")}
        style.bars(axes, [groups.index(group) for group in points["group"]], *ends, shift=shift, **look)
    axes.axhline(1, color="0.4", linewidth=0.8)
    axes.set_xlim(-0.6, len(groups) - 0.4)


def functional_table(records: Records) -> pd.DataFrame | None:
    """The parts of `update.functional` that are drawn, of every task, all matrices changed at once, with what one
    answer for every input scores on that split; None where no update was cut.

    A search for k90 scores only some cuts of a seed on validation. Then the cuts on test are drawn, if every seed has
    them. Their rows have the column `split`.
    """
    if not update.has_cuts(records):
        return None
    rows = every(records, update.functional)
    drawn = rows[(rows["module"] == update.ALL) & rows["part"].isin([*PARTS, NOISE])]
    seeds = drawn[drawn["part"] == "cut"].groupby(["task", "k"])["seed"].nunique()
    split = "validation"
    if seeds.min() < seeds.max() and all(update.is_on_test(records, task) for task in records.conditions):
        split = "test"
        drawn = every(records, update.functional_on_test).assign(split=split)
    return constant.with_constants(records, drawn.drop(columns="module"), split)


@style.styled
def functional_draw(table: pd.DataFrame) -> Figure:
    """Scores over k of the cut and its controls, mean and range of the seeds."""
    by_task = table.groupby("task", sort=False)
    split = split_label("test" if "split" in table else "validation", table)
    figure, panels = style.panels(len(by_task), 2.3, "k", f"score on {split}")
    parts = [part for part in PARTS if part in set(table["part"])]
    for axes, (task, rows) in zip(panels, by_task, strict=True):
        for part, colour in zip(parts, style.distinct(len(parts)), strict=True):
            label, look = PARTS[part]
            scores = rows[rows["part"] == part].groupby("k")["score"]
            if len(scores):
                axes.plot(scores.mean(), label=label, color=colour, markersize=3.5, **look)
                low, high = scores.min(), scores.max()
                axes.fill_between(low.index, low, high, color=colour, alpha=0.15, linewidth=0)
        noise = rows.loc[rows["part"] == NOISE, "score"]
        if len(noise):
            name = "Gaussian noise of its norm"
            axes.axhline(noise.mean(), color="0.4", linewidth=0.9, linestyle=(0, (1, 3)), label=name)
        constant.draw_line(axes, rows, panels[0])
        style.rank_axis(axes, sorted({int(k) for k in rows[rows["part"] == "cut"]["k"]}))
        axes.set_title(score_label(str(task), rows, "\n"))
    count = int(by_task["seed"].nunique().max())
    covered = f"mean and range of {count} seeds" if count > 1 else "one seed, no interval"
    text = f"{models_of(table)}: what is left of the full update's score when it is changed; {covered}"
    return style.finish(figure, text, panels[0], columns=3)


def modules_table(records: Records) -> pd.DataFrame | None:
    """`update.functional` of every task, one type of matrix cut alone; None where that was not measured."""
    if not update.has_cuts(records):
        return None
    rows = every(records, update.functional)
    rows = rows[rows["module"] != update.ALL]
    return rows if len(rows) else None


@style.styled
def modules_draw(table: pd.DataFrame) -> Figure:
    """A panel per task, a line per type of matrix; the lines stand beside each other at each k."""
    by_task = table.groupby("task", sort=False)
    figure, panels = style.panels(len(by_task), 1.9, "k", "difference in score")
    for axes, (task, rows) in zip(panels, by_task, strict=True):
        style.zero_and_margin(axes, None)
        sizes = set[int]()
        for name, look, shift in style.lines(update.modules(table), APART):
            cut = update.cut_intervals(rows, "cut", name)
            sizes |= set(cut)
            ends = ([getattr(interval, key) for interval in cut.values()] for key in ("mean", "low", "high"))
            look |= {"markersize": 3, "linewidth": 0.9, "elinewidth": 0.6, "label": name}
            style.bars(axes, list(cut), *ends, shift=shift, **look)
        style.rank_axis(axes, sorted(sizes))
        axes.set_title(score_label(str(task), rows, "\n"))
    covered = "95 % intervals over the seeds" if len(set(table["seed"])) > 1 else "one seed, no interval"
    text = f"{models_of(table)}: one type of matrix cut to k directions, the others whole"
    return style.finish(figure, f"{text}; {split_label('validation', table)}, {covered}", panels[0], columns=3)


def shared_table(records: Records) -> pd.DataFrame | None:
    """`update.shared`; None where the directions were not measured."""
    return None if records.shared is None else update.shared(records.shared)


@style.styled
def shared_draw(table: pd.DataFrame) -> Figure:
    """φ(k, k) of full updates over k, a panel per kind of pair, beside what random subspaces have."""
    by_pair = table.groupby("pair", sort=False)
    figure, panels = style.panels(len(by_pair), 1.7, "k", "φ(k, k)")
    for axes, (pair, rows) in zip(panels, by_pair, strict=True):
        for side, look, shift in style.lines(SPACES, 3.0):
            points = rows[rows["side"] == side]
            ends = (points[key] for key in ("similarity", "low", "high"))
            look |= {"markersize": 3.5, "capsize": 2}
            style.bars(axes, points["k"], *ends, shift=shift, label=f"{side} space", **look)
            random = {"color": look["color"], "linestyle": ":", "linewidth": 1}
            axes.plot(points["k"], points["random"], label=f"random subspaces of the {side} space", **random)
        style.rank_axis(axes, sorted({int(k) for k in table["k"]}))
        axes.set_title(style.wrapped(str(pair), 32))
    panels[0].set_ylim(0, None)
    text = "directions that full updates have in common: similarity of their top k, mean over matrices"
    return style.finish(figure, f"{text}; 95 % intervals over the pairs", panels[0], columns=2)
