"""A running sweep: train the planned runs that are missing, then print a table."""

from __future__ import annotations

import calendar
import hashlib
import signal
import time
import uuid
from pathlib import Path

from lorax_lab.launch import leases
from lorax_lab.launch.attempts import ELSEWHERE, POLL, RECORDED, Attempt, attempt, record_status
from lorax_lab.launch.durations import Durations, in_words, like_of
from lorax_lab.launch.isolation import attempt_apart
from lorax_lab.launch.launchers import start
from lorax_lab.launch.plan import Run
from lorax_lab.store import record
from lorax_lab.store.record import Record


class Sweep:
    """The planned runs and what became of them; a launcher of Hydra's may carry it into other processes."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs, self.began, self.launch = runs, time.time(), uuid.uuid4().hex
        self.group = "sweep-" + hashlib.sha256("".join(run.run_id for run in runs).encode()).hexdigest()[:8]
        self.recorded = [run.run_id for run in runs if _is_recorded(run)]
        self.done: set[str] = set()
        self.durations = Durations()

    @property
    def runs_dir(self) -> Path:
        """Where all records of the sweep are."""
        return self.runs[0].runs_dir

    @property
    def waiting(self) -> list[Run]:
        """Runs that were not recorded when the sweep began, or are to be repeated."""
        return [run for run in self.runs if run.run_id not in self.recorded]

    def train(self, launcher: list[str]) -> bool:
        """Give the runs to Hydra's launcher, then finish the runs that it or another sweep left. Returns whether it was
        interrupted.

        Args:
            launcher: the overrides that choose and set up a parallel launcher, as `launchers.chosen` returns them.
        """
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            start(self.job, len(self.jobs), launcher, self.runs_dir)
            self.finish()
        except KeyboardInterrupt:
            return True
        return False

    @property
    def jobs(self) -> list[Run]:
        """The runs that a launcher starts: all but references, which are trained with the first run that needs them."""
        references = {run.reference for run in self.runs}
        return [run for run in self.runs if run.run_id not in references]

    def job(self, number: int) -> None:
        """One of the launcher's jobs: its run, and before it the reference where it needs one."""
        run = self.jobs[number]
        for reference in self.runs:
            if reference.run_id == run.reference:
                self.try_once(reference, wait=True)
        self.try_once(run)

    def try_once(self, run: Run, wait: bool = False) -> str:
        """Try a run that was not tried here yet; print a line before and after."""
        from lorax_lab.console import console

        if run.run_id in self.done or run.run_id in self.recorded:
            return RECORDED
        place = f"[{[other.run_id for other in self.runs].index(run.run_id) + 1}/{len(self.runs)}] {run.title}"
        how = Attempt(f"{place}  {run.run_id}", self.group, self.launch, wait)
        status = attempt_apart(run, how) if run.config.isolate else attempt(run, how)
        if status != ELSEWHERE:
            self.done.add(run.run_id)
        if status not in (ELSEWHERE, RECORDED):
            console.print(f"{place} {self._result(run, status)}", soft_wrap=True, markup=False)
        return status

    def finish(self) -> None:
        """Train the runs that other launchers had leased and did not complete, and those that the launcher did not
        reach.

        A run whose process died in this sweep is not tried again here, since it may take this process with it.
        """
        while left := [run for run in self.runs if run.run_id not in self.done and not self._is_settled(run)]:
            open_ids = {run.run_id for run in left}
            statuses = [self.try_once(run) for run in left if run.reference not in open_ids]
            if all(status == ELSEWHERE for status in statuses):
                time.sleep(POLL)

    def _is_settled(self, run: Run) -> bool:
        status = record.status_of(run.folder)
        if status in (None, "damaged"):
            return False
        content = record.read_record(run.folder)
        since_it_began = _seconds(content.written) >= int(self.began)
        mine = content.launch == self.launch
        if status == "running" and mine and leases.holder(run.runs_dir, run.run_id) is None:
            record_status(run, "failed", "its process ended without a trace; type isolate=true to see how")
            return True
        return status == "completed" or (since_it_began and status != "running")

    def _result(self, run: Run, status: str) -> str:
        """`accuracy .81 42 s · 2 already recorded · 1 failed · 6 min left`."""
        parts = [status]
        if status == "completed":
            content = record.read_record(run.folder)
            result, split = content.completed, "validation " if content.is_trial else ""
            seconds = result.time.total_seconds
            parts = [f"{split}{result.metric} {result.score(content.split):.3f} {seconds:.0f} s"]
            parts += ["collapsed"] if result.collapsed else []
            self.durations.add(like_of(run), seconds)
        parts += [f"{len(self.recorded)} already recorded"] if self.recorded else []
        statuses = {other.run_id: record.status_of(other.folder) for other in self.waiting}
        failed = sum(other in ("failed", "oom", "diverged", "killed") for other in statuses.values())
        parts += [f"{failed} failed"] if failed else []
        left = [other for other in self.waiting if statuses[other.run_id] in (None, "running")]
        seconds_left = self.durations.left(left)
        parts += [f"{in_words(seconds_left)} left"] if left and seconds_left is not None else []
        return " · ".join(parts)

    def _outcome(self, run: Run) -> tuple[Record | None, str]:
        """A run's record, where there is one, and its status in words."""
        try:
            content = record.read_record(run.folder)
        except FileNotFoundError:
            return None, "not run"
        except record.DamagedRecord:
            return None, "damaged"
        return content, f"{content.status}: {content.reason}" if content.reason else content.status

    def close(self) -> bool:
        """Print the closing table; returns whether every run is completed."""
        from lorax_lab.console import console
        from lorax_lab.launch.table import Row, table

        rows = [Row(run.config, *self._outcome(run)) for run in self.runs]
        console.print(table(rows, self.runs_dir))
        return all(row.status == "completed" for row in rows)


def _is_recorded(run: Run) -> bool:
    return not run.config.force and record.status_of(run.folder) == "completed"


def _seconds(written: str) -> float:
    return calendar.timegm(time.strptime(written, "%Y-%m-%dT%H:%M:%SZ"))
