"""`python -m analysis cards FOLDER`: of many rank cards, whether the cuts that were chosen on validation held on test.

Reads the `card.json` of each card in the folder; needs no model.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binomtest

from lorax_lab.errors import ConfigError
from lorax_lab.record.direction import labelled

from . import style
from .axes import LEAST, estimate_axis
from .folders import Drawn, draw_folder

MAKER = "python -m lorax_lab.audit card runs/*-lora-* --task"
GROUP = ("task", "metric", "margin")
ROUNDING = 1e-9
"""What a difference of two shares may lack of the margin by rounding alone."""
HELD: dict[str, Any] = {"marker": "o", "markersize": 3.5, "color": "black"}
LOST: dict[str, Any] = {"marker": "x", "markersize": 6, "color": "black"}
UNCUT: dict[str, Any] = {"marker": "o", "markersize": 3.5, "color": "0.6"}
APART, WIDEST = 2.0, 16.0
"""Points between cards of one rank, and between the first and the last of many."""


def main(arguments: list[str] | None = None) -> int:
    """Draw the figure of a folder of cards; returns the exit code."""
    description = (
        "Of many rank cards with a task: the rank that each chose on validation, and what that cut changed on test. "
        "Says how many cuts kept the test score within the margin. The 95 % interval (Clopper and Pearson 1934) is "
        "that of independent cards; cards of one base and one test split are not."
    )
    return draw_folder(arguments, "cards", description, MAKER, read, write)


def read(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """One row per card that was scored, and why each other card is left out.

    Columns: card (its folder), title, base, those of `GROUP`, full (the adapter's rank), chosen, validation and test
    (numbers of examples), whole (its score on test), gain (of the cut on test; above 0 it is better, whichever scores
    are), low, high (95 % over the test examples; NaN where the metric has none), is_cut, held (the gain is within the
    margin), surely_held, surely_lost (the whole interval is within it, or outside).

    Raises:
        ConfigError: no card was scored.
    """
    rows, left_out, seen = [], [], dict[str, str]()
    for path in sorted(folder.glob("*/card.json")):
        name, text = path.parent.name, path.read_text(encoding="utf-8")
        facts = json.loads(text)
        if facts["scores"] is None:
            left_out.append(f"{name}: it was made without --task")
        elif (first := seen.setdefault(text, name)) != name:
            left_out.append(f"{name}: it is the same card as {first}")
        else:
            rows.append({"card": name, "title": facts["title"], "base": facts["base"]} | _row(facts["scores"]))
    if not rows:
        why = f": {left_out[0]}" if left_out else ""
        raise ConfigError(f"{folder} has no card with a task{why}; type {MAKER}")
    return pd.DataFrame(rows), left_out


def _row(scores: dict[str, Any]) -> dict[str, Any]:
    test, line = scores["test"], -scores["margin"] - ROUNDING
    low, high = (math.nan if test[end] is None else test[end] for end in ("low", "high"))
    return {
        "task": scores["task"],
        "metric": labelled(scores["metric"], scores["higher_is_better"]),
        **{key: scores[key] for key in ("margin", "full", "chosen")},
        **scores["examples"],
        "whole": scores["whole"]["test"],
        "gain": test["difference"],
        "low": low,
        "high": high,
        "is_cut": scores["chosen"] < scores["full"],
        "held": test["difference"] >= line,
        "surely_held": low >= line,
        "surely_lost": high < line,
    }


def write(content: tuple[pd.DataFrame, list[str]], folder: Path) -> Drawn:
    """The figure and the table behind it: `cards.png`, `.pdf` and `.csv`; prints a sentence for each group."""
    table, left_out = content
    print(*(f"{name}: {sentence(rows)}" for name, rows in groups(table).items()), sep="\n")
    style.save(table, draw(table), folder / "cards")
    return ["cards.{png,pdf,csv}"], left_out


def groups(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The cards that may be counted together: of one task, metric and margin."""
    by = table.groupby([*GROUP], sort=False)
    return {f"{task}, {metric}, margin {margin:g}": rows for (task, metric, margin), rows in by}


def sentence(rows: pd.DataFrame) -> str:
    """How many cards of a group were cut, how many of the cuts held on test, and what they changed."""
    cut, uncut = rows[rows["is_cut"]], int((~rows["is_cut"]).sum())
    kept_whole = f"{uncut} of {len(rows)} cards kept the whole rank, since no smaller one was surely within the margin."
    if cut.empty:
        return kept_whole
    held = int(cut["held"].sum())
    ends = binomtest(held, len(cut)).proportion_ci(0.95, method="exact")
    return (
        f"{held} of {len(cut)} cuts held on test (95 % interval {ends.low:.3f} to {ends.high:.3f}, as of independent "
        f"cards); by each card's own interval {cut['surely_held'].sum()} surely, {cut['surely_lost'].sum()} surely "
        f"not; mean gain {cut['gain'].mean():+.3f}, lowest {cut['gain'].min():+.3f}. "
        f"{kept_whole if uncut else 'No card kept the whole rank.'}"
    )


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A row of panels for each group: left the chosen rank, right the gain of the cut on test, over the whole rank."""
    parts = groups(table)
    figure = style.canvas(style.PAGE, 1.2 + 2.0 * len(parts))
    grid = figure.subplots(len(parts), 2, squeeze=False)
    for (left, right), (name, rows) in zip(grid, parts.items(), strict=True):
        ranks = _by_rank(left, rows, "chosen")
        marks: dict[str, Any] = {"color": "0.75", "linewidth": 3, "zorder": 0, "marker": "_", "markersize": 12}
        left.plot(ranks, ranks, label="the whole rank", **marks)
        estimate_axis(left, max(ranks))
        left.set(title=name, ylabel="chosen rank")
        _by_rank(right, rows, "gain")
        for end, line in ((0.0, "-"), (-float(rows["margin"].iloc[0]), "--")):
            right.axhline(end, color="0.4", linewidth=0.8, linestyle=line, zorder=0)
        right.set_ylabel("gain on test")
    for axes in grid[-1]:
        axes.set_xlabel("rank of the adapter or update")
    for label, look in {"cut": HELD, "cut, and not within the margin": LOST, "the whole is kept": UNCUT}.items():
        grid[0][0].plot([], [], linestyle="", label=label, **look)
    grid[0][0].plot([], [], color="0.4", linewidth=0.8, linestyle="--", label="the margin")
    grid[0][0].plot([], [], color="black", marker="|", linestyle="", markersize=8, label="95 % over test examples")
    only = f": {sentence(table)}" if len(parts) == 1 else "."
    title = f"The rank that {len(table)} cards chose on validation, and what that cut changes on test{only}"
    return style.finish(figure, title, grid[0][0], columns=3)


def _by_rank(axes: Axes, rows: pd.DataFrame, key: str) -> list[int]:
    """The cards over their rank, those of one rank side by side; returns the ranks."""
    ranks = sorted({int(rank) for rank in rows["full"]})
    style.rank_axis(axes, ranks)
    for rank in ranks:
        cards = rows[rows["full"] == rank].to_dict("records")
        apart = min(APART, WIDEST / len(cards))
        for place, card in enumerate(cards):
            look = UNCUT if not card["is_cut"] else HELD if card["held"] else LOST
            value = card["gain"] if key == "gain" else max(card["chosen"], LEAST)
            ends = [[card[end]] if key == "gain" else [value] for end in ("low", "high")]
            shift = style.spread_out(place, len(cards), apart)
            style.bars(axes, [rank], [value], *ends, shift=shift, linestyle="", elinewidth=0.7, **look)
    return ranks
