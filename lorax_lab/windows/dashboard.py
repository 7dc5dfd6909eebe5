"""Dashboards as code: a workspace and a report of W&B, laid out over what runs show, and Trackio's page here.

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

from lorax_lab.config.defaults import flat
from lorax_lab.errors import ConfigError, in_short, suggest
from lorax_lab.record.files import write_json
from lorax_lab.record.folder import read_history
from lorax_lab.record.record import scan
from lorax_lab.record.redact import redact
from lorax_lab.windows import contents, later
from lorax_lab.windows.library import TRACKIO, resolve

os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # a report of W&B's own faults quotes paths
with warnings.catch_warnings(action="ignore"):  # it still has validators of pydantic's first version
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces
    from wandb_workspaces.expr import And, Config

OUT = Path("dashboard")
"""Where the JSON goes."""
ANSWER = "Answer"
PANELS = (
    (ANSWER, "line", "Score against rank; a method without ranks is a line across", "answer/rank", ["answer/score"]),
    (ANSWER, "scatter", "Score against trained parameters", "parameters/trainable", ["score"]),
    (ANSWER, "parallel", "Rank, learning rate, score", "", ["config:rank", "config:train.learning_rate", "score"]),
    (ANSWER, "bars", "Score minus that of full fine-tuning", "", ["difference/score"]),
    ("Truncation", "line", "The full update cut to its top k, the rest, and the whole", "truncation/k",
     ["truncation/cut", "truncation/remainder", "truncation/whole"]),
    ("Spectrum", "bars", "Effective rank as a share of noise's; 1 is noise", "", ["noise_share*"]),
    ("Spectrum", "line", "Singular values of {}, and of noise", "spectrum/index",
     ["spectrum/sigma/{}", "spectrum/null/{}"]),
    ("Spectrum", "bars", "Full's directions that LoRA holds, beside chance", "", ["update/captured/*"]),
    ("Spectrum", "media", "Effective rank over layers", "", ["update/effective_rank_map"]),
    ("Cost", "bars", "Memory at the peak of a step", "", ["memory/by_category/*"]),
    ("Cost", "scatter", "Peak memory against trained parameters", "parameters/trainable", ["memory/peak_bytes"]),
    ("Cost", "bars", "Seconds of training", "", ["time/train_seconds"]),
    ("Learning curves", "line", "train/{}", "", ["train/{}"]),
    ("Learning curves", "line", "validation/{}", "", ["validation/{}"]),
)  # fmt: skip
"""Section, kind, title, x-axis and keys of each panel. `*` stands for any end, and `{}` for one panel each."""
GROUPS = ("task.name", "arm")
"""Runs that differ in the seed alone are one line, their mean."""
COLUMNS = ("summary:status", "summary:score", "summary:reference/score", "config:rank.value", "summary:status/why")
"""Columns of the list of runs that stay in sight."""


def make(runs_dir: Path, studies: Sequence[str], pages: Path, project: str, entity: str) -> int:
    """Write the workspace and the report as JSON, and save them in W&B where there is a login; returns the exit code.

    Raises:
        ConfigError: there is no completed run, or no page of a study.
    """
    texts = {study: _page(pages, study) for study in studies}
    keys = shown_keys(runs_dir)
    view, report = _workspace(project, entity, keys, studies), _report(project, entity, keys, texts)
    for name, made in (("workspace", view), ("report", report)):
        content = made._to_model().model_dump_json(by_alias=True, exclude_none=True)
        write_json(OUT / f"{name}.json", json.loads(content), indent=1)
        print(OUT / f"{name}.json", flush=True)
    if resolve("auto") != "online":
        print("nothing was sent, for want of a login or by WANDB_MODE; log in with wandb login, then repeat this")
        return 0
    try:
        _save(OUT / "saved.json", view, report)
    except Exception as error:
        print(f"error: W&B did not save all ({in_short(error)}); the same command tries again", file=sys.stderr)
        return 1
    return 0


def shown_keys(runs_dir: Path) -> list[str]:
    """The keys that completed runs show, as W&B has them. A setting is shown as `config:key`."""
    keys: dict[str, None] = {}
    for folder, record in scan(runs_dir)[0].items():
        if not record.result:
            continue
        shown = [*read_history(folder), contents.summary(record, runs_dir)]
        if record.completed.matrices:
            shown += [*contents.derived(record, folder)["rows"], {"update/effective_rank_map": None}]
        keys |= dict.fromkeys(key for row in shown for key in row)
        keys |= dict.fromkeys(f"config:{key}" for key in flat(contents.configuration(record)))
    if not keys:
        again = f"python -m lorax_lab.run rank=4,8,16 -m runs_dir={runs_dir}"
        raise ConfigError(f"--runs {runs_dir}: no completed run is recorded there; type {again}")
    return list(keys)


def _page(pages: Path, study: str) -> str:
    """A study's page, in Markdown, as `python -m analysis study` wrote it."""
    there = sorted(path.parent.name for path in pages.glob("*/VERDICT.md"))
    if study not in there:
        instead = suggest(study, there) if there else "type python -m analysis study --out pages, and --pages pages"
        raise ConfigError(f"--study {study}: there is no such page in {pages}; {instead}")
    return redact((pages / study / "VERDICT.md").read_text(encoding="utf-8"))


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
    metrics: list[Any] = [reports.Metric(key) for key in keys]
    match kind:
        case "media":
            return reports.MediaBrowser(title=title, media_keys=keys)
        case "bars":
            return reports.BarPlot(title=title, metrics=metrics, max_bars_to_show=100)
        case "scatter":
            y = reports.SummaryMetric(keys[0])
            return reports.ScatterPlot(title=title, x=reports.SummaryMetric(x), y=y, log_x=True)
        case "parallel":
            dials = [reports.Config(key.removeprefix("config:")) for key in keys if key.startswith("config:")]
            scores = [reports.SummaryMetric(key) for key in keys if not key.startswith("config:")]
            columns = [reports.ParallelCoordinatesPlotColumn(dial, log=True) for dial in dials]
            columns += [reports.ParallelCoordinatesPlotColumn(score) for score in scores]
            return reports.ParallelCoordinatesPlot(title=title, columns=columns)
    scales: dict[str, Any] = {"log_x": x in ("answer/rank", "truncation/k"), "log_y": x == "spectrum/index"}
    axis = reports.Metric(x) if x else "Step"
    return reports.LinePlot(title=title, x=axis, y=metrics, max_runs_to_show=100, **scales)


