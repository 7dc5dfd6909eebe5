"""A dashboard as code: a workspace of W&B over what runs show (`contents.py`). A panel of which no run shows the keys
stays empty."""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from lorax_lab.errors import in_short
from lorax_lab.record.files import write_json
from lorax_lab.windows.library import resolve

with warnings.catch_warnings(action="ignore"):  # it still has validators of pydantic's first version
    import wandb_workspaces.reports.v2 as made
    import wandb_workspaces.workspaces as workspaces
    from wandb_workspaces.expr import And, Config

OUT = Path("dashboard")
"""Where the JSON goes."""
ANSWER = "Answer"


def make(project: str, entity: str) -> int:
    """Write the workspace as JSON, and save it in W&B where there is a login; returns the exit code."""
    view, place = workspace(project, entity), OUT / "workspace.json"
    write_json(place, json.loads(view._to_model().model_dump_json(by_alias=True, exclude_none=True)), indent=1)
    print(place, flush=True)
    try:
        if resolve("auto") == "online":
            save(OUT / "saved.json", view)
        else:
            print("nothing was sent, for want of a login or by WANDB_MODE; log in with wandb login, then repeat this")
    except Exception as error:
        print(f"error: W&B did not save it ({in_short(error)}); the same command tries again", file=sys.stderr)
        return 1
    return 0


def sections() -> dict[str, list[Any]]:
    """The panels of each section."""
    captured = [f"update/captured/{chance}column_share" for chance in ("", "random_")]
    cuts = [f"truncation/{part}" for part in ("cut", "remainder", "whole")]
    return {
        ANSWER: [
            _line("Score against rank; a method without ranks is a line across", "answer/score", x="answer/rank"),
            _line("Share of what fine-tuning brings; 0 is the head alone", "answer/share", x="answer/rank"),
            _line("The full update cut to its top k, the rest, and the whole", *cuts, x="truncation/k"),
        ],
        "Score": [
            _bars("Score minus that of full fine-tuning", "difference/score"),
            _scatter("Score against trained parameters", "score"),
        ],
        "Spectrum": [
            _bars("Effective rank as a share of noise's; 1 is noise", "update/noise_share"),
            _line("Singular values of ΔW, the mean over all matrices", "truncation/sigma", x="truncation/k"),
            _bars("Full's directions that LoRA holds, beside chance", *captured),
        ],
        "Cost": [
            _bars("Bytes at the peak of a step", "memory/peak_bytes"),
            _scatter("Peak memory against trained parameters", "memory/peak_bytes"),
            _bars("Seconds of training", "time/train_seconds"),
        ],
        "Learning curves": [
            *(_line(key, key) for key in ("train/loss", "train/gradient_norm")),
            made.LinePlot(title="validation", metric_regex="validation/.*", max_runs_to_show=100),
        ],
    }


def _line(title: str, *keys: str, x: str = "") -> Any:
    axis: dict[str, Any] = {"x": made.Metric(x), "log_x": True} if x else {}
    return made.LinePlot(title=title, y=[made.Metric(key) for key in keys], max_runs_to_show=100, **axis)


def _bars(title: str, *keys: str) -> Any:
    return made.BarPlot(title=title, metrics=[made.Metric(key) for key in keys], max_bars_to_show=100)


def _scatter(title: str, key: str) -> Any:
    x = made.SummaryMetric("parameters/trainable")
    return made.ScatterPlot(title=title, x=x, y=made.SummaryMetric(key), log_x=True)


def workspace(project: str, entity: str) -> Any:
    """A saved view of the project, a section of panels for each question. Trials of learning rates, whose score is of
    another split, are left out; W&B puts `value` behind the first part of a setting's name."""
    layout = workspaces.SectionLayoutSettings(columns=2, rows=2)
    shown = [
        workspaces.Section(name=name, panels=panels, is_open=name == ANSWER, layout_settings=layout)
        for name, panels in sections().items()
    ]
    groups: list[Any] = [Config("task.name"), Config("arm")]  # seeds are one line, their mean
    columns = ["summary:status", "summary:score", "summary:share/kept", "config:rank.value", "summary:status/why"]
    no_trials: Any = Config("measure.value") != "trial"
    runs = workspaces.RunsetSettings(groupby=groups, pinned_columns=columns, filters=And(no_trials))
    return workspaces.Workspace(entity=entity, project=project, name="lorax_lab", sections=shown, runset_settings=runs)


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
