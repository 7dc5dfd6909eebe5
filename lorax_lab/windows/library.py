"""A run's window in W&B or in Trackio, which has W&B's interface but for summary, tags, artifacts and axes.

Only the process of `child.py` opens one: a call here may hang or fail.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.config.defaults import flat
from lorax_lab.record.record import Record
from lorax_lab.record.redact import redact
from lorax_lab.windows import contents
from lorax_lab.windows.progress import Row

if TYPE_CHECKING:
    import numpy as np

TRACKIO = "trackio"
MODES = ("auto", "offline", "online", TRACKIO)
"""The values of `tracking.mode` that show something."""
EXIT = {"completed": 0, "killed": 137}
"""The exit code by which W&B tells how a run ended; 1 for every other end."""
SETTINGS: dict[str, Any] = {
    "silent": True, "console": "off", "init_timeout": 30, "x_file_stream_transmit_interval": 5, "host": "",
    "program": "", "x_disable_meta": True, "x_disable_machine_info": True, "x_disable_stats": True,
    "x_save_requirements": False, "disable_git": True, "disable_code": True,
}  # fmt: skip
"""Rows are sent every 5 seconds, and nothing of the machine: its name, its paths, its user, what else is installed."""


def library_of(mode: str) -> str:
    """What a mode's window is called in the names of its marks and folders."""
    return TRACKIO if mode == TRACKIO else "wandb"


def title_of(mode: str) -> str:
    """What a person calls it."""
    return "Trackio" if mode == TRACKIO else "W&B"


def resolve(mode: str) -> str:
    """What `auto` is on this machine: `online` where there is a login already; it asks neither a person nor the
    network. `WANDB_MODE` decides where it is set; `disabled` shows nothing."""
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_MODE") in ("offline", "online", "disabled"):
        return os.environ["WANDB_MODE"]
    os.environ["WANDB_SILENT"] = "true"  # else it looks for the login's name, for seconds
    import wandb

    return "online" if wandb.login(prompt=False, verify=False) else "offline"