def _filters(studies: Sequence[str]) -> Any:
    """The runs of the studies, or all; not the trials of learning rates, whose score is of another split. W&B puts
    `value` behind the first part of a setting's name."""
    of_studies = [Config("study.value").isin(list(studies))] if studies else []
    return And(Config("measure.value") != "trial", *of_studies)


def _workspace(project: str, entity: str, keys: list[str], studies: Sequence[str]) -> Any:
    """A saved view of the project, a section of panels for each question, over the runs of the studies, or over all."""
    layout = workspaces.SectionLayoutSettings(columns=2, rows=2)
    sections = [
        workspaces.Section(name=name, panels=drawn, is_open=name == ANSWER, layout_settings=layout)
        for name, drawn in panels(keys).items()
    ]
    groups: list[Any] = [Config(name) for name in GROUPS]
    runs = workspaces.RunsetSettings(groupby=groups, pinned_columns=list(COLUMNS), filters=_filters(studies))
    title = " ".join(["lorax_lab", *studies])
    return workspaces.Workspace(entity=entity, project=project, name=title, sections=sections, runset_settings=runs)


def _report(project: str, entity: str, keys: list[str], texts: dict[str, str]) -> Any:
    """A report: for each study the panels of its runs and its page; without one, the panels of all runs. In the answer
    the ranks of a method are one line."""
    blocks: list[Any] = [reports.TableOfContents()]
    for study, text in texts.items() or [("", "")]:
        blocks.append(reports.H1(study or project))
        for section, drawn in panels(keys).items():
            for number, panel in enumerate(drawn):  # two in a row
                panel.layout = reports.Layout(number % 2 * 12, number // 2 * 9, 12, 9)
            groups = [f"config.{group}" for group in (("task.name", "method.name") if section == ANSWER else GROUPS)]
            runs = reports.Runset(groupby=groups, filters=_filters([study] if study else []))
            blocks += [reports.H2(section), reports.PanelGrid(runsets=[runs], panels=drawn)]
        blocks += [reports.MarkdownBlock(text)] if text else []
    title = f"lorax_lab: {', '.join(texts) or project}"[:128]
    return reports.Report(project=project, entity=entity, title=title, blocks=blocks, width="fluid")


def _save(place: Path, view: Any, report: Any) -> None:
    """Save the report and the workspace. What was saved before is replaced: `place` keeps under which ids."""
    import wandb

    entity = report.entity or wandb.Api(timeout=30).default_entity
    report.entity = view.entity = entity
    saved = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    ids = saved.setdefault(f"{entity}/{report.project}/{report.title}", {})
    report.id = ids.get("report", "")
    ids["report"] = report.save().id
    write_json(place, saved, indent=1)  # what comes after may fail
    view._internal_id, view._internal_name = ids.get("workspace", ""), ids.get("name", "")
    view = view.save()
    ids |= {"workspace": view._internal_id, "name": view._internal_name}
    write_json(place, saved, indent=1)
    print(f"report: {report.url}\nworkspace: {view.url}")


def serve(runs_dir: Path, project: str, port: int) -> int:
    """Serve Trackio's page until Ctrl-C, on loopback alone.

    Raises:
        ConfigError: nothing was shown there, or the port cannot be had.
    """
    os.environ |= {"TRACKIO_DIR": str((runs_dir / TRACKIO).resolve()), "HF_HUB_OFFLINE": "1"}
    import trackio

    projects = trackio.SQLiteStorage.get_projects() if (runs_dir / TRACKIO).is_dir() else []
    if project not in projects:
        instead = f"{suggest(project, projects)}; runs that are recorded: type {later(runs_dir, TRACKIO)}"
        raise ConfigError(f"--project {project}: no run of it in {runs_dir} was shown to Trackio; {instead}")
    here: dict[str, Any] = {"host": "127.0.0.1", "share": False, "open_browser": False, "mcp_server": False}
    try:
        trackio.show(project, server_port=port, block_thread=True, **here)
    except (OSError, RuntimeError, OverflowError) as error:
        raise ConfigError(f"--port {port} cannot be had ({error}); type --port 8860") from None
    return 0
