"""What a rank costs, and what it scores: parameters, memory, seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import style
from ...scores import cross, score_label, split_label
from ...variants import COLLAPSED
from .. import comparison
from ..markdown import listed
from ..records import Records, every, with_direction

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LATEX = True
COSTS = {
    "test": "score",
    "trained_body": "trained parameters",
    "peak_mib": "peak memory of a step, MiB",
    "train_seconds": "seconds of training",
}


def table(records: Records) -> pd.DataFrame | None:
    """`comparison.table` of every task; None where no arms differ in their rank alone."""
    if not records.protocol.ranked():
        return None
    return with_direction(records, every(records, comparison.table))


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Four panels over the rank, a line per task and full fine-tuning as a horizontal one."""
    figure = style.canvas(style.PAGE, 4.6)
    tasks = list(dict.fromkeys(table["task"]))
    for axes, (key, label) in zip(figure.subplots(2, 2).flat, COSTS.items(), strict=True):
        for task, look in zip(tasks, style.looks(len(tasks)), strict=True):
            rows = table[table["task"] == task]
            lora, full = rows[rows["rank"].notna()], rows[rows["rank"].isna()]
            ranks = lora["rank"].astype(int)
            if key == "test":
                bars = [lora[key] - lora["test_low"], lora["test_high"] - lora[key]]
                lost = listed(ranks[lora[key].isna()])
                label_of_task = f"{score_label(task, rows)}, LoRA" + (f" (rank {lost}: a run diverged)" if lost else "")
                axes.errorbar(ranks, lora[key], bars, capsize=2, label=label_of_task, **look)
                if COLLAPSED in lora:
                    some = lora[COLLAPSED] > 0
                    cross(axes, ranks[some], lora[key][some], axes, "a run collapsed")
                axes.axhspan(*full[["test_low", "test_high"]].iloc[0], color=look["color"], alpha=0.12, linewidth=0)
            else:
                axes.plot(ranks, lora[key], label=f"{task}, LoRA", **look)
            line = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 0.8}
            axes.axhline(full[key].iloc[0], label=f"{task}, full{_collapsed(full)}", **line)
        if key == "trained_body":
            axes.set_yscale("log")
        elif key != "test":
            axes.set_ylim(0, 1.08 * table[key].max())
        style.rank_axis(axes, sorted({int(rank) for rank in table["rank"].dropna()}))
        on = f"{label} on {split_label('test', table)}"
        axes.set(xlabel="rank of LoRA", ylabel=score_label(on, table) if key == "test" else label)
    style.title(figure, "what a rank costs, the head not counted, and what it scores: 95 % intervals over the seeds")
    style.legend(figure, figure.axes[0], columns=2)
    return figure


def _collapsed(full: pd.DataFrame) -> str:
    """How many of the full fine-tunes collapsed, in words, or nothing."""
    count, seeds = (int(full[key].iloc[0]) if key in full else 0 for key in (COLLAPSED, "seeds"))
    return f", {count} of {seeds} collapsed" if count else ""
