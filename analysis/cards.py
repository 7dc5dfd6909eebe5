"""`python -m analysis cards FOLDER`: of many rank cards, whether the cut that was chosen on validation held on test.

Reads the `card.json` of each card in the folder; needs no model.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.errors import ConfigError, in_short

from . import estimates, style
from .folders import UNREADABLE, Drawn, draw_folder

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FACTS = "card.json"
MAKER = "python -m lorax_lab.card runs/*-lora-* --task"
WHOLE = "no smaller rank was sure: the whole is kept"
HELD: dict[str, Any] = {"marker": "o", "markersize": 3.5}
LOST: dict[str, Any] = {"marker": "x", "markersize": 6}
ROUNDING = 1e-9
"""What a difference of two shares may lack of the margin by rounding alone."""
APART = 2.0
"""Points between cards of one rank."""


def main(arguments: list[str] | None = None) -> int:
    """Draw the figure of a folder of cards; returns the exit code."""
    description = (
        "Of many rank cards with a task: the rank that each chose on validation, and what that cut changed on test. "
        "Says how many held, with the exact 95 % interval (Clopper and Pearson 1934)."
    )
    return draw_folder(arguments, "cards", description, MAKER, read, write)


def read(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """One row per card that was scored, and why each other card is left out.

    Columns: card (its folder), title, task, metric, margin, full (the adapter's rank), chosen, examples (of
    test), whole (its score on test), difference (above 0 the cut is better), low, high (95 %), held.

    Raises:
        ConfigError: no card was scored.
    """
    import pandas as pd

    rows, left_out = [], []
    for path in sorted(folder.glob(f"*/{FACTS}")):
        name = path.parent.name
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            if facts["scores"] is None:
                left_out.append(f"{name}: it was made without --task")
            else:
                rows.append({"card": name, "title": facts["title"]} | _row(facts["scores"]))
        except UNREADABLE as error:
            left_out.append(f"{name}: {FACTS} cannot be read: {in_short(error)}; make the card again")
    if not rows:
        why = f": {left_out[0]}" if left_out else ""
        raise ConfigError(f"{folder} has no card with a task{why}; type {MAKER}")
    return pd.DataFrame(rows), left_out


def _row(scores: dict[str, Any]) -> dict[str, Any]:
    test = scores["test"]
    low, high = (math.nan if test[end] is None else float(test[end]) for end in ("low", "high"))
    return {
        "task": str(scores["task"]),
        "metric": str(scores["metric"]),
        "margin": float(scores["margin"]),
        "full": int(scores["full"]),
        "chosen": int(scores["chosen"]),
        "examples": int(scores["examples"]["test"]),
        "whole": float(scores["whole"]["test"]),
        "difference": float(test["difference"]),
        "low": low,
        "high": high,
        "held": float(test["difference"]) >= -float(scores["margin"]) - ROUNDING,
    }


def write(content: tuple[pd.DataFrame, list[str]], folder: Path) -> Drawn:
    """The figure and the table behind it: `cards.png`, `.pdf` and `.csv`; prints what is said of each task."""
    table, left_out = content
    print(*sentences(table), sep="\n")
    style.save(table, draw(table), folder / "cards")
    return ["cards.{png,pdf,csv}"], left_out


def sentences(table: pd.DataFrame) -> list[str]:
    """How many cuts held, of all cards and of those that were cut, for each task and together."""
    tasks = {str(task): rows for task, rows in table.groupby("task", sort=False)}
    parts = tasks if len(tasks) == 1 else {"all tasks": table} | tasks
    return [_sentence(name, rows) for name, rows in parts.items()]


def _sentence(name: str, rows: pd.DataFrame) -> str:
    smaller = rows[rows["chosen"] < rows["full"]]
    text = f"{name}: the chosen rank kept the test score within the margin in {_share(rows)} of the cards"
    if smaller.empty:
        return f"{text}; no smaller rank was sure enough for any, and the whole was kept."
    kept = len(rows) - len(smaller)
    worst = float(smaller["difference"].min())
    beside = f"; of the {len(smaller)} that were cut, in {_share(smaller)}" if kept else ""
    return (
        f"{text}{beside}. A cut changed it by {smaller['difference'].mean():+.3f} in the mean, {worst:+.3f} at worst."
    )


def _share(rows: pd.DataFrame) -> str:
    from scipy.stats import binomtest

    held, count = int(rows["held"].sum()), len(rows)
    ends = binomtest(held, count).proportion_ci(0.95, method="exact")
    return f"{held} of {count} (95 % interval {ends.low:.3f} to {ends.high:.3f})"


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A row of panels for each task: left the chosen rank, right what the cut changed on test, over the whole rank."""
    tasks = list(dict.fromkeys(table["task"]))
    figure = style.canvas(style.PAGE, 1.0 + 2.0 * len(tasks))
    grid = figure.subplots(len(tasks), 2, squeeze=False)
    for (left, right), task in zip(grid, tasks, strict=True):
        rows = table[table["task"] == task]
        _panel(left, rows, "chosen")
        _panel(right, rows, "difference")
        left.set_title(task)
        left.set_ylabel("chosen rank")
        right.set_ylabel(f"change in {rows['metric'].iloc[0]} on test")
    for axes in grid[-1]:
        axes.set_xlabel("rank of the adapter or update")
    text = " ".join(sentences(table)[:1])
    style.title(figure, text)
    style.legend(figure, grid[0][0], columns=3)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, key: str) -> None:
    """The cards of a task side by side over their rank."""
    ranks = sorted({int(rank) for rank in rows["full"]})
    is_rank = key == "chosen"
    for rank in ranks:
        of = rows[rows["full"] == rank].reset_index(drop=True)
        for place, card in of.iterrows():
            shift = style.spread_out(int(str(place)), len(of), APART)
            cut = bool(card["chosen"] < card["full"])
            value = max(float(card[key]), estimates.LEAST) if is_rank else float(card[key])
            ends = (0.0, 0.0) if is_rank or math.isnan(card["low"]) else (value - card["low"], card["high"] - value)
            look = (HELD if card["held"] else LOST) | {"color": "black" if cut else "0.55"}
            style.bars(axes, [rank], [value], [[end] for end in ends], shift, linestyle="", elinewidth=0.7, **look)
    if is_rank:
        axes.plot(ranks, ranks, color="0.75", linewidth=3, zorder=0, label="the whole rank")
        estimates.axis(axes, max(ranks))
        kinds = {"cut": (HELD, "black"), WHOLE: (HELD, "0.55"), "cut, and not within the margin": (LOST, "black")}
        for label, (look, colour) in kinds.items():
            axes.plot([], [], linestyle="", color=colour, label=label, **look)
    else:
        axes.axhline(0, color="0.4", linewidth=0.8, zorder=0)
        axes.axhline(-float(rows["margin"].max()), color="0.4", linewidth=0.8, linestyle="--", zorder=0)
    style.rank_axis(axes, ranks)
