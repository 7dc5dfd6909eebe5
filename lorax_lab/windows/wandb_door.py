"""Weights & Biases: opens a run's window there. Only this file imports wandb.

Offline runs lie in `<runs_dir>/wandb/`; `wandb leet <runs_dir>/wandb` browses them.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.record.redact import redact
from lorax_lab.windows.door import Axis, Start

if TYPE_CHECKING:
    import numpy as np

    from lorax_lab.windows.progress import Row

FOLDER = "wandb"
NOT_TOLD: dict[str, Any] = {
    "host": "", "program": "", "x_disable_meta": True, "x_disable_machine_info": True, "x_disable_stats": True,
    "x_save_requirements": False, "disable_git": True, "disable_code": True,
}  # fmt: skip
"""Settings with which W&B keeps nothing of the machine: its name, its paths, its user, what else is installed."""
SETTINGS: dict[str, Any] = {"silent": True, "console": "off", "init_timeout": 30, "x_file_stream_transmit_interval": 5}
"""By itself W&B sends rows every 15 seconds."""


def prepare(runs_dir: Path) -> None:
    """Import wandb, and what `wandb.init` imports each time: half a second of every run's process."""
    import wandb

    with suppress(ImportError):  # no part of W&B's interface, and it may go
        import wandb.sdk.launch  # noqa: F401


def resolve(mode: str) -> str:
    """`online` or `offline` for `auto`: online when there is a login already; it asks neither a person nor the
    network. `WANDB_MODE` decides where it is set."""
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_MODE") in ("offline", "online", "disabled"):
        return os.environ["WANDB_MODE"]
    os.environ.setdefault("WANDB_SILENT", "true")  # else it looks for the login's name, for seconds
    import wandb

    return "online" if wandb.login(prompt=False, verify=False) else "offline"


def open_window(start: Start, axes: tuple[Axis, ...], resume: bool) -> WandbWindow:
    """Open a run's window. An offline one always begins anew; the files of the one before are removed once it is
    whole.

    Raises:
        Exception: whatever wandb raises.
    """
    folder = start.runs_dir / FOLDER
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_DATA_DIR", str(folder))
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # a report of W&B's own faults quotes paths
    folder.mkdir(parents=True, exist_ok=True)
    import wandb

    if notes := os.environ.get("WANDB_NOTES"):  # which W&B reads by itself
        os.environ["WANDB_NOTES"] = redact(notes)
    before = list(folder.glob(f"*run-*-{start.run_id}"))
    online = start.mode == "online"
    run = wandb.init(
        project=start.project,
        entity=start.entity,
        dir=str(start.runs_dir),
        id=start.run_id,
        name=start.run_id,
        group=start.group,
        job_type=start.method,
        tags=start.tags,
        config=start.config,
        mode=start.mode,  # type: ignore[arg-type]
        resume="allow" if resume and online else None,
        settings=wandb.Settings(**SETTINGS, **NOT_TOLD),
    )
    for axis in axes:
        run.define_metric(axis.key, hidden=True)
        run.define_metric(f"{axis.prefix}/*", step_metric=axis.key)
    return WandbWindow(run, {axis.key for axis in axes}, folder, before)


class WandbWindow:
    """A run's window at W&B; see `door.Window`."""

    def __init__(self, run: Any, axes: set[str], folder: Path, before: list[Path]) -> None:
        self.run, self.axes, self.folder, self.before = run, axes, folder, before
        self.url: str | None = run.url if not run.offline else None
        self.next_step = int(run.starting_step) if run.resumed else 0

    def row(self, row: Row) -> None:
        """Send a row at its own time. `run.log` would make `_runtime` the moment of logging, and might hold the row
        back until the next: so the row goes to W&B's process in the form in which it is kept there. These names are no
        part of W&B's interface, so its version is bounded in `pyproject.toml`."""
        self._send(row.values, row)
        if not self.axes & row.values.keys():  # the last point of another curve sums up nothing
            self.run.summary.update({key: value for key, value in row.values.items() if value is not None})

    def picture(self, name: str, picture: np.ndarray, row: Row) -> None:
        """Send a picture."""
        import wandb

        self._send({name: wandb.Image(picture)}, row)

    def _send(self, values: dict[str, Any], row: Row) -> None:
        """A value that is not finite arrives as `NaN`, as W&B writes it."""
        from wandb.proto import wandb_internal_pb2 as messages
        from wandb.sdk.data_types.utils import history_dict_to_json
        from wandb.util import json_dumps_safer_history

        shown = {key: float("nan") if value is None else value for key, value in values.items()}
        times = {"_timestamp": row.at, "_runtime": row.runtime}
        shown |= {key: value for key, value in times.items() if value is not None}
        plain = history_dict_to_json(self.run, shown, step=row.step) | {"_step": row.step}
        record = messages.HistoryRecord()  # type: ignore[attr-defined]
        record.step.num = row.step
        for key, value in plain.items():
            record.item.add(key=key, value_json=json_dumps_safer_history(value))
        self.run._interface._publish_history(record)

    def summary(self, values: dict[str, Any]) -> None:
        """Send the summary."""
        self.run.summary.update(values)

    def tags(self, tags: list[str]) -> None:
        """Add tags."""
        self.run.tags = (*(self.run.tags or ()), *(tag for tag in tags if tag not in (self.run.tags or ())))

    def artifact(self, name: str, kind: str, files: list[Path]) -> None:
        """Send files, each under its own name."""
        import wandb

        kept = wandb.Artifact(name, kind)
        for path in files:
            kept.add_file(str(path), name=path.name, policy="immutable")
        self.run.log_artifact(kept)

    def close(self, exit_code: int) -> None:
        """End the run there; remove W&B's own logs, which name places on this machine, and the files of earlier
        offline windows of the run."""
        self.run.finish(exit_code=exit_code)
        for old in self.before:
            shutil.rmtree(old, ignore_errors=True)
        for logs in self.folder.glob(f"*run-*-{self.run.id}/logs"):
            shutil.rmtree(logs, ignore_errors=True)
        for link in self.folder.glob("debug*.log"):
            link.unlink(missing_ok=True)
