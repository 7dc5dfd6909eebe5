"""What each arm scores, and r* and k*, over the number of training examples (Table 16 of the LoRA paper)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ... import estimates, style
from ...scores import score_label, split_label
from .. import comparison, update
from ..latex import BOTH, INTERVAL, NONE, Column, document, escaped, number, of_interval, units
from ..paper import SIZES
from ..records import Records, every, with_direction

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "scores, r* and k* over the number of training examples (Table 16 of the LoRA paper)"
R_STAR, K_STAR = "r*", "k*"
STARS = {R_STAR: "r*, LoRA's rank", K_STAR: "k*, directions of the full update"}
APART = 3.0
THEIRS = "GPT-3, MNLI"
"""The column of the paper's own accuracies, in per cent."""
OF_THE_PAPER = "paper_data_sizes"
"""The study that has it."""


def table(records: Records) -> pd.DataFrame | None:
    """One row per condition and arm with its score on test, and one per condition and `r*` or `k*`; None where two
    conditions have as many training examples, or no full update was cut.

    Columns: task, examples (of training), what (the arm, `r*` or `k*`), rank (of LoRA), value (NaN where none is
    found), low, high (the 95 % interval; NaN where it is open).
    """
    import pandas as pd

    counts = {task: {_examples(line) for line in records.of(task, "final")} for task in records.conditions}
    known = [next(iter(of)) for of in counts.values() if len(of) == 1]
    if len(set(known)) < max(2, len(counts)) or not update.has_cuts(records):
        return None
    arms = every(records, comparison.table).rename(columns={"test": "value", "test_low": "low", "test_high": "high"})
    stars = pd.DataFrame([row for task in records.conditions for row in _stars(records, task)])
    rows = pd.concat([arms.assign(what=arms["arm"]), stars], ignore_index=True)
    rows["examples"] = rows["task"].map(dict(zip(counts, known, strict=True)))
    columns = ["task", "examples", "what", "rank", "value", "low", "high"]
    if records.name == OF_THE_PAPER:
        pairs = zip(rows["what"], rows["examples"], strict=True)
        rows[THEIRS] = [SIZES.get(what, {}).get(examples, math.nan) for what, examples in pairs]
        columns.append(THEIRS)
    return with_direction(records, rows[columns].sort_values("examples", kind="stable", ignore_index=True))


def _examples(line: dict[str, Any]) -> int:
    return int(line["inputs"]["examples"]["train"])


def _stars(records: Records, task: str) -> Iterator[dict[str, Any]]:
    for name, star in ((R_STAR, comparison.enough(records, task)), (K_STAR, update.functional_rank(records, task))):
        if star:
            found = star.as_numbers()
            yield {"task": task, "what": name, "value": found.pop("estimate")} | found


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
    left.set_ylabel(score_label(f"score on {split_label('test', table)}", table))
    right.set_ylabel("directions")
    style.title(figure, "Scores, and the rank that is enough, over the number of training examples; 95 % intervals")
    style.legend(figure, left, columns=3)
    return figure


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


def _ranks(axes: Axes, rows: pd.DataFrame) -> None:
    for place, (name, look) in enumerate(zip(STARS, style.looks(len(STARS)), strict=True)):
        of = rows[rows["what"] == name]
        fine = look | {"label": STARS[name], "markersize": 4}
        shift = style.spread_out(place, len(STARS), APART)
        estimates.points(axes, of["examples"], of["value"], of["low"], of["high"], shift, **fine)
    estimates.axis(axes, float(rows[["value", "low", "high"]].max().max()))
    axes.set_title("arrow: at least this")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def latex(table: pd.DataFrame) -> str:
    """A row for each number of examples: the score of each arm, r* and k*, and the paper's accuracies."""
    scale, digits, unit = units(table)
    arms = [what for what in dict.fromkeys(table["what"]) if what not in STARS]
    stars = [what for what in STARS if what in set(table["what"])]
    theirs = [arm for arm in arms if THEIRS in table and table.loc[table["what"] == arm, THEIRS].notna().any()]
    head = [Column("examples", align="r"), *(Column(escaped(arm), unit, INTERVAL) for arm in arms)]
    head += [Column(f"${star[0]}^*$", align=INTERVAL) for star in stars]
    head += [Column(escaped(arm), THEIRS, "r") for arm in theirs]
    rows = []
    for examples, of in table.groupby("examples", sort=True):
        by = {str(row["what"]): row for row in of.to_dict("records")}
        cells = [_interval(by[arm], scale, digits) for arm in arms]
        cells += [_star(by[star]) for star in stars]
        rows.append([f"{examples:,}".replace(",", r"\,"), *cells, *(number(float(by[a][THEIRS])) for a in theirs)])
    notes = [
        f"Mean score on {escaped(split_label('test', table))} with its 95\\,\\% interval over seeds; $r^*$ and $k^*$, "
        "the smallest rank and cut that are surely within the margin, with theirs; $\\geq$ where none is.",
        *(["The last columns: Hu et al.\\ 2021, validation, \\%, one seed."] if theirs else []),
    ]
    return document(head, rows, notes)


def _interval(row: Mapping[Hashable, Any], scale: float, digits: int) -> str:
    return of_interval(row["value"], row["low"], row["high"], scale=scale, digits=digits)


def _star(row: Mapping[Hashable, Any]) -> str:
    if math.isnan(row["value"]):
        return NONE + BOTH if math.isnan(row["low"]) else rf"$\geq {row['low']:.0f}$" + BOTH
    return _interval(row, 1.0, 0)
