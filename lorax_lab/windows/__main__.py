"""`python -m lorax_lab.windows sync` shows what a window lacks; `… dashboard` lays panels over what runs show."""

import argparse
import sys
from pathlib import Path
from typing import Any

from lorax_lab.config import TrackingConfig
from lorax_lab.errors import ConfigError, answer
from lorax_lab.record.lease import is_leased
from lorax_lab.record.record import scan
from lorax_lab.record.redact import guard
from lorax_lab.windows import close, later, show
from lorax_lab.windows.child import shown_in
from lorax_lab.windows.library import TRACKIO

DONE = {"online": "uploaded", "offline": "written offline", TRACKIO: "added"}
"""What became of a run that is shown, by the mode of its window."""
DASHBOARD = "lay panels over what runs show: a workspace in W&B, as JSON alone without a login"


def sync(runs_dir: Path, mode: str, typed: dict[str, Any]) -> int:
    """Show every run whose record its window lacks; returns how many could not be, with those that are damaged. A run
    that still trains is left out: its sweep shows it. `typed` are keys of `tracking` that count before a run's own."""
    records, damages = scan(runs_dir)
    for damage in damages:
        print(f"left out: {damage}")
    over = {folder: run for folder, run in records.items() if run.status != "running" or not is_leased(folder)}
    # what is online need not be written offline
    lacking = [folder for folder in over if shown_in(folder, mode).get("mode") not in ("online", mode)]
    failed = len(damages)
    for number, folder in enumerate(lacking, 1):
        tracking = TrackingConfig(**over[folder].config["tracking"] | typed | {"mode": mode})
        show(folder, tracking, print)
        close()
        is_shown = shown_in(folder, mode).get("mode") == mode  # the mark of before may be of another mode
        outcome = f"{DONE[mode]}, {tracking.project}" if is_shown else f"not {DONE[mode]}"
        failed += not is_shown
        print(f"[{number}/{len(lacking)}] {folder.name}: {outcome}", flush=True)
    print(f"{len(over) - len(lacking)} of {len(over) + len(damages)} were {DONE[mode]} before, {failed} could not be")
    if mode == "offline":
        print(f"nothing was sent; once there is a login, type {later(runs_dir)}")
    return failed


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 something could not be shown, 2 a wrong input, 130 stopped."""
    return answer(lambda: _main(_parser().parse_args(arguments)), "; what is uploaded stays so")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lorax_lab.windows", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    upload = commands.add_parser("sync", help="show every run that its window lacks, each once")
    board = commands.add_parser("dashboard", help=DASHBOARD, description=DASHBOARD)
    upload.add_argument("runs", type=Path, nargs="?", default=Path("runs"), help="where the records are (runs)")
    upload.add_argument("--mode", default="online", choices=DONE)
    upload.add_argument("--project", metavar="P", help="by default that of the runs")
    board.add_argument("--project", metavar="P", default="lorax_lab", help="that of the runs (lorax_lab)")
    for command in (upload, board):
        command.add_argument("--entity", metavar="NAME", help="account or team of W&B")
    return parser


def _main(options: argparse.Namespace) -> int:
    if options.command == "sync":
        if not options.runs.is_dir():
            raise ConfigError(f"{options.runs} is no folder; name the one with the records, such as runs")
        typed = {key: value for key in ("project", "entity") if (value := getattr(options, key)) is not None}
        return 1 if sync(options.runs, options.mode, typed) else 0
    try:
        from lorax_lab.windows import dashboard
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; type pip install lorax_lab[dashboards]") from None
    return dashboard.make(options.project, options.entity or "")


if __name__ == "__main__":
    guard()
    sys.exit(main())
