"""Windows on the records, such as W&B: shows there what they lack. Sweeps show their runs live (`follower.py`).

`python -m lorax_lab.windows.tracking sync` shows every run that its window lacks, each once: runs that completed and
runs that did not, with the times of their steps, under the project and study that its sweep named. `<run>/wandb.json`
says how much of a run its window has.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from lorax_lab.config import TrackingConfig
from lorax_lab.errors import ConfigError, answer, in_short
from lorax_lab.record.output import guard
from lorax_lab.record.record import Record, read_record, scan
from lorax_lab.windows.door import DOORS, TRACKIO, door_of, name_of
from lorax_lab.windows.follow import follow
from lorax_lab.windows.follower import PATIENCE
from lorax_lab.windows.following import later, untold
from lorax_lab.windows.marks import group_of, mark_of, url_of
from lorax_lab.windows.orders import Order, claimed
from lorax_lab.windows.progress import PROGRESS, Reader

PROJECT = "lorax_lab"
"""Where a run of a record that names no project is shown."""
WHY = "not shown: "
"""What the line of `publish` begins with that says why it failed."""
DONE = {"online": "uploaded", "offline": "written offline", TRACKIO: "added"}
"""What became of a run that is shown, by the resolved mode of its window."""


def publish(config: TrackingConfig, folder: Path, group: str, patience: float = PATIENCE) -> bool:
    """Show one run that is over in its window.

    Any failure becomes a warning, after `patience` seconds at most: only the record on disk counts.

    Args:
        folder: the run's.
        group: the name under which the window shows the sweep.

    Returns:
        Whether the window has it, or there is none.
    """
    if config.mode == "disabled":
        return True
    command = [sys.executable, "-m", "lorax_lab.windows.tracking", "publish", str(folder), "--group", group]
    command += ["--mode", config.mode, "--project", config.project]
    command += ["--entity", config.entity] if config.entity else []
    command += ["--study", config.study] if config.study else []
    command += ["--artifacts" if config.artifacts else "--no-artifacts"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    try:
        process = subprocess.Popen(command, start_new_session=True, text=True, **pipes)  # type: ignore[call-overload]
    except OSError as error:
        return _untold(folder, str(error), config.mode)
    try:
        _, errors = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # wandb's own process, which holds the pipe, ends when it is gone
        process.communicate()
        return _untold(folder, f"it took more than {patience:g} s", config.mode)
    if process.returncode != 0:
        return _untold(folder, _reason(errors, process.returncode), config.mode)
    return True


def _reason(errors: str, code: int) -> str:
    """Why a process failed: what it says itself, else its last line. Loggers of libraries may write below either."""
    lines = errors.strip().splitlines()
    said = [line.removeprefix(WHY) for line in lines if line.startswith(WHY)]
    return (said or lines or [f"its process ended with status {code}"])[-1]


def _untold(folder: Path, why: str, mode: str) -> bool:
    warnings.warn(untold(folder.name, why, folder.parent, name_of(mode)), stacklevel=3)
    return False


def sync(runs_dir: Path, mode: str, asked: Mapping[str, Any] | None = None, patience: float = PATIENCE) -> int:
    """Show every run that its window lacks, each once however many do it at a time; returns how many could not be,
    those among them that are damaged. A run that still trains is left out: its sweep shows it.

    Args:
        mode: of the windows.
        asked: other keys of `tracking`, in place of what each run's own configuration says.

    Raises:
        ConfigError: the mode shows nothing on this machine.
    """
    mode = _resolved(mode)
    enough = (mode, "online") if mode == "offline" else (mode,)
    records, damages = scan(runs_dir)
    for damage in damages:
        print(f"left out: {damage.reason}")
    over = {folder: record for folder, record in records.items() if not _trains(folder, record)}
    for folder in records.keys() - over.keys():
        print(f"left out: {folder.name} still trains")
    waiting = [folder for folder in over if mark_of(folder, mode) not in enough]
    failed = len(damages)
    for number, folder in enumerate(waiting, 1):
        place = f"[{number}/{len(waiting)}] {folder.name}"
        try:
            with claimed(folder, 0.0):
                if mark_of(folder, mode) not in enough:
                    config = _settings(over[folder], mode, asked or {})
                    is_shown = publish(config, folder, _group(folder), patience)
                    failed += not is_shown
                    print(f"{place}: {'' if is_shown else 'not '}{_where(config, folder, is_shown)}")
        except ConfigError as error:
            failed += 1
            print(f"{place}: not {DONE[mode]}: its record has {error}")
        except TimeoutError:
            print(f"{place}: another process shows it")
    print(f"{len(over) - len(waiting)} of {len(over) + len(damages)} were {DONE[mode]} before, {failed} could not be")
    if mode == "offline":
        print(f"nothing was sent; once there is a login, type {later(runs_dir)}")
    return failed


def _resolved(mode: str) -> str:
    """What a mode is on this machine.

    Raises:
        ConfigError: it shows nothing, or that cannot be said.
    """
    door = door_of(mode)
    assert door is not None, mode
    try:
        resolved = door.resolve(mode)
    except Exception as error:
        other = "type --mode online or --mode offline"
        raise ConfigError(f"--mode {mode}: {name_of(mode)} refuses the login ({in_short(error)}); {other}") from None
    if resolved not in DONE:
        raise ConfigError(f"--mode {mode}: WANDB_MODE={resolved} shows nothing; unset it, or type --mode online")
    return resolved


def _where(config: TrackingConfig, folder: Path, is_shown: bool) -> str:
    """`uploaded to lorax_lab: https://…`, or where else a run is shown."""
    if config.mode == "offline":
        return f"{DONE[config.mode]} in {folder.parent / 'wandb'}, for {config.project}"
    url = url_of(folder) if is_shown and config.mode == "online" else None
    return f"{DONE[config.mode]} to {config.project}" + (f": {url}" if url else "")


def _settings(record: Record, mode: str, asked: Mapping[str, Any]) -> TrackingConfig:
    """What the sweep that made the run said of its window, but for what is asked otherwise. An older record says less.

    Raises:
        ConfigError: the record has what is no setting.
    """
    own, keys = record.config.get("tracking"), [field.name for field in fields(TrackingConfig)]
    said = {key: own[key] for key in keys if key in own} if isinstance(own, dict) else {}
    return TrackingConfig(**{"project": PROJECT, "entity": None, **said, **asked, "mode": mode})


def _group(folder: Path) -> str:
    """The name under which a window shows the run's sweep."""
    reader = Reader(folder / PROGRESS)
    reader.read()
    return group_of(folder) or (reader.begin.group if reader.begin else "sync")


