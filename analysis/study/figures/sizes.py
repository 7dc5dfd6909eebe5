"""What each arm scores, and r* and k*, over the number of training examples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ... import constant, style
from ...axes import ARROWS, estimate_axis, estimate_points
from ...constant import CONSTANT, IS
from ...scores import score_label, split_label
from .. import comparison, update
from ..constants import with_constants
from ..paper import theirs
from ..records import Records, every, models_of, with_direction, with_model

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

R_STAR, K_STAR = "r*", "k*"
STARS = {R_STAR: "r*, LoRA's rank", K_STAR: "k*, directions of the full update"}
APART = 3.0
THEIRS = "GPT-3, MNLI"
"""The column of the paper's own accuracies, in per cent."""
OF_THE_PAPER = "paper_data_sizes"
"""The study that has it."""
COLUMNS = ("task", "examples", "steps", "what", "rank", "value", "low", "high", "tried", "margin", "seeds")


def table(records: Records) -> pd.DataFrame | None:
    """One row per condition and arm with its score on test, and one per condition and `r*` or `k*`; None where two
    conditions have as many training examples, or no full update was cut.

    Columns: task, examples (of training), steps (of training), what (the arm, `r*` or `k*`), rank (of LoRA), value (NaN
    where none is found), low, high (the 95 % interval: of a score over seeds, of a star over seeds and test examples;
    NaN where it is open), tried (the largest size), margin, seeds, model; of the study that asks as the paper did, its
    accuracies.
    """
    import pandas as pd

    facts = {task: {_counts(line) for line in records.of(task, "final")} for task in records.conditions}
    known = {task: next(iter(points)) for task, points in facts.items() if len(points) == 1}
    sizes = {examples for examples, _ in known.values()}
    if len(sizes) < max(2, len(facts)) or not update.has_cuts(records):
        return None
    arms = every(records, comparison.table).rename(columns={"test": "value", "test_low": "low", "test_high": "high"})
    stars = pd.DataFrame([row for task in records.conditions for row in _stars(records, task)])
    rows = pd.concat([arms.assign(what=arms["arm"]), stars], ignore_index=True)
    rows = rows.assign(margin=records.protocol.margin)
    rows[["examples", "steps"]] = [known[task] for task in rows["task"]]
    if records.name == OF_THE_PAPER:
        pairs = zip(rows["what"], rows["examples"], strict=True)
        rows[THEIRS] = [theirs(records.name).get(what, {}).get(str(examples), math.nan) for what, examples in pairs]
    shown = [column for column in (*COLUMNS, THEIRS) if column in rows]
    ordered = rows[shown].sort_values("examples", kind="stable", ignore_index=True)
    return with_model(records, with_direction(records, with_constants(records, ordered, comparison.SPLIT)))


def _counts(line: dict[str, Any]) -> tuple[int, int]:
    """Training examples and steps."""
    return int(line["inputs"]["examples"]["train"]), int(line["time"]["steps"])


def _stars(records: Records, task: str) -> Iterator[dict[str, Any]]:
    for name, star in ((R_STAR, comparison.enough(records, task)), (K_STAR, update.functional_rank(records, task))):
        if star:
            numbers = star.as_numbers()
            yield {"task": task, "what": name, "value": numbers.pop("estimate")} | numbers


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Left the score of each arm, right r* and k*, both over the number of training examples."""
    figure = style.canvas(style.PAGE, 3.3)
    left, right = figure.subplots(1, 2)
    sizes = sorted({int(count) for count in table["examples"]})
    is_star = table["what"].isin(STARS)
    _scores(left, table[~is_star])
    _ranks(right, table[is_star])
    for axes in (left, right):
        style.rank_axis(axes, sizes)
        axes.set_xlabel("training examples")
    left.set_ylabel(score_label(f"score on {split_label('test', table)}", table, "\n"))
    right.set_ylabel("directions")
    margin = f"{table['margin'].iloc[0]:g}"
    text = f"{models_of(table)}: scores, and the smallest rank and cut that are surely within {margin}"
    text += f", over the number of training examples. Training took {_steps(table)} steps"
    count = int(table["seeds"].max())
    covered = f"{count} seeds alone" if count > 1 else "the test examples of one seed"
    style.title(figure, f"{text}. 95 % intervals; those of scores are over {covered}")
    style.legend(figure, left, columns=3)
    return figure


def _steps(table: pd.DataFrame) -> str:
    """The steps of training in words, in the order of the sizes."""
    by_size = dict(zip(table["examples"], table["steps"], strict=True))
    counts = [f"{steps:,}" for _, steps in sorted(by_size.items())]
    return counts[0] if len(set(counts)) == 1 else ", ".join(counts)


def _scores(axes: Axes, rows: pd.DataFrame) -> None:
    arms = list(dict.fromkeys(rows["what"]))
    ranks = sorted({int(rank) for rank in rows["rank"].dropna()})
    by_rank = dict(zip(ranks, style.colours(len(ranks)), strict=True))
    for place, (arm, look) in enumerate(zip(arms, style.looks(len(arms)), strict=True)):
        points = rows[rows["what"] == arm]
        known = points["rank"].dropna()
        colour = by_rank[int(known.iloc[0])] if len(known) else "black"
        fine = look | {"color": colour, "markersize": 3.5, "linewidth": 1, "elinewidth": 0.7, "label": arm}
        ends = [points["value"] - points["low"], points["high"] - points["value"]]
        style.bars(axes, points["examples"], points["value"], ends, style.spread_out(place, len(arms), APART), **fine)
    if CONSTANT in rows and len(points := rows.dropna(subset=[CONSTANT]).drop_duplicates("examples")):
        look = constant.LOOK | {"label": str(points[IS].iloc[0])}
        axes.plot(points["examples"], points[CONSTANT], **look)


def _ranks(axes: Axes, rows: pd.DataFrame) -> None:
    for place, (name, look) in enumerate(zip(STARS, style.looks(len(STARS)), strict=True)):
        points = rows[rows["what"] == name].rename(columns={"value": "estimate"})
        fine = look | {"label": STARS[name], "markersize": 4}
        estimate_points(axes, points["examples"], points, style.spread_out(place, len(STARS), APART), **fine)
    estimate_axis(axes, float(rows[["value", "high", "low", "tried"]].max().max()))
    axes.set_title(ARROWS)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
