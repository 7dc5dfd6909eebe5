"""What each arm scores, and r* and k*, over the number of training examples (Table 16 of the LoRA paper)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ... import style
from ...scores import score_label, split_label
from .. import comparison, update
from ..records import Records, every, with_direction

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "scores, r* and k* over the number of training examples (Table 16 of the LoRA paper)"
R_STAR, K_STAR = "r*", "k*"
STARS = {R_STAR: "r*, LoRA's rank", K_STAR: "k*, directions of the full update"}
APART = 3.0


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
        style.estimates(axes, of["examples"], of["value"], of["low"], of["high"], shift, **fine)
    style.estimate_axis(axes, float(rows[["value", "low", "high"]].max().max()))
    axes.set_title("arrow: at least this")
    axes.legend(loc="upper left")
