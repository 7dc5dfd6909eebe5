"""A run's window in W&B. Only the process of `child.py` opens one: a call here may hang or fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lorax_lab.errors import ConfigError, in_short
from lorax_lab.record.record import Record
from lorax_lab.windows import contents

FOLDER = "wandb"
"""Of the windows' files, in the store."""
SETTINGS: dict[str, Any] = {
    "silent": True, "console": "off", "init_timeout": 30, "x_file_stream_transmit_interval": 5, "host": "",
    "program": "", "x_disable_meta": True, "x_disable_machine_info": True, "x_disable_stats": True,
    "x_save_requirements": False, "disable_git": True, "disable_code": True,
}  # fmt: skip
"""Rows are sent every 5 seconds, and nothing of the machine: its name, its paths, its user, what else is installed."""


def resolve(mode: str) -> str:
    """What `auto` is on this machine: `online` where there is a login already; it asks neither a person nor the
    network. `WANDB_MODE` decides where it is set; `disabled` shows nothing."""
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_MODE") in ("offline", "online", "disabled"):
        return os.environ["WANDB_MODE"]
    os.environ["WANDB_SILENT"] = "true"  # else it looks for the login's name, for seconds
    import wandb

    try:
        return "online" if wandb.login(prompt=False, verify=False) else "offline"
    except Exception as error:  # such as a key that is none
        raise ConfigError(f"WANDB_API_KEY or netrc: W&B refuses the login ({in_short(error)}); mend it") from None


class Window:
    """A run, open in its window.

    It always begins anew there, with every step that `progress.jsonl` has. So steps that a kill lost are gone, and what
    the window missed before is there.

    Attributes:
        step: the last that it has.
        url: where a person sees it; None where that is nowhere.
    """

    def __init__(self, mode: str, record: Record, group: str, tracking: dict[str, Any], runs_dir: Path) -> None:
        os.environ["WANDB_SILENT"] = "true"
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # a report of W&B's own faults quotes paths
        import wandb

        self.library, self.mode, self.step, self.at = wandb, mode, 0, 0.0
        arm, tags = contents.arm_and_tags(record)
        config = contents.configuration(record) | {"arm": arm}
        if study := tracking["study"]:
            tags, config = [*tags, f"study={study}"[-contents.LONGEST :]], config | {"study": study}
        run_id = record.run_id
        self.earlier = list((runs_dir.resolve() / FOLDER).glob(f"offline-run-*-{run_id}"))
        names = {"id": run_id, "name": run_id, "project": tracking["project"], "entity": tracking["entity"]}
        names |= {"group": group, "job_type": record.method, "dir": str(runs_dir.resolve()), "mode": mode}
        self.run: Any = wandb.init(**names, tags=tags, config=config, settings=wandb.Settings(**SETTINGS))
        self.url: str | None = None if self.run.offline else self.run.url
        self.run.summary.update({"status": "running"})
        for prefix, axis in contents.AXES.items():
            self.run.define_metric(axis, hidden=True, summary="none")
            self.run.define_metric(f"{prefix}/*", step_metric=axis, summary="none")
        for name in ("time/seconds", "train/gradient_norm", "train/learning_rate"):  # the last says nothing of a run
            self.run.define_metric(name, summary="none")

    def log(self, step: int, at: float, values: dict[str, Any]) -> None:
        """Show a row with its own time, in seconds since 1970."""
        self.step, self.at = step, max(self.at, at)  # a record's own time lacks the fraction of its second
        values = {key: float("nan") if value is None else value for key, value in values.items()}
        self.run.log(values | {"_timestamp": self.at}, step=step, commit=True)

    def end(self, summary: dict[str, Any], config: dict[str, Any]) -> None:
        """Show how the run ended."""
        self.run.summary.update(summary)
        self.run.config.update(config, allow_val_change=True)

    def keep(self, name: str, files: Iterable[Path]) -> None:
        """Keep the trained weights."""
        artifact = self.library.Artifact(name, "adapter")
        for path in files:
            artifact.add_file(str(path), name=path.name, policy="immutable")
        self.run.log_artifact(artifact)

    def close(self, exit_code: int) -> None:
        """Wait until the window has taken all. Files of earlier offline windows of the run go."""
        self.run.finish(exit_code=exit_code)
        for folder in self.earlier:
            shutil.rmtree(folder, ignore_errors=True)
