"""`python -m lorax_lab.windows sync RUNS` shows what a window lacks."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from lorax_lab.config import TrackingConfig
from lorax_lab.errors import ConfigError, answer, in_short
from lorax_lab.record.output import guard
from lorax_lab.record.record import Record, scan
from lorax_lab.windows import DEADLINE, Windows, later
from lorax_lab.windows.child import shown_in
from lorax_lab.windows.library import MODES, TRACKIO, resolve, title_of
from lorax_lab.windows.progress import is_written

PROJECT = "lorax_lab"
DONE = {"online": "uploaded", "offline": "written offline", TRACKIO: "added"}
"""What became of a run that is shown, by the mode of its window."""


def sync(runs_dir: Path, mode: str, asked: dict[str, Any], patience: float = DEADLINE) -> int:
    """Show every run whose record its window lacks; returns how many could not be, with those that are damaged. A run
    that still trains is left out: its sweep shows it.

    Args:
        asked: keys of `tracking`, in place of what each run's own configuration says.
        patience: seconds that a run has to be shown.

    Raises:
        ConfigError: the mode shows nothing on this machine.
    """
    mode = _resolved(mode)
    records, damages = scan(runs_dir)
    training = {folder for folder, record in records.items() if record.status == "running" and is_written(folder)}
    for reason in [*(damage.reason for damage in damages), *(f"{folder.name} still trains" for folder in training)]:
        print(f"left out: {reason}")
    enough = ("online", mode)  # what is online need not be written offline
    over = {folder: record for folder, record in records.items() if folder not in training}
    lacking = {folder: record for folder, record in over.items() if shown_in(folder, mode).get("mode") not in enough}
    failed, windows = len(damages), Windows(_say, patience)
    for number, (folder, record) in enumerate(lacking.items(), 1):
        try:
            tracking = TrackingConfig(**_tracking(record) | asked | {"mode": mode})
        except ConfigError as error:
            failed += 1
            print(f"[{number}/{len(lacking)}] {folder.name}: its record has {error}")
            continue
        if windows.process.poll() is not None:
            windows = Windows(_say, patience)
        windows.begin(folder, folder, "", tracking)
        windows.end(folder.name)
        while folder.name in windows.open:
            time.sleep(0.05)
            if windows.is_late:
                windows.kill()
        mark = shown_in(folder, mode)
        failed += not mark
        url = f": {mark['url']}" if mark.get("url") else ""
        print(f"[{number}/{len(lacking)}] {folder.name}: {'' if mark else 'not '}{DONE[mode]}, {tracking.project}{url}")
    windows.close()
    print(f"{len(over) - len(lacking)} of {len(over) + len(damages)} were {DONE[mode]} before, {failed} could not be")
    if mode == "offline":
        print(f"nothing was sent; once there is a login, type {later(runs_dir)}")
    return failed


def _say(text: str) -> None:
    if "://" not in text:  # the address stands in the run's own line
        print(text, file=sys.stderr)


def _resolved(mode: str) -> str:
    try:
        resolved = resolve(mode)
    except Exception as error:
        instead = "type --mode online or --mode offline"
        raise ConfigError(f"--mode {mode}: {title_of(mode)} refuses the login ({in_short(error)}); {instead}") from None
    if resolved not in DONE:
        raise ConfigError(f"--mode {mode}: WANDB_MODE={resolved} shows nothing; unset it, or type --mode online")
    return resolved


def _tracking(record: Record) -> dict[str, Any]:
    """What the sweep that made the run said of its window."""
    section, keys = record.config.get("tracking") or {}, [field.name for field in fields(TrackingConfig)]
    return {"project": PROJECT, "entity": None} | {key: section[key] for key in keys if key in section}


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 something could not be shown, 2 a wrong input, 130 stopped."""
    return answer(lambda: _sync(arguments), "; what is uploaded stays so")


def _sync(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lorax_lab.windows", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    upload = commands.add_parser("sync", help="show every run that its window lacks, each once")
    upload.add_argument("folder", type=Path, nargs="?", default=Path("runs"), help="where the records are (runs)")
    upload.add_argument("--mode", default="online", choices=MODES)
    upload.add_argument("--project", help="by default the one that the run's sweep named, as for the others")
    upload.add_argument("--entity", help="account or team of W&B")
    upload.add_argument("--study", help="a tag: the study that the runs belong to")
    upload.add_argument("--artifacts", action=argparse.BooleanOptionalAction, help="keep the trained weights there too")
    upload.add_argument("--patience", type=float, default=DEADLINE, help=f"seconds for a run ({DEADLINE:g})")
    asked = parser.parse_args(arguments)
    settings = {key: getattr(asked, key) for key in ("project", "entity", "artifacts", "study")}
    settings = {key: value for key, value in settings.items() if value is not None}
    TrackingConfig(**{"project": PROJECT, "entity": None, **settings, "mode": asked.mode})  # refuses a wrong one
    if not 0 < asked.patience < float("inf"):
        parser.error(f"--patience {asked.patience} is no time: a number of seconds above 0, such as {DEADLINE:g}")
    if not asked.folder.is_dir():
        parser.error(f"{asked.folder} is no folder; type the one with the records, as in: sync runs")
    return 1 if sync(asked.folder, asked.mode, settings, asked.patience) else 0


if __name__ == "__main__":
    guard()
    sys.exit(main())
