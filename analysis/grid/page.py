"""The page of a grid and its tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lorax_lab.record.direction import HIGHER, LOWER

from ..study.markdown import bold, bullets, listed, table
from ..study.statistics import Interval
from . import sentences
from .arms import Scored
from .comparison import Comparison, Group, together
from .table import FULL, Grid

if TYPE_CHECKING:
    import pandas as pd

FAIR, NOT_FAIR = "fair", "not fair"
HEADINGS = [
    "arm",
    "rates tried",
    "chosen by",
    "seeds",
    "best rate",
    "at the edge",
    "score",
    "scored seeds",
    "failed runs",
]


def arms_table(groups: list[Group]) -> pd.DataFrame:
    """One row per group and arm: the rates tried, what chose the best one, and the score."""
    import pandas as pd

    rows = []
    for group in groups:
        for arm in group.arms:
            of, interval = arm.arm, arm.interval
            row: dict[str, Any] = {"group": group.name, "method": of.method, "rank": of.rank}
            row |= {"rates_tried": len(arm.rates), "lowest_rate": min(arm.rates, default=math.nan)}
            row |= {"highest_rate": max(arm.rates, default=math.nan), "choosing_seeds": len(arm.seeds)}
            row |= {"best_rate": math.nan if arm.best is None else arm.best, "at_edge": arm.edge}
            row |= {"chosen_by": arm.chosen_by, "score": arm.shown, "low": interval.low, "high": interval.high}
            rows.append(row | {"scored_seeds": len(arm.scores), "failed_runs": len(arm.failures)})
    return pd.DataFrame(rows).astype({"rank": "Int64"})


def comparisons_table(groups: list[Group]) -> pd.DataFrame:
    """One row per comparison: whether it is fair, why not, and the gain of the first arm over the second."""
    import pandas as pd

    rows = []
    for group in groups:
        for each in group.comparisons:
            gain = each.gain or Interval(math.nan, math.nan, math.nan, 0)
            row = {"group": group.name, "first": each.first.arm, "second": each.second.arm if each.second else FULL}
            row |= {"status": FAIR if each.fair else NOT_FAIR, "why": "; ".join(each.reasons)}
            rows.append(row | {"gain": gain.mean, "low": gain.low, "high": gain.high, "seeds": gain.count})
    columns = ["group", "first", "second", "status", "why", "gain", "low", "high", "seeds"]
    return pd.DataFrame(rows, columns=columns).astype({"first": str, "second": str})


def write(
    name: str, grid: Grid, groups: list[Group], higher_is_better: bool, margin: float | None, picture: str | None
) -> str:
    """The page, in Markdown.

    Args:
        name: of the table.
        picture: its file beside the page; None leaves it out, as for the terminal.
    """
    parts = [f"# {name}, read by the rules of our studies", bold(summary(groups))]
    parts += [f"![Score against learning rate, the best rate of each arm ringed]({picture})"] if picture else []
    parts += bullets([*sentences.unsaid(grid), _direction(grid, higher_is_better), _margin(margin)])
    for group in groups:
        parts += _of_group(group, higher_is_better, margin)
    return "\n\n".join(parts) + "\n"


def summary(groups: list[Group]) -> str:
    """How many comparisons are fair, in a sentence."""
    every = [each for group in groups for each in group.comparisons]
    fair = sum(each.fair for each in every)
    where = f" in {len(groups)} groups" if len(groups) > 1 else ""
    if not every:
        return f"There is nothing to compare{where}: one arm."
    return f"{fair} of {len(every)} comparisons{where} {'is' if fair == 1 else 'are'} fair."


def _direction(grid: Grid, higher_is_better: bool) -> str:
    return f"{grid.metric or 'The score'}: {HIGHER if higher_is_better else LOWER}, as was typed."


def _margin(margin: float | None) -> str:
    if margin is None:
        return "No margin was typed, by which a score may be worse and still match."
    return f"The margin is {margin:g}, as was typed. Whether it was declared before the runs the table does not say."


def _of_group(group: Group, higher_is_better: bool, margin: float | None) -> list[str]:
    parts = [f"## {group.name}", table(HEADINGS, [_row(arm) for arm in group.arms])]
    notes = [
        *sentences.rests_on(group),
        *sentences.failures(group),
        *sentences.uncounted(group),
        *sentences.unused(group),
    ]
    parts += bullets(_starred(notes)) if notes else []
    if group.comparisons:
        parts += ["### Comparisons", table(["comparison", "status", "why"], _comparisons(group))]
        parts += ["### What it supports", *bullets(_starred(sentences.supports(group, higher_is_better, margin)))]
    return parts


def _row(arm: Scored) -> list[str]:
    ends = f": {arm.rates[0]:g} to {arm.rates[-1]:g}" if arm.rates else ""
    best = "none" if arm.best is None else f"{arm.best:g}"
    counts = [str(len(arm.seeds)), str(len(arm.scores) or "none"), str(len(arm.failures) or "none")]
    cells = [_cell(str(arm.arm)), f"{len(arm.rates)}{ends}", arm.chosen_by, counts[0], best, arm.edge or "no"]
    return [*cells, _score(arm), *counts[1:]]


def _score(arm: Scored) -> str:
    if arm.lost or math.isnan(arm.shown):
        return "none"
    return f"{arm.shown:.4f}" if math.isnan(arm.interval.low) else str(arm.interval)


def _comparisons(group: Group) -> list[list[str]]:
    """The fair ones each in a line, then the others, those of the same reasons in one."""
    fair = [[_cell(each.name), FAIR, _gain(each)] for each in group.comparisons if each.fair]
    unfair = together(group.comparisons).items()
    listing = ((listed(each.name for each in found), "; ".join(why)) for why, found in unfair)
    return fair + [[_cell(names), NOT_FAIR, _cell(why)] for names, why in listing]


def _cell(text: str) -> str:
    """A name inside a table."""
    return text.replace("|", r"\|")


def _gain(each: Comparison) -> str:
    if each.gain is None or math.isinf(each.gain.mean):
        return "a run that scores one of them failed"
    return f"gain {each.gain}"


def _starred(lines: list[str]) -> list[str]:
    return [line.replace("*", r"\*") for line in lines]