class Window:
    """A run, open in its window.

    It always begins anew there, with every step that `progress.jsonl` has. So steps that a kill lost are gone, and what
    the window missed before is there.

    Attributes:
        step: the last that it has.
        url: where a person sees it; None where that is nowhere.
    """

    def __init__(self, mode: str, record: Record, group: str, tracking: dict[str, Any], runs_dir: Path) -> None:
        self.mode, self.step, self.folder = mode, 0, runs_dir.resolve() / library_of(mode)
        self.url: str | None = None
        self.library: Any
        self.run: Any
        arm, tags = contents.arm_and_tags(record)
        config = contents.configuration(record) | {"arm": arm}
        if study := tracking["study"]:
            tags, config = [*tags, f"study={study}"[-contents.LONGEST :]], config | {"study": study}
        names = {"project": tracking["project"], "name": record.run_id, "group": group}
        if mode == TRACKIO:
            self._open_trackio(names, flat(config) | {"tags": tags, "summary.status": "running"})
        else:
            self._open_wandb(names | {"tags": tags, "config": config, "job_type": record.method}, tracking["entity"])

    def _open_trackio(self, names: dict[str, str], config: dict[str, Any]) -> None:
        os.environ |= {"TRACKIO_DIR": str(self.folder), "HF_HUB_OFFLINE": "1"}
        import trackio

        project, run_id = names["project"], names["name"]
        for earlier in trackio.SQLiteStorage.get_run_records(project):
            if earlier["name"] == run_id:
                trackio.SQLiteStorage.delete_run(project, run_id, earlier["id"])
        self.library, self.config = trackio, config
        self.settings: dict[str, Any] = names | {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        self.run = trackio.init(**self.settings, config=config)

    def _open_wandb(self, settings: dict[str, Any], entity: str | None) -> None:
        os.environ |= {"WANDB_SILENT": "true", "WANDB_DATA_DIR": str(self.folder)}
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # a report of W&B's own faults quotes paths
        if notes := os.environ.get("WANDB_NOTES"):  # which W&B reads by itself
            os.environ["WANDB_NOTES"] = redact(notes)
        import wandb

        run_id = settings["name"]
        self.library, self.earlier = wandb, list(self.folder.glob(f"offline-run-*-{run_id}"))
        self.run = wandb.init(
            **settings, id=run_id, entity=entity, dir=str(self.folder.parent), mode=self.mode,  # type: ignore[arg-type]
            settings=wandb.Settings(**SETTINGS),
        )  # fmt: skip
        self.url = None if self.run.offline else self.run.url
        self.run.summary.update({"status": "running"})
        for prefix, axis in contents.AXES.items():
            self.run.define_metric(axis, hidden=True)
            self.run.define_metric(f"{prefix}/*", step_metric=axis)

    def show(self, rows: list[Row]) -> None:
        """Show steps of the training; their last values are the summary until the run has ended."""
        for row in rows:
            self.log(row)
        if rows and self.mode != TRACKIO:
            latest = {key: value for row in rows for key, value in row.values.items() if value is not None}
            self.run.summary.update(latest | _times(rows[-1]))

    def log(self, row: Row) -> None:
        """Show a row at its own time. W&B's own `log` would make `_runtime` the seconds since the window was opened. So
        the row goes to W&B's process in the form in which it is kept there. These names are no part of W&B's interface:
        its version is bounded in `pyproject.toml`. Trackio has no such way; a row has the time at which it came."""
        self.step = row.step
        values = {key: float("nan") if value is None else value for key, value in row.values.items()}
        if self.mode == TRACKIO:
            self.run.log(values, step=row.step)
            return
        from wandb.proto import wandb_internal_pb2 as messages
        from wandb.sdk.data_types.utils import history_dict_to_json
        from wandb.util import json_dumps_safer_history

        plain = history_dict_to_json(self.run, values | _times(row), step=row.step) | {"_step": row.step}
        record = messages.HistoryRecord()  # type: ignore[attr-defined]
        record.step.num = row.step
        for key, value in plain.items():
            record.item.add(key=key, value_json=json_dumps_safer_history(value))
        self.run._interface._publish_history(record)

    def end(self, summary: dict[str, Any], tags: list[str]) -> None:
        """Show how the run ended. In Trackio numbers are a row at the last step, and texts and tags are settings."""
        if self.mode != TRACKIO:
            self.run.summary.update(summary)
            self.run.tags = (*(self.run.tags or ()), *tags)
            return
        numbers = {key: value for key, value in summary.items() if type(value) in (int, float)}
        texts = {f"summary.{key}": value for key, value in summary.items() if key not in numbers}
        self.run.finish()  # settings go with the first row after `init`
        config = self.config | texts | {"tags": [*self.config["tags"], *tags]}
        self.run = self.library.init(**self.settings, config=config, resume="allow")
        self.run.log(numbers, step=self.step)

    def draw(self, name: str, picture: np.ndarray, row: Row) -> None:
        """Show a picture, (height, width, 4) uint8, at the row's step and time."""
        self.log(replace(row, values={name: self.library.Image(picture)}))

    def keep(self, name: str, files: Iterable[Path]) -> None:
        """Keep the trained weights. Trackio does not: its page is served by the machine that has the files."""
        if self.mode != TRACKIO:
            artifact = self.library.Artifact(name, "adapter")
            for path in files:
                artifact.add_file(str(path), name=path.name, policy="immutable")
            self.run.log_artifact(artifact)

    def close(self, status: str) -> None:
        """Wait until the window has taken all. W&B's logs, which name places on this machine, go; so do the files of
        earlier offline windows of the run."""
        if self.mode == TRACKIO:
            self.run.finish()
            return
        self.run.finish(exit_code=EXIT.get(status, 1))
        logs = [*self.folder.glob(f"*run-*-{self.run.id}/logs"), *self.folder.glob("debug*.log")]
        for path in [*logs, *self.earlier]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _times(row: Row) -> dict[str, float]:
    times = {"_timestamp": row.at, "_runtime": row.runtime}
    return {key: value for key, value in times.items() if value is not None}
