"""A dashboard as code: a workspace of W&B, laid out over what runs show.

A panel draws those of its keys that a run shows. So it names nothing that is not there, and a new metric or a new type
of matrix needs no line.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorax_lab.errors import ConfigError, in_short
from lorax_lab.record.files import write_json
from lorax_lab.record.folder import read_history
from lorax_lab.record.record import scan
from lorax_lab.windows import contents
from lorax_lab.windows.library import resolve

os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # a report of W&B's own faults quotes paths
with warnings.catch_warnings(action="ignore"):  # it still has validators of pydantic's first version
    import wandb_workspaces.reports.v2 as panels_of
    import wandb_workspaces.workspaces as workspaces
    from wandb_workspaces.expr import And, Config

OUT = Path("dashboard")
"""Where the JSON goes."""
ANSWER = "Answer"
PANELS = (
    (ANSWER, "line", "Score against rank; a method without ranks is a line across", "answer/rank", ["answer/score"]),
    (ANSWER, "line", "Share of what fine-tuning brings; 0 is the head alone", "answer/rank", ["answer/share"]),
    (ANSWER, "line", "The full update cut to its top k, the rest, and the whole", "truncation/k",
     ["truncation/cut", "truncation/remainder", "truncation/whole"]),
    ("Score", "bars", "Score minus that of full fine-tuning", "", ["difference/score"]),
    ("Score", "scatter", "Score against trained parameters", "parameters/trainable", ["score"]),
    ("Spectrum", "bars", "Effective rank as a share of noise's; 1 is noise", "", ["update/noise_share"]),
    ("Spectrum", "table", "Singular values of each type of module", "sigma", ["spectrum_table"]),
    ("Spectrum", "table", "Singular values of noise", "noise", ["spectrum_table"]),
    ("Spectrum", "bars", "Full's directions that LoRA holds, beside chance", "", ["update/captured/*"]),
    ("Spectrum", "media", "Effective rank over layers", "", ["update/effective_rank_map"]),
    ("Cost", "bars", "Bytes at the peak of a step", "", ["memory/peak_bytes"]),
    ("Cost", "scatter", "Peak memory against trained parameters", "parameters/trainable", ["memory/peak_bytes"]),
    ("Cost", "bars", "Seconds of training", "", ["time/train_seconds"]),
    ("Learning curves", "line", "train/{}", "", ["train/{}"]),
    ("Learning curves", "line", "validation/{}", "", ["validation/{}"]),
)  # fmt: skip
"""Section, kind, title, x-axis (of a table its column) and keys of each panel; `*` is any end, `{}` a panel each."""
GROUPS = ("task.name", "arm")
"""Runs that differ in the seed alone are one line, their mean."""
COLUMNS = ("summary:status", "summary:score", "summary:share/kept", "config:rank.value", "summary:status/why")
"""Columns of the list of runs that stay in sight."""


def make(runs_dir: Path, project: str, entity: str) -> int:
    """Write the workspace as JSON, and save it in W&B where there is a login; returns the exit code.

    Raises:
        ConfigError: there is no completed run.
    """
    view, place = workspace(project, entity, shown_keys(runs_dir)), OUT / "workspace.json"
    write_json(place, json.loads(view._to_model().model_dump_json(by_alias=True, exclude_none=True)), indent=1)
    print(place, flush=True)
    if resolve("auto") != "online":
        print("nothing was sent, for want of a login or by WANDB_MODE; log in with wandb login, then repeat this")
        return 0
    try:
        save(OUT / "saved.json", view)
    except Exception as error:
        print(f"error: W&B did not save it ({in_short(error)}); the same command tries again", file=sys.stderr)
        return 1
    return 0


def shown_keys(runs_dir: Path) -> list[str]:
    """The keys that completed runs show, as W&B has them. A setting is shown as `config:key`."""
    keys: dict[str, None] = {}
    for folder, record in scan(runs_dir)[0].items():
        if not record.result:
            continue
        values, rows = contents.record_values(record, runs_dir), read_history(folder)
        if record.completed.matrices:
            update = contents.derived(record, folder)
            values |= update["values"]
            rows += [*update["curves"], {"update/effective_rank_map": None, "spectrum_table": None}]
        keys |= dict.fromkeys(key for row in [*rows, contents.summary(values)] for key in row)
    if not keys:
        again = f"python -m lorax_lab.run rank=4,8,16 -m runs_dir={runs_dir}"
        raise ConfigError(f"--runs {runs_dir}: no completed run is recorded there; type {again}")
    return list(keys)


def panels(keys: Sequence[str]) -> dict[str, list[Any]]:
    """The panels of each section, over the keys that runs show."""
    made: dict[str, list[Any]] = {}
    for section, kind, title, x, names in PANELS:
        stem = names[0].partition("{}")[0]
        parts = [key.removeprefix(stem) for key in keys if key.startswith(stem)] if "{}" in names[0] else [""]
        for part in parts:
            wanted = [name.format(part) for name in names]
            starts = tuple(name[:-1] for name in wanted if name.endswith("*"))
            if shown := [key for key in keys if key in wanted or key.startswith(starts)]:
                made.setdefault(section, []).append(_panel(kind, title.format(part), x, shown))
    return made


def _panel(kind: str, title: str, x: str, keys: list[str]) -> Any:
    metrics: list[Any] = [panels_of.Metric(key) for key in keys]
    match kind:
        case "media":
            return panels_of.MediaBrowser(title=title, media_keys=keys)
        case "table":  # the chart that `wandb.plot.line` makes of a table
            query = {"id": {}, "name": {}, "_defaultColorIndex": {}, "summaryTable": {"tableKey": keys[0]}}
            fields = {"x": "index", "y": x, "stroke": "module"}
            return panels_of.CustomChart(query, "wandb/line/v0", fields, {"title": title})
        case "bars":
            return panels_of.BarPlot(title=title, metrics=metrics, max_bars_to_show=100)
        case "scatter":
            y = panels_of.SummaryMetric(keys[0])
            return panels_of.ScatterPlot(title=title, x=panels_of.SummaryMetric(x), y=y, log_x=True)
    axis: dict[str, Any] = {"x": panels_of.Metric(x), "log_x": True} if x else {}
    return panels_of.LinePlot(title=title, y=metrics, max_runs_to_show=100, **axis)


def workspace(project: str, entity: str, keys: list[str]) -> Any:
    """A saved view of the project, a section of panels for each question. Trials of learning rates, whose score is of
    another split, are left out; W&B puts `value` behind the first part of a setting's name."""
    layout = workspaces.SectionLayoutSettings(columns=2, rows=2)
    sections = [
        workspaces.Section(name=name, panels=drawn, is_open=name == ANSWER, layout_settings=layout)
        for name, drawn in panels(keys).items()
    ]
    groups: list[Any] = [Config(name) for name in GROUPS]
    no_trials: Any = Config("measure.value") != "trial"
    runs = workspaces.RunsetSettings(groupby=groups, pinned_columns=list(COLUMNS), filters=And(no_trials))
    return workspaces.Workspace(
        entity=entity, project=project, name="lorax_lab", sections=sections, runset_settings=runs
    )


def save(place: Path, view: Any) -> None:
    """Save the workspace. What was saved before is replaced: `place` keeps under which ids."""
    import wandb

    view.entity = view.entity or wandb.Api(timeout=30).default_entity
    saved = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    name = f"{view.entity}/{view.project}"
    view._internal_id, view._internal_name = saved.get(name, ("", ""))
    view = view.save()
    write_json(place, saved | {name: [view._internal_id, view._internal_name]}, indent=1)
    print(f"workspace: {view.url}")
