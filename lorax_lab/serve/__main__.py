"""`python -m lorax_lab.serve`: six tasks on one base. Their runs are found or trained, proved equal, and measured."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lorax_lab.errors import ConfigError, answer
from lorax_lab.record.output import guard
from lorax_lab.serve.overrides import HELP, Setup, read_overrides

if TYPE_CHECKING:
    from pathlib import Path

    from lorax_lab.launch.plan import Run

INSTEAD = "name another folder, as in out=serving/mine"


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing, serve, print, write. Returns the exit code: 0 done and every prediction equal, 1 a run
    could not be trained or a prediction differs, 2 a wrong input, 130 stopped."""
    overrides = sys.argv[1:] if arguments is None else arguments
    if {"--help", "-h"} & set(overrides):
        print(HELP)
        return 0
    return answer(
        lambda: _answer(read_overrides(overrides)), "; what is trained is kept: type the same command to go on"
    )


def _answer(setup: Setup) -> int:
    runs = list(setup.runs.values())
    folder = _folder(setup, runs)
    return _serve(setup, folder) if _train(runs, folder) else 1


def _folder(setup: Setup, runs: list[Run]) -> Path:
    """The folder of the results; it and the records' can be made, as far as is seen before anything is written."""
    from lorax_lab.launch.place import check_folder, check_place
    from lorax_lab.serve import report

    for run in runs:
        check_place(run)
    folder = setup.out or report.default_folder(runs)
    check_folder(f"out={folder}", folder, INSTEAD)
    if (folder / report.RESULTS).is_dir():
        raise ConfigError(f"out={folder} has a folder {report.RESULTS}, where the results go; {INSTEAD}")
    return folder


def _train(runs: list[Run], folder: Path) -> bool:
    """Train the runs that the store lacks, in this process; returns whether all are recorded."""
    import signal

    from lorax_lab.console import console
    from lorax_lab.launch.place import make_folder, make_place
    from lorax_lab.launch.plan import check
    from lorax_lab.launch.sweep import Sweep

    sweep = Sweep(runs)
    check(sweep.waiting)
    make_folder(f"out={folder}", folder, INSTEAD)
    console.print(f"{len(sweep.recorded)} of {len(runs)} already recorded in {runs[0].runs_dir}", markup=False)
    if not sweep.waiting:
        return True
    make_place(sweep.runs_dir)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sweep.finish()
    return sweep.close()


def _serve(setup: Setup, folder: Path) -> int:
    from lorax_lab.serve import report
    from lorax_lab.serve.measure import measure
    from lorax_lab.serve.proof import prove
    from lorax_lab.serve.served import open_served

    served = open_served(setup.runs)
    proof = prove(served)
    report.close(report.results(served, proof, measure(served, folder)), folder)
    return 0 if proof.equal else 1


if __name__ == "__main__":
    guard()
    sys.exit(main())
