"""The panels: which keys of a run each draws, and how. Workspace and report lay out the same ones.

Every key stands in `lorax_lab.windows.contents`, which says what a run shows; a test compares them with what a run
logged.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from lorax_lab.dashboard.library import reports
from lorax_lab.dashboard.shown import Shown

CATEGORIES = ("weights", "gradients", "optimizer_states", "activations", "temporaries")
RANK, RATE, ARM, TASK = "rank", "train.learning_rate", "arm", "task.name"
"""Settings of a run, as W&B's configuration of it has them."""
COLUMNS = (
    "summary:status",
    "summary:score",
    "summary:reference/score",
    f"config:{RANK}.value",
    "summary:parameters/trainable",
    "summary:status/why",
)
"""Columns of the list of runs that stay in sight."""
ANSWER = "Answer"
RUNS = 100
"""Runs, or arms, that a panel draws at most."""
WIDE = 24
"""Units of a report's width."""


@dataclass(frozen=True)
class Section:
    """Panels that stand together under one heading."""

    name: str
    panels: list[Any]


def sections(shown: Shown) -> list[Section]:
    """Every panel of the runs, in the order in which they are read."""
    made = {
        ANSWER: [_against_rank(), _against_parameters(), _parallel(), _difference()],
        "Truncation": [_truncation()],
        "Spectrum": [*_noise_shares(shown), *_spectra(shown), _captured(), _pictures()],
        "Cost": [_memory(), _peak(), _seconds()],
        "Learning curves": _curves(shown),
    }
    return [Section(name, _identified(name, panels)) for name, panels in made.items()]


def answers(name: str) -> list[Any]:
    """The panels of the answer for runs of one task: the ranks of a method are one line.

    Args:
        name: of these runs, different for each set of runs.
    """
    rank = _against_rank()
    rank.groupby, rank.groupby_aggfunc, rank.groupby_rangefunc = reports.Config("method.name"), "mean", "minmax"
    return _identified(name, [rank, _against_parameters(), _parallel(), _difference()])


def _against_rank() -> Any:
    return reports.LinePlot(
        title="Score against rank; a line across is a method without ranks, such as full fine-tuning",
        x=reports.Metric("answer/rank"),
        y=[reports.Metric("answer/score")],
        log_x=True,
        title_x="rank",
        title_y="score",
        max_runs_to_show=RUNS,
    )


def _against_parameters() -> Any:
    return reports.ScatterPlot(
        title="Score against trained parameters",
        x=reports.SummaryMetric("parameters/trainable"),
        y=reports.SummaryMetric("score"),
        log_x=True,
    )


def _parallel() -> Any:
    column = reports.ParallelCoordinatesPlotColumn
    return reports.ParallelCoordinatesPlot(
        title="Rank, learning rate, score",
        columns=[
            column(reports.Config(RANK), display_name="rank", log=True),
            column(reports.Config(RATE), display_name="learning rate", log=True),
            column(reports.SummaryMetric("score"), display_name="score"),
        ],
    )


def _difference() -> Any:
    return _bars("Difference from full fine-tuning", ["difference/score"], "score minus the reference's")


def _truncation() -> Any:
    parts = ("cut", "remainder", "whole")
    return reports.LinePlot(
        title="The full update, cut to its top k directions: validation score (k = 0 is left of the scale)",
        x=reports.Metric("truncation/k"),
        y=[reports.Metric(f"truncation/{part}") for part in parts],
        log_x=True,
        title_x="k",
        title_y="score",
        max_runs_to_show=RUNS,
    )


def _noise_shares(shown: Shown) -> list[Any]:
    """None where no run has a share."""
    title, keys = "Effective rank as a share of noise's", [f"noise_share/{module}" for module in shown.shares]
    if not keys:
        return []
    mean = _bars(title, ["noise_share"], "1 is noise of the same shape, and rank for LoRA")
    return [mean, _bars(f"{title}, by type of matrix", keys, "share")]


def _spectra(shown: Shown) -> list[Any]:
    return [
        reports.LinePlot(
            title=f"Singular values of {module}, and of noise",
            x=reports.Metric("spectrum/index"),
            y=[reports.Metric(f"spectrum/{part}/{module}") for part in ("sigma", "null")],
            log_y=True,
            title_x="index",
            title_y="singular value",
        )
        for module in shown.modules
    ]


def _captured() -> Any:
    keys = [f"captured/{start}{side}_share" for side in ("column", "row") for start in ("", "random_")]
    return _bars("Share of full's directions that LoRA holds, beside what chance gives", keys, "share")


def _pictures() -> Any:
    keys = ["spectrum/effective_rank_map"]
    return reports.MediaBrowser(title="Spectra and maps over layers", media_keys=keys, num_columns=2)


def _memory() -> Any:
    return _bars("Memory at the peak of a step, by category", [f"memory/{name}" for name in CATEGORIES], "bytes")


def _peak() -> Any:
    return reports.ScatterPlot(
        title="Peak memory against trained parameters",
        x=reports.SummaryMetric("parameters/trainable"),
        y=reports.SummaryMetric("memory/peak_bytes"),
        log_x=True,
    )


def _seconds() -> Any:
    return _bars("Seconds of training", ["time/train_seconds"], "seconds")


def _curves(shown: Shown) -> list[Any]:
    keys = ["train/loss", *(f"validation/{metric}" for metric in shown.metrics), "train/gradient_norm"]
    return [reports.LinePlot(title=key, y=[reports.Metric(key)], title_x="step", max_runs_to_show=RUNS) for key in keys]


def _bars(title: str, keys: list[str], axis: str) -> Any:
    metrics: list[Any] = [reports.Metric(key) for key in keys]
    return reports.BarPlot(title=title, metrics=metrics, title_x=axis, max_bars_to_show=RUNS, max_runs_to_show=RUNS)


def laid_out(panels: list[Any], columns: int = 2, height: int = 9) -> list[Any]:
    """The panels in rows of a report, each with its place."""
    width = WIDE // columns
    for number, panel in enumerate(panels):
        place = (number % columns * width, number // columns * height)
        panel.layout = reports.Layout(*place, width, height)
    return panels


def named(*parts: str) -> str:
    """A name for a part of a dashboard, the same for the same dashboard, so that two of its files can be compared."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:11]


def _identified(name: str, panels: list[Any]) -> list[Any]:
    for panel in panels:
        panel._id = named(name, panel.title)
    return panels
