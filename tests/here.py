"""Where the records of a run go; and what workers do, in this process: no interpreter starts, and patches reach it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lorax_lab.launch.runs import Run


def store_of(overrides: list[str]) -> Path:
    """The folder of the records that overrides name."""
    return Path(next(word for word in overrides if word.startswith("runs_dir=")).partition("=")[2])


def until(happened: Callable[[], object], can_happen: Callable[[], bool] = lambda: True, seconds: float = 300) -> None:
    """Wait until something has happened, as long as it can, and so long at most."""
    end = time.monotonic() + seconds
    while not happened():
        assert can_happen()
        assert time.monotonic() < end
        time.sleep(0.02)


def expand(overrides: list[str]) -> list[list[str]]:
    """The grid of a sweep: a list of overrides for each job, in Hydra's order."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    from lorax_lab.config.overrides import parsed, said_plainly

    with said_plainly():
        (jobs,) = BasicSweeper.split_arguments([parsed(override) for override in overrides], None)
    return jobs


def needed(task: str) -> list[str]:
    """Overrides of what a task needs beside its name: a path, and columns."""
    from lorax_lab.config.defaults import defaults
    from lorax_lab.data import SOURCES
    from lorax_lab.tasks import KINDS

    preset = defaults(task, "lora")
    keys = SOURCES[str(preset["task.source"])].needed(KINDS[str(preset["task.kind"])].config)
    return [f"task.{key}=my_{key}" for key in keys if preset.get(f"task.{key}") is None]


def plan(overrides: list[str]) -> list[Run]:
    """Every run of overrides, each once, references first."""
    from lorax_lab.launch.compose import compose, spell_out
    from lorax_lab.launch.plan import each_once, run_of, with_reference

    return each_once([with_reference(run_of(compose(job))) for job in expand(spell_out(overrides))])


def _show(title: str, done: int, total: int, more: str = "", line: str = "") -> None:
    if line:
        print(line)


def without_workers(patch: pytest.MonkeyPatch) -> None:
    """Let sweeps train their runs in this process."""
    from lorax_lab import windows
    from lorax_lab.launch.runs import attempt
    from lorax_lab.launch.workers import Workers

    class ThisProcess(Workers):
        """One worker, which is this process."""

        def begin(self, run: Run) -> None:
            self.shares, self.busy = [], {None: (run, attempt(run, _show))}

        @property
        def runs(self) -> set[str]:
            return set()

        def over(self, bars: object) -> Iterator[tuple[Run, str]]:
            ((run, status),) = self.busy.values()
            self.shares, self.busy = [{}], {}
            yield run, status

        def end(self, number: object = None) -> None:
            windows.close()

    patch.setattr("lorax_lab.launch.sweep.Workers", ThisProcess)
