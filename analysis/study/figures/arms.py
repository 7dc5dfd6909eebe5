"""Every arm's difference from the reference, one below the other: for arms that differ in more than their rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lorax_lab.record.direction import oriented

from ... import style
from ...scores import higher_is_better, intervals_over, score_label, split_label
from .. import comparison, rates
from ..latex import INTERVAL, Column, bold, document, escaped, number, of_interval, units
from ..paper import TABLES
from ..records import Records, every, models_of, with_direction, with_model

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = (
    "every arm's difference in score from full fine-tuning; its tables have the LoRA paper's numbers where it has any"
)
MARGIN = "margin"
ROW = 0.17
"""Inches of an arm."""


def table(records: Records) -> pd.DataFrame:
    """`comparison.table` of every task, with the declared margin, and a column of the paper's numbers for each that it
    has of these arms."""
    found = comparison.with_ends_of_one_seed(records, every(records, comparison.table))
    rows = with_model(records, with_direction(records, found))
    theirs = {name: rows["arm"].map(of_arm) for name, of_arm in TABLES.get(records.name, {}).items()}
    return rows.assign(**{MARGIN: records.protocol.margin}, **theirs)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel for each task on a common scale; a point is filled where the arm is surely within the margin, and a
    diamond where LoRA was trained at another learning rate than most of its arms."""
    tasks = list(dict.fromkeys(table["task"]))
    arms = [arm for arm in dict.fromkeys(table["arm"]) if table.loc[table["arm"] == arm, "matches"].notna().any()]
    across = min(len(tasks), 3)
    down = -(-len(tasks) // across)
    figure = style.canvas(style.PAGE, 1.2 + down * (0.6 + ROW * len(arms)))
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    panels = list(grid.flat)
    for axes in panels[len(tasks) :]:
        axes.remove()
    for axes, task in zip(panels, tasks, strict=False):
        _arms(axes, table[table["task"] == task], arms)
        axes.set_title(score_label(task, table[table["task"] == task], "\n"))
    for axes in panels[max(0, len(tasks) - across) : len(tasks)]:
        axes.set_xlabel("difference in score")
        axes.tick_params(labelbottom=True)
    panels[0].set_yticks(range(len(arms)), arms)
    panels[0].invert_yaxis()
    of = f"{models_of(table)}: differences from full fine-tuning on {split_label('test', table)}, "
    text = f"{of}{intervals_over(table, 'difference')}; filled: surely within the margin of {table[MARGIN].iloc[0]:g}"
    if any(rates.others(of_task) for _, of_task in table.groupby("task")):
        text += "; diamonds: LoRA at another learning rate than most of its arms"
    style.title(figure, text)
    return figure


def _arms(axes: Axes, rows: pd.DataFrame, arms: list[str]) -> None:
    of_arm = rows.set_index("arm").loc[[arm for arm in arms if arm in set(rows["arm"])]]
    places = np.array([arms.index(arm) for arm in of_arm.index])
    ends = [of_arm["difference"] - of_arm["difference_low"], of_arm["difference_high"] - of_arm["difference"]]
    look: dict[str, Any] = {"color": style.distinct(1)[0], "linestyle": "", "marker": "o", "markersize": 4}
    axes.errorbar(of_arm["difference"], places, xerr=ends, elinewidth=0.9, capsize=2, **(look | {"marker": ""}))
    short = ~of_arm["matches"].fillna(value=False).astype(bool).to_numpy()
    unlike = rates.is_unlike(of_arm)
    for marker, kind in (("o", ~unlike), ("D", unlike)):
        for mark, of in ((look, kind & ~short), (look | {"mfc": "white"}, kind & short)):
            axes.plot(of_arm["difference"][of], places[of], **(mark | {"marker": marker, "zorder": 4}))
    for place in (0.0, oriented(-float(rows[MARGIN].iloc[0]), higher_is_better(rows))):
        axes.axvline(place, color="0.4", linewidth=0.8, linestyle="-" if place == 0 else "--", zorder=0)


def latex(table: pd.DataFrame) -> str:
    """A row for each arm: the score of the reference and differences from it for each task, and the paper's numbers."""
    scale, digits, unit = units(table)
    tasks = list(dict.fromkeys(table["task"]))
    theirs = [name for name in table.columns if name in {key for of in TABLES.values() for key in of}]
    head = [Column("arm"), *(Column(escaped(task), unit, INTERVAL) for task in tasks)]
    head += [Column(escaped(name), r"\%", "r") for name in theirs]
    rows = []
    for arm, of_arm in table.groupby("arm", sort=False):
        by_task = of_arm.set_index("task")
        cells = [escaped(str(arm)), *(_cell(by_task.loc[task], scale, digits) for task in tasks)]
        rows.append([*cells, *(number(float(of_arm[name].iloc[0])) for name in theirs)])
    notes = [
        f"{escaped(models_of(table))}.",
        f"First row: mean score on {escaped(split_label('test', table))} of {int(table['seeds'].max())} seeds with its "
        "95\\,\\% interval; below, differences from it with 95\\,\\% intervals.",
        f"Bold: surely not worse by more than the margin of {scale * float(table[MARGIN].iloc[0]):g}.",
        *(["The last columns: Hu et al.\\ 2021, validation, one seed."] if theirs else []),
        *rates.notes(table),
    ]
    return document(head, rows, notes)


def _cell(row: pd.Series[Any], scale: float, digits: int) -> str:
    import pandas as pd

    keys, signed = ("difference", "difference_low", "difference_high"), True
    if pd.isna(row["matches"]):
        keys, signed = ("test", "test_low", "test_high"), False
    mean, low, high = (float(row[key]) for key in keys)
    text = of_interval(mean, low, high, signed, scale, digits)
    return bold(text) if not pd.isna(row["matches"]) and row["matches"] else text
