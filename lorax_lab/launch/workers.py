"""Worker processes: each tries one run of a sweep after the other, with a share of the machine.

This file is their program too: it takes runs from its pipe, and sends back what it prints, how far a run is and each
outcome. A worker may end at any moment; only its present run is hurt, and the parent records why.
"""

import ctypes
import faulthandler
import gc
import io
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from lorax_lab import windows
from lorax_lab.console import WorkerBars, say
from lorax_lab.errors import LONGEST_TRACE, printable
from lorax_lab.launch.runs import ELSEWHERE, Run, attempt, interrupt_once, is_settled, record_status
from lorax_lab.pulse import PULSE
from lorax_lab.record.lease import lease
from lorax_lab.record.record import RECORD, Status, status_of
from lorax_lab.record.redact import guard

PROGRAM = ["-m", "lorax_lab.launch.workers"]
LOOK = 0.5
"""Seconds between looks at the time limits."""
STACKS = 5.0
"""Seconds that a process gets to write the stacks of its threads."""
PATIENCE = 15.0
"""Seconds that an interrupted worker gets to record that it was."""
REMEMBERED = dict.fromkeys(("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"), "256")
"""How many products oneDNN, and torch in front of it, keep ready; both would keep 1,024. A product in bf16 takes half a
megabyte, and each number of tokens has its own, so that a process would grow from run to run."""
_LIBC, _VERSION = platform.libc_ver()
_KEEPS = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**33)}
MALLOC = _KEEPS if _LIBC == "glibc" and [*map(int, _VERSION.split("."))] >= [2, 41] else {}
"""What a step frees stays with the process until the run is over. Else each step gets the pages of its gradients anew,
which took up to a third of the time of full fine-tuning. An older glibc may take the second threshold alone."""
Variables = Mapping[str, str]
"""Of a worker's environment, beside those of this process: which cores or device it may use."""


