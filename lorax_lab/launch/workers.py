"""Several runs of a sweep side by side: processes that each train one run after the other, with a share of the cores.

A worker is the program of `isolation.py`. It gets runs as lines on its standard input, and answers through a pipe: what
it prints, how far it is, and how each run ended. Its process may end at any moment; only its present run is hurt. A run
that starts before its reference is there is compared with it afterwards.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

from lorax_lab.console import WorkerBars, console
from lorax_lab.launch.attempts import Attempt
from lorax_lab.launch.isolation import PATIENCE, cause, command, line_of, oom_kills, record_end, too_long
from lorax_lab.launch.plan import Run

LOOK = 0.5
"""Seconds between looks at the time limits."""
Variables = Mapping[str, str]
"""Of a worker's environment, beside those of this process: which cores or device it may use."""


class Worker:
    """A process that makes attempts, one at a time."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.pipe, theirs = Pipe(duplex=False)
        words = [*command(), "--tell", str(theirs.fileno()), *(["--bars"] if console.shows_bars else [])]
        try:
            self.process = subprocess.Popen(
                words, stdin=subprocess.PIPE, text=True, pass_fds=[theirs.fileno()], env=os.environ | variables
            )
        finally:
            theirs.close()

    def begin(self, run: Run, how: Attempt) -> None:
        """Give it a run. Where its process has ended, its pipe says so later."""
        self.run, self.how, self.began, self.kills = run, how, time.monotonic(), oom_kills()
        sent = replace(run, reference=None) if how.later else run
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(line_of(sent, how))
            self.process.stdin.flush()

    @property
    def is_late(self) -> bool:
        """Whether its run takes longer than it may."""
        limit = self.run.config.time_limit_seconds
        return limit is not None and time.monotonic() - self.began > limit

    def close(self) -> None:
        """Let it end once it has nothing to do; nothing that it says is heard any more."""
        assert self.process.stdin is not None
        self.pipe.close()
        with suppress(BrokenPipeError):
            self.process.stdin.close()


class Workers:
    """Workers that train the runs of a sweep.

    Args:
        shares: the environment of each worker, by number.
        how: from a run to how it is tried.
        tried: called with each run and the status of its attempt.
    """

    def __init__(
        self, shares: list[Variables], how: Callable[[Run], Attempt], tried: Callable[[Run, str], None]
    ) -> None:
        self.shares, self.how, self.tried = list(shares), how, tried
        self.idle: list[Worker] = []
        self.ending: list[Worker] = []
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
                    self._begin(worker, waiting.pop(0), waiting)
                if not self.busy:
                    return
                for worker, status in self._over(bars):
                    bars.end(worker.run.run_id)
                    self.tried(worker.run, status)
                    early += [worker.run] if worker.how.later and status == "completed" else []
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
            worker.close()
            self.shares.append(worker.variables)
        if not self.shares:
            return None
        try:
            return Worker(self.shares.pop(0))
        except OSError as error:
            console.print(f"a worker could not be started: {error}", soft_wrap=True, markup=False)
            self.shares.clear()
            return None

    def _begin(self, worker: Worker, run: Run, waiting: list[Run]) -> None:
        how = replace(self.how(run), later=self._is_open(run.reference, waiting))
        self.busy[worker.pipe] = worker
        worker.begin(run, how)

    def _over(self, bars: WorkerBars) -> Iterator[tuple[Worker, str]]:
        """The workers whose run is over by now, each with its status; what the others say is shown."""
        for pipe in wait(list(self.busy), LOOK):
            assert isinstance(pipe, Connection)
            worker = self.busy[pipe]
            try:
                message = json.loads(pipe.recv_bytes())
            except (EOFError, OSError):
                yield worker, self._died(worker)
                continue
            if "say" in message:
                console.print(message["say"], style=message["style"], soft_wrap=True, markup=False)
            elif "bar" in message:
                bars.show(worker.run.run_id, worker.run.title, message)
            else:
                self._rest(worker)
                yield worker, message["status"]
        for worker in [worker for worker in self.busy.values() if worker.is_late]:
            worker.process.kill()
            yield worker, self._died(worker, late=True)

    def _rest(self, worker: Worker) -> None:
        """A worker has nothing to do; one that has to be a new process for each run ends."""
        del self.busy[worker.pipe]
        if worker.run.config.isolate:
            worker.close()
            self.ending.append(worker)
            self.shares.append(worker.variables)
        else:
            self.idle.append(worker)

    def _died(self, worker: Worker, late: bool = False) -> str:
        """Record why a run has no result, whose process has ended."""
        del self.busy[worker.pipe]
        worker.close()
        self.shares.append(worker.variables)
        code = worker.process.wait()
        end = too_long(worker.run) if late else cause(code, oom_kills() > worker.kills)
        return record_end(worker.run, worker.how, *end)

    @contextmanager
    def _ended(self) -> Iterator[None]:
        """Every process has ended after the block: in its own time, or at once where the block raised."""
        try:
            yield
            for worker in self.idle:
                worker.close()
            for worker in (*self.idle, *self.ending):
                worker.process.wait()
        except BaseException:
            workers = [*self.busy.values(), *self.idle, *self.ending]
            for worker in workers:
                worker.process.terminate()
            deadline = time.monotonic() + PATIENCE
            for worker in workers:
                with suppress(subprocess.TimeoutExpired):
                    worker.process.wait(max(deadline - time.monotonic(), 0))
                worker.process.kill()
                worker.process.wait()
                worker.close()
            raise
