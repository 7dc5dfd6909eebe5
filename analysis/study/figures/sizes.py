"""What each arm scores, and r* and k*, over the number of training examples."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ... import constant, style
from ...axes import ARROWS, estimate_axis, estimate_points
from ...constant import CONSTANT, IS
from ...scores import score_label, split_label
from .. import comparison, update
from ..constants import with_constants
from ..latex import BOTH, INTERVAL, NONE, Column, document, escaped, number, of_interval, units, whole
from ..paper import SIZES
from ..records import Records, every, models_of, with_direction, with_model

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "scores, r* and k* over the number of training examples (the LoRA paper's Table 16 has the scores)"
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

    found = {task: {_counts(line) for line in records.of(task, "final")} for task in records.conditions}
    known = {task: next(iter(of)) for task, of in found.items() if len(of) == 1}
    sizes = {examples for examples, _ in known.values()}
    if len(sizes) < max(2, len(found)) or not update.has_cuts(records):
        return None
    arms = every(records, comparison.table).rename(columns={"test": "value", "test_low": "low", "test_high": "high"})
    stars = pd.DataFrame([row for task in records.conditions for row in _stars(records, task)])
    rows = pd.concat([arms.assign(what=arms["arm"]), stars], ignore_index=True)
    rows = rows.assign(margin=records.protocol.margin)
    rows[["examples", "steps"]] = [known[task] for task in rows["task"]]
    if records.name == OF_THE_PAPER:
        pairs = zip(rows["what"], rows["examples"], strict=True)
        rows[THEIRS] = [SIZES.get(what, {}).get(examples, math.nan) for what, examples in pairs]
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
    of = f"{models_of(table)}: scores, and the smallest rank and cut that are surely within {margin}"
    text = f"{of}, over the number of training examples. Training took {_steps(table)} steps"
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
        of = rows[rows["what"] == arm]
        known = of["rank"].dropna()
        colour = by_rank[int(known.iloc[0])] if len(known) else "black"
        fine = look | {"color": colour, "markersize": 3.5, "linewidth": 1, "elinewidth": 0.7, "label": arm}
        ends = [of["value"] - of["low"], of["high"] - of["value"]]
        style.bars(axes, of["examples"], of["value"], ends, style.spread_out(place, len(arms), APART), **fine)
    if CONSTANT in rows and len(of := rows.dropna(subset=[CONSTANT]).drop_duplicates("examples")):
        look = constant.LOOK | {"label": str(of[IS].iloc[0])}
        axes.plot(of["examples"], of[CONSTANT], **look)


def _ranks(axes: Axes, rows: pd.DataFrame) -> None:
    for place, (name, look) in enumerate(zip(STARS, style.looks(len(STARS)), strict=True)):
        of = rows[rows["what"] == name].rename(columns={"value": "estimate"})
        fine = look | {"label": STARS[name], "markersize": 4}
        estimate_points(axes, of["examples"], of, style.spread_out(place, len(STARS), APART), **fine)
    estimate_axis(axes, float(rows[["value", "high", "low", "tried"]].max().max()))
    axes.set_title(ARROWS)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def latex(table: pd.DataFrame) -> str:
    """A column for each number of examples: steps, the score of each arm, r* and k*, and the paper's accuracies."""
    scale, digits, unit = units(table)
    sizes = {size: _by_what(of) for size, of in table.groupby("examples", sort=True)}
    arms = [what for what in dict.fromkeys(table["what"]) if what not in STARS]
    stars = [what for what in STARS if what in set(table["what"])]
    head = [Column("examples"), *(Column(whole(float(str(size))), unit, INTERVAL) for size in sizes)]
    rows = [["steps", *(whole(of[arms[0]]["steps"]) + BOTH for of in sizes.values())]]
    rows += [[escaped(arm), *(_interval(of[arm], scale, digits) for of in sizes.values())] for arm in arms]
    rows += [[f"${star[0]}^*$", *(_star(of[star]) for of in sizes.values())] for star in stars]
    theirs = [arm for arm in arms if THEIRS in table and table.loc[table["what"] == arm, THEIRS].notna().any()]
    if theirs:
        rows += [[], [escaped(f"{THEIRS} (Hu et al. 2021)")]]
        rows += [[escaped(arm), *(number(of[arm][THEIRS]) + BOTH for of in sizes.values())] for arm in theirs]
    margin = f"{scale * float(table['margin'].iloc[0]):g}"
    notes = [
        f"{escaped(models_of(table))}.",
        f"Mean score on {escaped(split_label('test', table))} with its 95\\,\\% interval over",
        f"{int(table['seeds'].max())} seeds.",
        f"$r^*$ and $k^*$: the smallest rank and cut that are surely within {margin} of full fine-tuning and of its",
        "whole update, with the 95\\,\\% interval over seeds and test examples;",
        "$\\geq$: at least, $>$: above the largest tried.",
        *([f"Hu et al.: LoRA of query and value; validation, \\%, one seed{_beyond(sizes)}."] if theirs else []),
    ]
    return document(head, rows, notes)


def _beyond(sizes: Iterable[object]) -> str:
    """The paper's accuracies at larger sizes than any here."""
    largest = max(int(str(size)) for size in sizes)
    beyond = sorted({count for of in SIZES.values() for count in of if count > largest})
    of_size = [
        f"at {whole(count)}, {', '.join(f'{arm} {of[count]:g}' for arm, of in SIZES.items())}" for count in beyond
    ]
    return "".join(f"; {text}" for text in of_size)


def _by_what(rows: pd.DataFrame) -> dict[str, Mapping[Hashable, Any]]:
    return {str(row["what"]): row for row in rows.to_dict("records")}


def _interval(row: Mapping[Hashable, Any], scale: float, digits: int) -> str:
    return of_interval(row["value"], row["low"], row["high"], scale=scale, digits=digits)


def _star(row: Mapping[Hashable, Any]) -> str:
    if not math.isnan(row["value"]):
        return _interval(row, 1.0, 0)
    if not math.isnan(row["low"]):
        return rf"$\geq {row['low']:.0f}$" + BOTH
    return NONE + BOTH if math.isnan(row["tried"]) else rf"$> {row['tried']:.0f}$" + BOTH
