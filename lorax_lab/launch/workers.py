"""Worker processes: each trains one run of a sweep after the other, with a share of the machine.

A worker may end at any moment; only its present run is hurt, and the parent records why. A run that starts before its
reference is there is compared with it afterwards.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

from lorax_lab.console import WorkerBars, say
from lorax_lab.launch.attempt import ELSEWHERE, Attempt, is_settled, record_status
from lorax_lab.launch.leases import lease
from lorax_lab.launch.plan import Run
from lorax_lab.record.record import Status

PROGRAM = ["-m", "lorax_lab.launch.worker"]
LOOK = 0.5
"""Seconds between looks at the time limits."""
PATIENCE = 15.0
"""Seconds that an interrupted worker gets to record that it was."""
Variables = Mapping[str, str]
"""Of a worker's environment, beside those of this process: which cores or device it may use."""


class Worker:
    """A process that makes attempts, one at a time."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.pipe, theirs = Pipe()
        words = [sys.executable, "-X", "faulthandler", *PROGRAM, str(theirs.fileno())]
        with theirs:
            self.process = subprocess.Popen(words, pass_fds=[theirs.fileno()], env=os.environ | variables)

    def begin(self, run: Run, how: Attempt, is_early: bool) -> None:
        """Give it a run, without its reference where that is not there yet. Where its process has ended, its pipe says
        so later."""
        self.run, self.how, self.is_early = run, how, is_early
        self.began, self.kills = time.monotonic(), oom_kills()
        with suppress(BrokenPipeError):
            self.pipe.send((replace(run, reference=None) if is_early else run, how))

    @property
    def is_late(self) -> bool:
        """Whether its run takes longer than it may."""
        limit = self.run.config.time_limit_seconds
        return limit is not None and time.monotonic() - self.began > limit


class Workers:
    """Workers that train the runs of a sweep.

    Args:
        shares: the environment of each worker, by number.
        how: from a run to how it is tried.
        tried: called with each run and the outcome of its attempt.
    """

    def __init__(
        self, shares: list[Variables], how: Callable[[Run], Attempt], tried: Callable[[Run, str], None]
    ) -> None:
        self.shares, self.how, self.tried = list(shares), how, tried
        self.idle: list[Worker] = []
        self.busy: dict[Connection, Worker] = {}

    def train(self, runs: list[Run]) -> None:
        """Try every run, references first. Where no process can be started, the runs left stay untried.

        Raises:
            KeyboardInterrupt: it was interrupted; each worker has had time to record so.
        """
        references = {run.reference for run in runs}
        waiting = sorted(runs, key=lambda run: run.run_id not in references)
        early: list[Run] = []  # trained before their reference was there
        with self._ended(), WorkerBars(len(runs)) as bars:
            while waiting or self.busy:
                while waiting and (worker := self._free()):
                    run = waiting.pop(0)
                    worker.begin(run, self.how(run), self._is_open(run.reference, waiting))
                    self.busy[worker.pipe] = worker
                if not self.busy:
                    return
                for worker, status in self._over(bars):
                    bars.end(worker.run.run_id)
                    self.tried(worker.run, status)
                    early += [worker.run] if worker.is_early and status == "completed" else []
                waiting += [run for run in early if not self._is_open(run.reference, waiting)]
                early = [run for run in early if run not in waiting]

    def _is_open(self, run_id: str | None, waiting: list[Run]) -> bool:
        """Whether a run of the sweep has still to end."""
        return run_id in {run.run_id for run in (*waiting, *(worker.run for worker in self.busy.values()))}

    def _free(self) -> Worker | None:
        """A worker that has nothing to do; None where there can be no more."""
        while self.idle:
            worker = self.idle.pop()
            if worker.process.poll() is None:
                return worker
            worker.pipe.close()
            self.shares.append(worker.variables)
        if not self.shares:
            return None
        try:
            return Worker(self.shares.pop(0))
        except OSError as error:
            say(f"a worker could not be started: {error}")
            self.shares.clear()
            return None

    def _over(self, bars: WorkerBars) -> Iterator[tuple[Worker, str]]:
        """The workers whose run is over by now, each with its outcome; what the others say is shown."""
        for pipe in wait(list(self.busy), LOOK):
            assert isinstance(pipe, Connection)
            worker = self.busy[pipe]
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                yield worker, self._died(worker)
                continue
            match message.pop("kind"):
                case "say":
                    text = message["text"]  # a line that belongs to the one above it names its run
                    text = f"{worker.run.title}: {text.strip()}" if text.startswith("  ") else text
                    say(text)
                case "bar":
                    bars.show(worker.run.run_id, worker.run.title, **message)
                case "end":
                    self.idle.append(self.busy.pop(pipe))
                    yield worker, message["status"]
        for worker in [worker for worker in self.busy.values() if worker.is_late]:
            worker.process.kill()
            yield worker, self._died(worker, is_late=True)

    def _died(self, worker: Worker, is_late: bool = False) -> str:
        """Record why a run has no result whose process has ended, unless another process has the run by now."""
        del self.busy[worker.pipe]
        worker.pipe.close()
        self.shares.append(worker.variables)
        code, run = worker.process.wait(), worker.run
        status, reason = cause(code, oom_kills() > worker.kills)
        if is_late:
            limit = run.config.time_limit_seconds
            status, reason = "failed", f"it did not end within time_limit_seconds={limit:g}"
        with lease(run.runs_dir, run.run_id) as mine:
            if not mine:
                return ELSEWHERE
            if is_settled(run, worker.how.repeats):
                return "completed"
            record_status(run, status, reason)
        say(f"{run.title}: {status}: {reason}")
        return status

    @contextmanager
    def _ended(self) -> Iterator[None]:
        """Every process has ended after the block: in its own time, or at once where the block raised."""
        patience = None
        try:
            yield
        except BaseException:
            patience = PATIENCE
            for worker in (*self.busy.values(), *self.idle):
                worker.process.terminate()
            raise
        finally:
            deadline = time.monotonic() + (patience or 0)
            for worker in (*self.busy.values(), *self.idle):
                worker.pipe.close()  # which ends one that is idle
            for worker in (*self.busy.values(), *self.idle):
                try:
                    worker.process.wait(patience and max(deadline - time.monotonic(), 0))
                except subprocess.TimeoutExpired:
                    worker.process.kill()
                    worker.process.wait()


def cause(code: int, oom_killed: bool) -> tuple[Status, str]:
    """(status, reason) of a process that ended without recording one.

    >>> cause(-11, False), cause(0, False)
    (('failed', 'its process was ended by SIGSEGV'), ('failed', 'its process ended with status 0 and left no record'))
    >>> cause(-9, True), cause(-9, False)[0]
    (('oom', 'its process was ended by SIGKILL: the system ran out of memory'), 'killed')
    """
    if code == -signal.SIGKILL:
        if oom_killed:
            return "oom", "its process was ended by SIGKILL: the system ran out of memory"
        return "killed", "its process was ended by SIGKILL: by a person, or because memory ran out"
    if code < 0:
        return "failed", f"its process was ended by {signal.Signals(-code).name}"
    return "failed", f"its process ended with status {code} and left no record"


def oom_kills() -> int:
    """How many processes the system has killed because memory ran out."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
