"""A running sweep: train the planned runs that are missing, then print a table."""

from __future__ import annotations

import hashlib
import signal
import time
from pathlib import Path

from lorax_lab.comparison import lacks_comparison, why_unusable
from lorax_lab.console import console, say
from lorax_lab.launch.attempt import (
    COMPARED,
    ELSEWHERE,
    NO_REFERENCE,
    RECORDED,
    Attempt,
    is_done,
    is_settled,
    record_sha256,
)
from lorax_lab.launch.leases import holder
from lorax_lab.launch.outlook import Durations, in_words, like_of
from lorax_lab.launch.plan import Run
from lorax_lab.launch.workers import Variables, Workers
from lorax_lab.record import record
from lorax_lab.record.record import Record

POLL = 1.0
"""Seconds between looks at a run that another launcher trains."""


class Sweep:
    """The planned runs and what became of them.

    Attributes:
        before: SHA-256 of the records when the sweep began, by run id; None where there was none.
        repeats: those of the records that `force` repeats.
        failed: how the attempts of this sweep ended that gave no result, by run id.
    """

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self.group = "sweep-" + hashlib.sha256("".join(run.run_id for run in runs).encode()).hexdigest()[:8]
        self.before = {run.run_id: record_sha256(run) for run in runs}
        forced = [run for run in runs if run.config.force and record.status_of(run.folder) == "completed"]
        self.repeats = {run.run_id: self.before[run.run_id] for run in forced}
        self.recorded = [run.run_id for run in runs if self.is_settled(run)]
        self.uncompared = [run.run_id for run in runs if run.run_id in self.recorded and not self._is_done(run)]
        self.failed: dict[str, str] = {}
        self.attempts = 0
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

    def train(self, shares: list[Variables]) -> bool:
        """Give the runs to workers; wait for those that another launcher trains. Returns whether it was interrupted.

        Args:
            shares: the environment of each worker, as `room.shares` returns them.
        """
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        self.side_by_side, waited_for = len(shares), set[str]()
        try:
            while left := [run for run in self.runs if not self._is_over(run)]:
                owners = {run.run_id: owner for run in left if (owner := holder(run.runs_dir, run.run_id))}
                free = [run for run in left if run.run_id not in owners]
                ready = [run for run in free if not (run.reference in owners and self.is_settled(run))]
                before = self.attempts
                if ready:
                    Workers(shares, self._how, self._tried).train(ready)
                    if self.attempts == before:  # no worker can be started
                        return False
                    continue
                for run_id in owners.keys() - waited_for:
                    say(f"  waiting for {run_id}, which {owners[run_id]} trains, until it is recorded or given back")
                waited_for |= owners.keys()
                time.sleep(POLL)
        except KeyboardInterrupt:
            return True
        return False

    def is_settled(self, run: Run) -> bool:
        """Whether the run has its result."""
        return is_settled(run, self.repeats.get(run.run_id))

    def _is_done(self, run: Run) -> bool:
        return is_done(run, self.repeats.get(run.run_id))

    def _is_over(self, run: Run) -> bool:
        """Whether the run has all that it can have, or was tried since the sweep began, here or by another launcher."""
        if run.run_id in self.failed or self._is_done(run):
            return True
        if self.is_settled(run):
            return run.reference in self.failed
        try:
            content = record.read_record(run.folder)
        except (FileNotFoundError, record.DamagedRecord):
            return False
        is_new = record_sha256(run) != self.before[run.run_id]
        return content.status not in ("running", "completed") and is_new

    def _place(self, run: Run) -> str:
        """`[2/4] lora r=4 seed=0`."""
        return f"[{[each.run_id for each in self.runs].index(run.run_id) + 1}/{len(self.runs)}] {run.title}"

    def _how(self, run: Run) -> Attempt:
        return Attempt(f"{self._place(run)}  {run.run_id}", self.group, self.repeats.get(run.run_id))

    def _tried(self, run: Run, status: str) -> None:
        """Count an attempt, and print how it ended."""
        self.attempts += 1
        if status not in ("completed", RECORDED, COMPARED, ELSEWHERE):
            self.failed[run.run_id] = status
        if status not in (ELSEWHERE, RECORDED):
            say(f"{self._place(run)} {self._result(run, status)}")

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
        failed = sum(status != NO_REFERENCE for status in self.failed.values())
        parts += [f"{failed} failed"] if failed else []
        left = [each for each in self.waiting if not self._is_over(each)]
        seconds_left = self.durations.left(left)
        parts += [f"{in_words(seconds_left / self.side_by_side)} left"] if left and seconds_left is not None else []
        return " · ".join(parts)

    def _outcome(self, run: Run) -> tuple[Record | None, str]:
        """A run's record, where there is one, and its status in words."""
        try:
            content = record.read_record(run.folder)
        except FileNotFoundError:
            return None, "not run"
        except record.DamagedRecord:
            return None, "damaged"
        if content.status != "completed":
            return content, f"{content.status}: {content.reason}" if content.reason else content.status
        if run.run_id in self.repeats and run.run_id in self.failed:
            return content, f"{self.failed[run.run_id]}: the earlier run stays as it was in {run.folder}"
        if lacks_comparison(run.folder, run.reference):
            assert run.reference is not None
            reason = why_unusable(run.runs_dir / run.reference) or "it is not compared with its reference yet"
            cure = "the same command tries again, and reference=false does without the comparison"
            return content, f"{NO_REFERENCE}: {reason}; {cure}"
        return content, content.status

    def close(self) -> bool:
        """Print the closing table; returns whether every run is completed."""
        from lorax_lab.launch.table import Row, table

        rows = [Row(run.config, *self._outcome(run)) for run in self.runs]
        console.print(table(rows, self.runs_dir))
        return all(row.status == "completed" for row in rows)
