"""A run's window in W&B or in Trackio, which has W&B's interface but for summary, tags, artifacts and axes.

Only the process of `child.py` opens one: a call here may hang or fail.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lorax_lab.config.defaults import flat
from lorax_lab.record.record import Record
from lorax_lab.windows import contents

os.environ |= {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
"""Else W&B looks for the login's name, for seconds, and a report of its own faults quotes paths."""
TRACKIO = "trackio"
MODES = ("auto", "offline", "online", TRACKIO)
"""The values of `tracking.mode` that show something."""
SETTINGS: dict[str, Any] = {
    "silent": True, "console": "off", "init_timeout": 30, "x_file_stream_transmit_interval": 5, "host": "",
    "program": "", "x_disable_meta": True, "x_disable_machine_info": True, "x_disable_stats": True,
    "x_save_requirements": False, "disable_git": True, "disable_code": True,
}  # fmt: skip
"""Rows are sent every 5 seconds, and nothing of the machine: its name, its paths, its user, what else is installed."""


def library_of(mode: str) -> str:
    """The library of a mode, and what its marks and folders are called."""
    return TRACKIO if mode == TRACKIO else "wandb"


def resolve(mode: str) -> str:
    """What `auto` is on this machine: `online` where there is a login already; it asks neither a person nor the
    network. `WANDB_MODE` decides where it is set; `disabled` shows nothing."""
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_MODE") in ("offline", "online", "disabled"):
        return os.environ["WANDB_MODE"]
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
        self.mode, self.folder = mode, runs_dir.resolve() / library_of(mode)
        self.step, self.at = 0, 0.0
        self.url: str | None = None
        arm, tags = contents.arm_and_tags(record)
        config = contents.configuration(record) | {"arm": arm}
        if study := tracking["study"]:
            tags, config = [*tags, f"study={study}"[-contents.LONGEST :]], config | {"study": study}
        names = {"project": tracking["project"], "name": record.run_id, "group": group}
        self.library: Any
        self.run: Any
        if mode == TRACKIO:
            short = f"{record.method} r{record.rank} s{record.seed} {record.run_id[-6:]}".replace(" rNone", "")
            self._open_trackio(names | {"name": short}, flat(config) | {"tags": tags, "summary.status": "running"})
        else:
            self._open_wandb(names | {"tags": tags, "config": config, "job_type": record.method}, tracking["entity"])

    def _open_trackio(self, names: dict[str, str], config: dict[str, Any]) -> None:
        os.environ |= {"TRACKIO_DIR": str(self.folder), "HF_HUB_OFFLINE": "1"}
        import trackio

        for earlier in trackio.SQLiteStorage.get_run_records(names["project"]):
            if earlier["name"] == names["name"]:
                trackio.SQLiteStorage.delete_run(names["project"], names["name"], earlier["id"])
        self.library, self.config = trackio, config
        self.settings: dict[str, Any] = names | {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        self.run = trackio.init(**self.settings, config=config)

    def _open_wandb(self, settings: dict[str, Any], entity: str | None) -> None:
        import wandb

        run_id = settings["name"]
        self.library, self.earlier = wandb, list(self.folder.glob(f"offline-run-*-{run_id}"))
        settings |= {"id": run_id, "entity": entity, "dir": str(self.folder.parent), "mode": self.mode}
        self.run = wandb.init(**settings, settings=wandb.Settings(**SETTINGS))
        self.url = None if self.run.offline else self.run.url
        self.run.summary.update({"status": "running"})
        for prefix, axis in contents.AXES.items():
            self.run.define_metric(axis, hidden=True, summary="none")
            self.run.define_metric(f"{prefix}/*", step_metric=axis, summary="none")
        for name in contents.CURVES_ALONE:
            self.run.define_metric(name, summary="none")

    def log(self, step: int, at: float, values: dict[str, Any]) -> None:
        """Show a row. W&B gives it its own time, in seconds since 1970; Trackio the time at which it comes."""
        self.step, self.at = step, max(self.at, at)  # a record's own time lacks the fraction of its second
        values = {key: float("nan") if value is None else value for key, value in values.items()}
        if self.mode == TRACKIO:
            self.run.log(values, step=step)
        else:
            self.run.log(values | {"_timestamp": self.at}, step=step, commit=True)

    def end(self, summary: dict[str, Any], config: dict[str, Any]) -> None:
        """Show how the run ended. In Trackio texts are settings, and numbers a row at the last step, drawn as bars over
        runs; names without a slash come first there: the score and the share."""
        if self.mode != TRACKIO:
            self.run.summary.update(summary)
            self.run.config.update(config, allow_val_change=True)
            return
        numbers = {key: value for key, value in summary.items() if type(value) in (int, float)}
        texts = {f"summary.{key}": value for key, value in summary.items() if key not in numbers}
        self.run.finish()  # settings go with the first row after `init`
        self.run = self.library.init(**self.settings, config=self.config | flat(config) | texts, resume="allow")
        self.run.log({key.removesuffix("/kept"): value for key, value in numbers.items()}, step=self.step)

    def keep(self, name: str, kind: str, tables: Mapping[str, Any], files: Iterable[Path] = ()) -> None:
        """Keep tables and files as an artifact: in a history, numbers of rows and columns become panels. Trackio shows
        tables as rows, and keeps no files: its page is served by the machine that has them."""
        if self.mode == TRACKIO:
            for key, table in tables.items():
                self.run.log({key: table}, step=self.step + 1)
            return
        artifact = self.library.Artifact(name, kind)
        for key, table in tables.items():
            artifact.add(table, key)
        for path in files:
            artifact.add_file(str(path), name=path.name, policy="immutable")
        self.run.log_artifact(artifact)

    def close(self, exit_code: int) -> None:
        """Wait until the window has taken all. Files of earlier offline windows of the run go."""
        if self.mode == TRACKIO:
            self.run.finish()
            return
        self.run.finish(exit_code=exit_code)
        for folder in self.earlier:
            shutil.rmtree(folder, ignore_errors=True)
