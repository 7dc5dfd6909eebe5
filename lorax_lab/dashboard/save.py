"""Save the written dashboards in W&B, in a process of its own, which its caller ends if W&B does not answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorax_lab.dashboard.layout import FIGURES, Place, figure_key, figures_run
from lorax_lab.dashboard.library import ReportViewspec, View, reports, workspaces
from lorax_lab.dashboard.pages import StudyPage
from lorax_lab.errors import in_short
from lorax_lab.record.files import write_json
from lorax_lab.record.output import guard
from lorax_lab.windows.library import SETTINGS

WORKSPACE, REPORT, SAVED = "workspace.json", "report.json", "saved.json"
NAME = "name of the workspace"
"""The key of `SAVED` under which the name is that W&B's address of a workspace has."""
PATIENCE = 120.0
"""Seconds after which the process that saves is ended."""


def why_not() -> str:
    """Why nothing can be sent from here, and what to do about it, as one line; empty where it can. Nobody is asked, on
    the network or here."""
    import wandb

    if (mode := os.environ.get("WANDB_MODE")) in ("offline", "disabled"):
        return f"WANDB_MODE={mode}: nothing was sent; unset it, and type the same command again"
    if not wandb.login(prompt=False, verify=False):
        return "there is no login of W&B: nothing was sent; log in with wandb login, and type the same command again"
    return ""


def write(folder: Path, view: Any, report: Any) -> list[Path]:
    """Write the JSON of the workspace and of the report; returns the files."""
    for name, made in ((WORKSPACE, view), (REPORT, report)):
        write_json(folder / name, json.loads(made.model_dump_json(by_alias=True, exclude_none=True)), indent=1)
    return [folder / WORKSPACE, folder / REPORT]


def save(folder: Path, place: Place, studies: Sequence[StudyPage], patience: float = PATIENCE) -> str:
    """Save in W&B what `write` wrote, and the figures of the studies; prints the addresses.

    Returns:
        Why it could not be saved, in one line; empty where it was.
    """
    command = [sys.executable, "-m", "lorax_lab.dashboard.save", str(folder), place.project, place.entity]
    command += [str(path) for study in studies for path in study.figures]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, errors = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # wandb's own process too
        process.communicate()
        return f"it took more than {patience:g} s"
    if process.returncode == 0:
        return ""
    return (errors.strip().splitlines() or [f"its process ended with status {process.returncode}"])[-1]


def send(folder: Path, place: Place, figures: Sequence[Path]) -> None:
    """What `save` has done in a process of its own: the report, the workspace, then the figures that the report shows.

    What was saved before from this folder is replaced.

    Raises:
        Exception: whatever wandb raises.
    """
    import wandb

    view = View.model_validate_json((folder / WORKSPACE).read_text(encoding="utf-8"))
    model = ReportViewspec.model_validate_json((folder / REPORT).read_text(encoding="utf-8"))
    entity = place.entity or wandb.Api(timeout=30).default_entity
    if not entity:
        raise ValueError("this login has no user or team of its own; name one: --entity NAME")
    ids = _saved(folder, place.project, entity)

    model.project.entity_name, model.id = entity, ids.get(REPORT, "")
    report = reports.Report._from_model(model)
    report.width = model.spec.width  # which it forgets
    ids[REPORT] = report.save().id
    _remember(folder, place.project, entity, ids)
    print(f"report: {report.url}", flush=True)

    view.entity, view.id, view.name = entity, ids.get(WORKSPACE, ""), ids.get(NAME, "")
    workspace = workspaces.Workspace._from_model(view).save()
    ids |= {WORKSPACE: workspace._internal_id, NAME: workspace._internal_name}
    _remember(folder, place.project, entity, ids)
    print(f"workspace: {workspace.url}", flush=True)
    if figures:
        with tempfile.TemporaryDirectory() as scratch:
            send_figures(Place(place.project, entity), figures, Path(scratch), "online")
        print("the studies' figures are in the report's galleries", flush=True)


def send_figures(place: Place, figures: Sequence[Path], folder: Path, mode: str) -> None:
    """Show each study's figures in a run of their own, which the report's gallery reads.

    Args:
        folder: where W&B's own files go.
        mode: `online` or `offline`.
    """
    import wandb

    settings = wandb.Settings(**SETTINGS)
    for study in dict.fromkeys(path.parent.name for path in figures):
        with wandb.init(
            project=place.project, entity=place.entity or None, dir=str(folder), id=figures_run(study),
            name=figures_run(study), job_type=FIGURES, mode=mode, resume="allow", settings=settings,  # type: ignore[arg-type]
        ) as run:  # fmt: skip
            run.log({figure_key(path): wandb.Image(str(path)) for path in figures if path.parent.name == study})


def _remember(folder: Path, project: str, entity: str, ids: dict[str, str]) -> None:
    """Keep the ids of what is saved by now. What comes after may fail, and the next call replaces what was saved."""
    write_json(folder / SAVED, {"project": project, "entity": entity, "ids": ids}, indent=1)


def _saved(folder: Path, project: str, entity: str) -> dict[str, str]:
    """The ids under which W&B keeps what was saved from this folder before, for this project."""
    try:
        known = json.loads((folder / SAVED).read_text(encoding="utf-8"))
        return dict(known["ids"]) if (known["project"], known["entity"]) == (project, entity) else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


if __name__ == "__main__":
    guard()
    where, project, entity, *pictures = sys.argv[1:]
    try:
        send(Path(where), Place(project, entity), [Path(picture) for picture in pictures])
    except Exception as error:
        print(f"{type(error).__name__}: {in_short(error)}", file=sys.stderr)
        sys.exit(1)
