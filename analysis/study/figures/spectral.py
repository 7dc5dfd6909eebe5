"""The full update's spectral ranks, beside what noise of its shape has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import style
from .. import update
from ..records import Records, every, models_of, with_model

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "the full update's spectral ranks by type of matrix and layer, as shares of noise's"
SHOWN = ("effective_rank", "stable_rank", "participation_ratio", "energy_rank_90")


def table(records: Records) -> pd.DataFrame | None:
    """`update.spectral` of every task, by module and by layer (column `by`); None where the reference is no full
    fine-tuning, whose update is cut."""
    import pandas as pd

    if not update.has_cuts(records):
        return None
    parts = [every(records, update.spectral, by).assign(by=by) for by in ("module", "layer")]
    return with_model(records, pd.concat(parts, ignore_index=True).astype({"group": str}))


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Each measure as a share of what noise of the same shape has, by module type (left) and by layer (right)."""
    tasks = list(dict.fromkeys(table["task"]))
    names = {by: list(dict.fromkeys(table.loc[table["by"] == by, "group"])) for by in ("module", "layer")}
    figure = style.canvas(style.PAGE, 1.9 + 1.35 * len(tasks))
    grid = figure.subplots(len(tasks), 2, squeeze=False, sharey=True, sharex="col")
    for row, task in zip(grid, tasks, strict=True):
        for axes, by in zip(row, ("module", "layer"), strict=True):
            rows = table[(table["task"] == task) & (table["by"] == by)]
            groups = names[by]
            for number, (measure, look) in enumerate(zip(SHOWN, style.looks(len(SHOWN)), strict=True)):
                of = rows[rows["measure"] == measure]
                share, low, high = (of[key] / of["null"] for key in ("mean", "low", "high"))
                places = [groups.index(group) for group in of["group"]]
                settings = look | {"linestyle": "", "markersize": 3.5, "label": measure.replace("_", " ")}
                beside = style.spread_out(number, len(SHOWN), 3.0)
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
