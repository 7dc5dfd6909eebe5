"""Worker processes: each tries one run of a sweep after the other, with a share of the machine.

This file is their program too: it takes runs from its pipe, and sends back what it prints, how far a run is and each
outcome. A worker may end at any moment; only its present run is hurt, and the parent records why.
"""

from __future__ import annotations

import ctypes
import gc
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from lorax_lab import windows
from lorax_lab.console import WorkerBars, say
from lorax_lab.launch.runs import ELSEWHERE, Run, attempt, interrupt_once, is_settled, record_status
from lorax_lab.record.lease import lease
from lorax_lab.record.record import Status
from lorax_lab.record.redact import guard

PROGRAM = ["-m", "lorax_lab.launch.workers"]
LOOK = 0.5
"""Seconds between looks at the time limits."""
PATIENCE = 15.0
"""Seconds that an interrupted worker gets to record that it was."""
REMEMBERED = dict.fromkeys(("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"), "256")
"""How many products oneDNN, and torch in front of it, keep ready; both would keep 1,024. A product in bf16 takes half a
megabyte, and each number of tokens has its own, so that a process would grow from run to run."""
Variables = Mapping[str, str]
"""Of a worker's environment, beside those of this process: which cores or device it may use."""


class Worker:
    """A process that tries runs, one at a time."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.pipe, theirs = Pipe()
        words = [sys.executable, "-X", "faulthandler", *PROGRAM, str(theirs.fileno())]
        with theirs:
            environment = {**REMEMBERED, **os.environ, **variables}
            self.process = subprocess.Popen(words, pass_fds=[theirs.fileno()], env=environment)

    def begin(self, run: Run) -> None:
        """Give it a run; a `BrokenPipeError` where its process has ended."""
        self.run, self.began = run, time.monotonic()
        self.pipe.send(run)

    @property
    def is_late(self) -> bool:
        """Whether its run takes longer than it may."""
        limit = self.run.config.time_limit_seconds
        return limit is not None and time.monotonic() - self.began > limit


class Workers:
    """The workers of a sweep.

    Args:
        shares: the environment of each worker that may be started.
    """

    def __init__(self, shares: list[Variables]) -> None:
        self.shares = list(shares)
        self.idle: list[Worker] = []
        self.busy: dict[Connection, Worker] = {}

    @property
    def runs(self) -> set[str]:
        """Ids of the runs that are tried right now."""
        return {worker.run.run_id for worker in self.busy.values()}

    @property
    def have_room(self) -> bool:
        """Whether one more run can be tried now."""
        return bool(self.idle or self.shares)

    def begin(self, run: Run) -> None:
        """Have a run tried."""
        try:
            worker = self.idle.pop() if self.idle else Worker(self.shares.pop(0))
            worker.begin(run)
            self.busy[worker.pipe] = worker
        except BrokenPipeError:  # it died while it was idle
            self.shares.append(worker.variables)
            self.begin(run)

    def over(self, bars: WorkerBars) -> Iterator[tuple[Run, str]]:
        """The runs that are over by now, each with its outcome; what the others say is shown."""
        for pipe in wait(list(self.busy), LOOK):
            assert isinstance(pipe, Connection)
            worker = self.busy[pipe]
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                yield worker.run, self._died(worker)
                continue
            match message.pop("kind"):
                case "say":
                    text = message["text"]  # a line that belongs to the one above it names its run
                    say(f"{worker.run.title}: {text.strip()}" if text.startswith("  ") else text)
                case "bar":
                    bars.show(worker.run.run_id, worker.run.title, **message)
                case "end":
                    self.idle.append(self.busy.pop(pipe))
                    yield worker.run, message["status"]
        for worker in [worker for worker in self.busy.values() if worker.is_late]:
            worker.process.kill()
            yield worker.run, self._died(worker)

    def _died(self, worker: Worker) -> str:
        """Record why a run has no result whose process has ended, unless another process has the run by now."""
        del self.busy[worker.pipe]
        worker.pipe.close()
        self.shares.append(worker.variables)
        run, (status, reason) = worker.run, cause(worker.process.wait())
        if worker.is_late:
            status, reason = "failed", f"it did not end within time_limit_seconds={run.config.time_limit_seconds:g}"
        with lease(run.folder) as mine:
            if not mine:
                return ELSEWHERE
            if is_settled(run):
                return "completed"
            record_status(run, status, reason)
        say(f"{run.title}: {status}: {reason}")
        return status

    def end(self, patience: float | None) -> None:
        """Wait until every process has ended: in its own time, or within so many seconds of a signal."""
        workers, began = (*self.busy.values(), *self.idle), time.monotonic()
        for worker in workers:
            worker.pipe.close()  # which ends one that is idle
            if patience is not None:
                worker.process.terminate()
        for worker in workers:
            try:
                worker.process.wait(patience and max(began + patience - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


def cause(code: int) -> tuple[Status, str]:
    """(status, reason) of a process that ended without recording one.

    >>> cause(-11), cause(0)
    (('failed', 'its process was ended by SIGSEGV'), ('failed', 'its process ended with status 0 and left no record'))
    """
    if code == -signal.SIGKILL:
        return "killed", "its process was ended by SIGKILL: by a person, or because memory ran out"
    if code < 0:
        return "failed", f"its process was ended by {signal.Signals(-code).name}"
    return "failed", f"its process ended with status {code} and left no record"


# ---- the program


class Parent(io.TextIOBase):
    """The parent, as its worker sees it, and its standard output. Where it is gone, what it is told is lost."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.lock, self.shown, self.unfinished = pipe, threading.Lock(), 0.0, ""

    def report(self, kind: str, **content: Any) -> None:
        """Send one message."""
        with self.lock, suppress(OSError):
            self.pipe.send({"kind": kind} | content)

    def show(self, title: str, done: int, total: int, more: str = "", line: str = "") -> None:
        """Show how far the work is, not more often than can be seen; a `line`, and the end, always."""
        if line or done >= total or time.monotonic() - self.shown >= 0.2:
            self.shown = time.monotonic()
            self.report("bar", title=title, done=done, total=total, more=more, line=line)

    def write(self, text: str) -> int:
        """Send the lines that are finished by now."""
        *lines, self.unfinished = (self.unfinished + text).split("\n")
        for line in lines:
            self.report("say", text=line)
        return len(text)


def main(pipe: Connection) -> int:
    """Train the runs that come through the pipe until it is closed."""
    interrupt_once()
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # Slurm tells every process; the parent ends this one
        signal.signal(number, signal.SIG_IGN)
    sys.stdout = parent = Parent(pipe)
    guard()
    try:
        while True:
            parent.report("end", status=attempt(pipe.recv(), parent.show))
            gc.collect()  # a model and its optimizer are held in cycles, beside the next run's
            with suppress(AttributeError):  # glibc's alone: what it keeps of freed memory goes back to the system
                ctypes.CDLL(None).malloc_trim(0)
    except EOFError:
        windows.close()
        return 0
    except KeyboardInterrupt:
        windows.close(wait=False)
        return 130


if __name__ == "__main__":
    sys.exit(main(Connection(int(sys.argv[1]))))
