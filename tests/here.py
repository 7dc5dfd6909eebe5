"""Where the records of a run go; and what workers do, in this process: no interpreter starts, and patches reach it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lorax_lab.launch.plan import Run
    from lorax_lab.launch.workers import Workers


def store_of(overrides: list[str]) -> Path:
    """The folder of the records that overrides name."""
    return Path(next(word for word in overrides if word.startswith("runs_dir=")).partition("=")[2])


def _show(title: str, done: int, total: int, more: str = "", line: str = "") -> None:
    if line:
        print(line)


def _train(self: Workers, runs: list[Run]) -> None:
    from lorax_lab import windows
    from lorax_lab.launch import attempt

    references = {run.reference for run in runs}
    for run in sorted(runs, key=lambda run: run.run_id not in references):
        self.tried(run, attempt.attempt(run, self.how(run), _show))
    windows.close()


def without_workers(patch: pytest.MonkeyPatch) -> None:
    """Let sweeps train their runs in this process."""
    patch.setattr("lorax_lab.launch.workers.Workers.train", _train)
