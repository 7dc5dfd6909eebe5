"""The choice of the learning rates as plotly draws it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import constant
from ..scores import higher_is_better, score_label, split_label
from ..study.figures import trials
from ..variants import COLLAPSED
from .plot import COLLAPSED_MARK, INK, Trace, View, axis, constant_level, looks, plain, scatter

if TYPE_CHECKING:
    import pandas as pd

DIVERGED_MARK = {"symbol": "square-open", "size": 10, "color": INK, "line": {"width": 1.5, "color": INK}}
NO_MEAN = f"{trials.DIVERGED}, so no mean"
BEYOND = 0.06
"""How far beyond the worst score the marks of diverged rates stand, as a share of the scores' range."""
LARGE, SMALL = 14, 6
"""Sizes of the mark of a rate that was chosen, and of the others."""


def of_trials(table: pd.DataFrame) -> list[View]:
    """A view for each task: the mean validation score over the learning rate, a line for each arm, the chosen rate
    ringed. A rate of which a trial diverged has no mean: its mark stands at the end of the worst scores, and the arm's
    line is broken."""
    means = trials.means(table)
    views = []
    for task, rows in table.groupby("task", sort=False):
        own = means[means["task"] == task]
        arms, rates = own.groupby("arm", sort=False), rows["learning_rate"]
        traces = [_line(str(arm), of, look) for (arm, of), look in zip(arms, looks(len(arms)), strict=True)]
        traces += [*_collapsed(own), *_diverged(rows, own)]
        traces += constant_level(rows, (float(rates.min()) / 1.2, float(rates.max()) * 1.2))
        score = score_label(f"score on {split_label('validation', rows)}", rows)
        horizontal = axis("learning rate; ringed: chosen", type="log", exponentformat="power")
        views.append(View(str(task), traces, {"xaxis": horizontal, "yaxis": axis(score)}))
    return views


def _line(arm: str, rows: pd.DataFrame, look: dict[str, Any]) -> Trace:
    rows = rows.sort_values("learning_rate")
    marker = look["marker"] | {
        "size": [LARGE if chosen else SMALL for chosen in rows["chosen"]],
        "symbol": ["circle-open" if chosen else look["marker"]["symbol"] for chosen in rows["chosen"]],
        "line": {"width": [3 if chosen else 0 for chosen in rows["chosen"]]},
    }
    settings = {"line": look["line"], "marker": marker, "mode": "lines+markers"}
    return scatter(arm, rows["learning_rate"], rows["mean"], hovertemplate="rate %{x:.3g}: %{y:.4f}", **settings)


def _collapsed(means: pd.DataFrame) -> list[Trace]:
    of = means[means[COLLAPSED] & means["mean"].notna()]
    if of.empty:
        return []
    hover = {"customdata": [plain(arm) for arm in of["arm"]], "hovertemplate": "%{customdata}, rate %{x:.3g}: %{y:.4f}"}
    return [scatter(trials.CROSSED, of["learning_rate"], of["mean"], mode="markers", marker=COLLAPSED_MARK, **hover)]


def _diverged(rows: pd.DataFrame, means: pd.DataFrame) -> list[Trace]:
    """A mark for each rate of which a trial of some arm diverged; which arms, it says when it is pointed at."""
    lost = means[means["mean"].isna()].groupby("learning_rate")["arm"]
    if not len(lost):
        return []
    known = [*means["mean"].dropna(), *([found[0]] if (found := constant.of_rows(rows)) else [])] or [0.0]
    higher, room = higher_is_better(rows), BEYOND * ((max(known) - min(known)) or 1.0)
    end, where = (min(known) - room, "at the foot") if higher else (max(known) + room, "at the top")
    hover = {
        "customdata": [plain(", ".join(arms)) for _, arms in lost],
        "hovertemplate": "%{customdata}, rate %{x:.3g}",
    }
    name = f"{NO_MEAN} ({where})"
    return [scatter(name, lost.groups, [end] * len(lost), mode="markers", marker=DIVERGED_MARK, **hover)]