class Worker:
    """A process that tries runs, one at a time."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.pipe, theirs = Pipe()
        self.stacks = tempfile.TemporaryFile()  # noqa: SIM115
        handles = [theirs.fileno(), self.stacks.fileno()]
        words = [sys.executable, *PROGRAM, *map(str, handles)]
        with theirs:
            environment = {**REMEMBERED, **MALLOC, **os.environ, **variables}
            self.process = subprocess.Popen(words, pass_fds=handles, env=environment)

    def begin(self, run: Run) -> None:
        """Give it a run; a `BrokenPipeError` where its process has ended."""
        self.run, self.began = run, time.monotonic()
        self.hear(None)
        self.pipe.send(run)

    def hear(self, allowed: float | None) -> None:
        """It is alive, and may be silent for so many seconds from now on; None for as long as it takes."""
        self.allowed, self.silent = allowed, 0.0

    @property
    def overdue(self) -> tuple[Status, str] | None:
        """The status and the reason of a run that takes longer than it may."""
        limit = self.run.config.time_limit_seconds
        if limit is not None and time.monotonic() - self.began > limit:
            return "failed", f"it did not end within time_limit_seconds={limit:g}"
        if self.allowed is not None and self.silent > self.allowed:
            return "hung", f"a step or a batch did not end within {self.allowed:.0f} s"
        return None

    def abort(self) -> str:
        """End it; returns the stacks of its threads, as far as it could write them."""
        self.process.send_signal(signal.SIGABRT)
        with suppress(subprocess.TimeoutExpired):  # one that is stopped acts on no signal
            self.process.wait(STACKS)
        self.process.kill()
        self.process.wait()
        return self.last_words()

    def last_words(self) -> str:
        """What it wrote of its stacks when a signal ended it."""
        self.stacks.seek(0)
        return printable(self.stacks.read().decode(errors="replace"), LONGEST_TRACE)

    def close(self) -> None:
        """Close what is open to its process, which ends one that is idle."""
        self.pipe.close()
        self.stacks.close()


class Workers:
    """The workers of a sweep; `shares` are the environments of those that may be started."""

    def __init__(self, shares: list[Variables]) -> None:
        self.shares = list(shares)
        self.idle: list[Worker] = []
        self.busy: dict[Connection, Worker] = {}
        self.looked = time.monotonic()

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
            worker.close()
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
                yield worker.run, self._died(worker, *cause(worker.process.wait()), worker.last_words())
                continue
            match message.pop("kind"):
                case "pulse":
                    worker.hear(message["allowed"])
                case "say":
                    text = message["text"]  # a line that belongs to the one above it names its run
                    say(f"{worker.run.title}: {text.strip()}" if text.startswith("  ") else text)
                case "bar":
                    bars.show(worker.run.run_id, worker.run.title, **message)
                case "end":
                    self.idle.append(self.busy.pop(pipe))
                    yield worker.run, message["status"]
        # a sweep that was stopped, as by Ctrl-Z, has not looked, and its runs were not silent
        passed, self.looked = min(time.monotonic() - self.looked, 2 * LOOK), time.monotonic()
        for worker in list(self.busy.values()):
            worker.silent += passed
            if overdue := worker.overdue:
                yield worker.run, self._died(worker, *overdue, worker.abort())

    def _died(self, worker: Worker, status: Status, reason: str, stacks: str) -> str:
        """Record why a run has no result whose process has ended, unless another process has the run by now."""
        del self.busy[worker.pipe]
        worker.close()
        self.shares.append(worker.variables)
        run = worker.run
        try:
            with lease(run.folder) as mine:
                if not mine:
                    return ELSEWHERE
                if is_settled(run):
                    return "completed"
                record_status(run, status, reason, stacks or None)
        except OSError as error:  # such as a full disk: the other runs may still end
            say(f"{run.title}: {status}: {reason}; {run.runs_dir} cannot be written: {error}")
            return status
        say(f"{run.title}: {status}: {reason}" + (f"; the stacks are in {run.folder / RECORD}" if stacks else ""))
        return status

    def end(self, number: signal.Signals | None = None) -> None:
        """Wait until every process has ended: in its own time, or after a signal, which leaves it `PATIENCE`."""
        if number is None:
            self._dismiss()
        workers, began = (*self.busy.values(), *self.idle), time.monotonic()
        for worker in workers:
            if number is not None:
                worker.process.send_signal(number)
            worker.pipe.close()  # which ends one that is idle
        for worker in workers:
            try:
                worker.process.wait(number and max(began + PATIENCE - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        for worker in list(self.busy.values()):
            if number is not None and status_of(worker.run.folder) == "running":  # it could not say so itself
                self._died(worker, "killed", f"interrupted by {number.name}", worker.last_words())
        for worker in workers:
            worker.close()

    def _dismiss(self) -> None:
        """Tell those that are idle to end, and print what they still say, as that W&B lacks a run."""
        open_pipes = [worker.pipe for worker in self.idle]
        for pipe in open_pipes:
            with suppress(OSError):
                pipe.send(None)
        while open_pipes:
            for ready in wait(open_pipes):
                pipe = next(pipe for pipe in open_pipes if pipe is ready)
                try:
                    if (message := pipe.recv())["kind"] == "say":
                        say(message["text"])
                except (EOFError, OSError):
                    open_pipes.remove(pipe)


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


def main(pipe: Connection, stacks: int) -> int:
    """Train the runs that come through the pipe until None does, or until it is closed. A deadly signal leaves the
    stacks of all threads in the file with that handle."""
    faulthandler.enable(stacks)
    interrupt_once()
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # Slurm tells every process; the parent ends this one
        signal.signal(number, signal.SIG_IGN)
    sys.stdout = parent = Parent(pipe)
    guard()
    PULSE.listener = lambda allowed: parent.report("pulse", allowed=allowed)
    try:
        while (run := pipe.recv()) is not None:
            PULSE.begin()
            parent.report("end", status=attempt(run, parent.show))
            gc.collect()  # a model and its optimizer are held in cycles, beside the next run's
            with suppress(AttributeError):  # glibc's alone: what it keeps of freed memory goes back to the system
                ctypes.CDLL(None).malloc_trim(0)
        windows.close()
    except EOFError:
        windows.close()
    except KeyboardInterrupt:
        windows.close(wait=False)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(Connection(int(sys.argv[1])), int(sys.argv[2])))