def _trains(folder: Path, record: Record) -> bool:
    if record.status != "running":
        return False
    reader = Reader(folder / PROGRESS)
    reader.read()
    return reader.lives()


def main(arguments: list[str] | None = None) -> int:
    """`sync [RUNS]`, for people, and `publish RUN`, which it starts."""
    return answer(lambda: _main(arguments), "; what is uploaded stays so")


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lorax_lab.windows.tracking", description="Upload what W&B was not told."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    upload = commands.add_parser("sync", help="upload the runs that were not, each once")
    upload.add_argument("folder", nargs="?", default="runs", type=Path, metavar="RUNS", help="runs by default")
    one = commands.add_parser("publish", help="tell W&B of one run that is over")
    one.add_argument("folder", type=Path, metavar="RUN")
    one.add_argument("--group", default="sync", help="the name under which W&B shows the sweep")
    for command, mode in ((upload, "online"), (one, "auto")):
        command.add_argument("--mode", default=mode, choices=list(DOORS))
        command.add_argument("--project", help="by default the one that the run's sweep named")
        command.add_argument("--entity", help="account or team of W&B; by default as --project")
        command.add_argument("--study", help="a tag: the study that the runs belong to; by default as --project")
        keep = "keep the trained weights there too; by default as --project"
        command.add_argument("--artifacts", action=argparse.BooleanOptionalAction, help=keep)
    upload.add_argument("--patience", type=float, default=PATIENCE, help=f"seconds for a run ({PATIENCE:.0f})")
    asked = parser.parse_args(arguments)
    settings = {key: getattr(asked, key) for key in ("project", "entity", "artifacts", "study")}
    settings = {key: value for key, value in settings.items() if value is not None}
    TrackingConfig(**{"project": PROJECT, "entity": None, **settings, "mode": asked.mode})  # refuses a wrong one
    if asked.command == "sync" and not 0 < asked.patience < float("inf"):
        parser.error(f"--patience {asked.patience} is no time: a number of seconds above 0, such as {PATIENCE:.0f}")
    if not asked.folder.is_dir():
        parser.error(f"{asked.folder} is no folder; type the one with the records, as in: {asked.command} runs")
    if asked.command == "sync":
        return 1 if sync(asked.folder, asked.mode, settings, asked.patience) else 0
    try:
        folder = asked.folder.resolve()
        config = _settings(read_record(folder), asked.mode, settings)
        resume = asked.mode != TRACKIO  # which keeps the earlier numbers of a record that has changed
        follow(Order(folder, folder, asked.group, config, resume=resume))
    except Exception as error:
        print(f"{WHY}{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    guard()
    sys.exit(main())
