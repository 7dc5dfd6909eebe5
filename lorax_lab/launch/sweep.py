"""A running sweep: train the planned runs that are missing, then print a table."""

from __future__ import annotations

import calendar
import hashlib
import signal
import time
import uuid
from dataclasses import replace
from pathlib import Path

from lorax_lab import windows
from lorax_lab.launch import leases
from lorax_lab.launch.attempts import (
    COMPARED,
    ELSEWHERE,
    NO_REFERENCE,
    POLL,
    RECORDED,
    Attempt,
    attempt,
    is_done,
    is_settled,
    record_sha256,
    record_status,
    workplace,
)
from lorax_lab.launch.durations import Durations, in_words, like_of
from lorax_lab.launch.isolation import attempt_apart
from lorax_lab.launch.launchers import start
from lorax_lab.launch.plan import Run
from lorax_lab.launch.references import lacks_comparison, why_unusable
from lorax_lab.launch.waiting import Waiting
from lorax_lab.launch.workers import Variables, Workers
from lorax_lab.record import record
from lorax_lab.record.record import Record


class Sweep:
    """The planned runs and what became of them; a launcher of Hydra's may carry it into other processes."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs, self.began, self.launch = runs, time.time(), uuid.uuid4().hex
        self.group = "sweep-" + hashlib.sha256("".join(run.run_id for run in runs).encode()).hexdigest()[:8]
        forced = [run for run in runs if run.config.force and record.status_of(run.folder) == "completed"]
        self.repeats = {run.run_id: record_sha256(run) for run in forced}
        self.recorded = [run.run_id for run in runs if self._is_settled(run)]
        self.uncompared = [run.run_id for run in runs if run.run_id in self.recorded and not self._is_done(run)]
        self.done: set[str] = set()
        self.durations, self.side_by_side = Durations(), 1

    @property
    def runs_dir(self) -> Path:
        """Where all records of the sweep are."""
        return self.runs[0].runs_dir

    @property
    def waiting(self) -> list[Run]:
        """Runs that were not recorded when the sweep began, were not compared with their reference, or are to be
        repeated."""
        return [run for run in self.runs if run.run_id not in self.recorded or run.run_id in self.uncompared]

    @property
    def opening(self) -> str:
        """What is there when the sweep begins."""
        lacking = f", {len(self.uncompared)} of them not compared with the reference" if self.uncompared else ""
        return f"{len(self.recorded)} of {len(self.runs)} already recorded in {self.runs_dir}{lacking}"

    def train(self, launcher: list[str], shares: list[Variables]) -> bool:
        """Give the runs to workers or to Hydra's launcher, then finish the runs that these or another sweep left.
        Returns whether it was interrupted.

        Args:
            launcher: the overrides that choose and set up a parallel launcher, as `launchers.chosen` returns them.
            shares: the environment of each worker, as `room.shares` returns them.
        """
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            if shares[0]:
                self.side_by_side = len(shares)
                Workers(shares, self._how, self._tried).train([run for run in self.runs if not self._is_done(run)])
            else:
                start(self.job, len(self.jobs), launcher, self.runs_dir)
            self.finish()
            windows.close()
        except KeyboardInterrupt:
            windows.close(wait=False)
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
        if run.run_id in self.done or self._is_done(run):
            return RECORDED
        how = replace(self._how(run), wait=wait)
        status = attempt_apart(run, how) if run.config.isolate else attempt(run, how)
        self._tried(run, status)
        return status

    def _place(self, run: Run) -> str:
        """`[2/4] lora r=4 seed=0`."""
        return f"[{[other.run_id for other in self.runs].index(run.run_id) + 1}/{len(self.runs)}] {run.title}"

    def _how(self, run: Run) -> Attempt:
        """How a run is tried. One waits for its reference, but not for a run that another launcher trains."""
        is_reference = run.run_id in {other.reference for other in self.runs}
        title, repeats = f"{self._place(run)}  {run.run_id}", self.repeats.get(run.run_id)
        return Attempt(title, self.group, self.launch, is_reference, repeats)

    def _tried(self, run: Run, status: str) -> None:
        """Count an attempt, and print how it ended."""
        from lorax_lab.console import console

        if status != ELSEWHERE:
            self.done.add(run.run_id)
        if status not in (ELSEWHERE, RECORDED):
            console.print(f"{self._place(run)} {self._result(run, status)}", soft_wrap=True, markup=False)

    def finish(self) -> None:
        """Train the runs that other launchers had leased and did not complete, and those that the launcher did not
        reach.

        A run whose process died in this sweep is not tried again here, since it may take this process with it.
        """
        waiting = Waiting()
        while left := [run for run in self.runs if run.run_id not in self.done and not self._is_over(run)]:
            open_ids = {run.run_id for run in left}
            statuses = [self.try_once(run) for run in left if run.reference not in open_ids]
            if all(status == ELSEWHERE for status in statuses):
                self._say_for_whom(waiting, left)
                time.sleep(POLL)

    def _say_for_whom(self, waiting: Waiting, left: list[Run]) -> None:
        from lorax_lab.console import console

        for run in left:
            owner = leases.holder(run.runs_dir, run.run_id)
            if owner and (line := waiting.line(run, owner)):
                console.print(f"  {line}", soft_wrap=True, markup=False)

    def _is_settled(self, run: Run) -> bool:
        return is_settled(run, self.repeats.get(run.run_id))

    def _is_done(self, run: Run) -> bool:
        return is_done(run, self.repeats.get(run.run_id))

    def _workplace(self, run: Run) -> Path:
        return workplace(run, self.repeats.get(run.run_id))

    def _is_over(self, run: Run) -> bool:
        """Whether the run has its result, or was tried since the sweep began."""
        place = self._workplace(run)
        try:
            content = record.read_record(place)
        except (FileNotFoundError, record.DamagedRecord):
            return False
        if content.status == "completed":
            return place == run.folder
        mine = content.launch == self.launch
        if content.status == "running" and mine and leases.holder(run.runs_dir, run.run_id) is None:
            reason = "its process ended without a trace; type isolate=true to see how"
            record_status(run, "failed", reason, place=place)
            return True
        return _seconds(content.written) >= int(self.began) and content.status != "running"

    def _result(self, run: Run, status: str) -> str:
        """`accuracy .81 42 s · 2 already recorded · 1 failed · 6 min left`."""
        parts = [f"compared with {run.reference}" if status == COMPARED else status]
        if status == "completed":
            content = record.read_record(run.folder)
            result, split = content.completed, "validation " if content.is_trial else ""
            seconds = result.time.total_seconds
            parts = [f"{split}{result.metric} {result.score(content.split):.3f} {seconds:.0f} s"]
            parts += ["collapsed"] if result.collapsed else []
            self.durations.add(like_of(run), seconds)
        parts += [f"{len(self.recorded)} already recorded"] if self.recorded else []
        statuses = {other.run_id: record.status_of(self._workplace(other)) for other in self.waiting}
        failed = sum(other in ("failed", "oom", "diverged", "killed") for other in statuses.values())
        parts += [f"{failed} failed"] if failed else []
        left = [other for other in self.waiting if statuses[other.run_id] in (None, "running")]
        seconds_left = self.durations.left(left)
        parts += [f"{in_words(seconds_left / self.side_by_side)} left"] if left and seconds_left is not None else []
        return " · ".join(parts)

    def _outcome(self, run: Run) -> tuple[Record | None, str]:
        """A run's record, where there is one, and its status in words."""
        place = self._workplace(run)
        try:
            content = record.read_record(place)
        except FileNotFoundError:
            return None, "not run"
        except record.DamagedRecord:
            return None, "damaged"
        kept = "" if place == run.folder else f"; the earlier run stays as it was in {run.folder}"
        if content.status == "completed" and lacks_comparison(place, run.reference):
            return content, f"{NO_REFERENCE}: {self._why_uncompared(run)}"
        return content, f"{content.status}: {content.reason}{kept}" if content.reason else content.status

    def _why_uncompared(self, run: Run) -> str:
        assert run.reference is not None
        reason = why_unusable(run.runs_dir / run.reference) or "it is not compared with its reference yet"
        return f"{reason}; the same command tries again, and reference=false does without the comparison"

    def close(self) -> bool:
        """Print the closing table; returns whether every run is completed."""
        from lorax_lab.console import console
        from lorax_lab.launch.table import Row, table

        rows = [Row(run.config, *self._outcome(run)) for run in self.runs]
        console.print(table(rows, self.runs_dir))
        return all(row.status == "completed" for row in rows)


def _seconds(written: str) -> float:
    return calendar.timegm(time.strptime(written, "%Y-%m-%dT%H:%M:%SZ"))
