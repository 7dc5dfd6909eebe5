"""What a sweep does from its grid to its table: check every run, train those that are missing, print how each ended."""

from __future__ import annotations

import hashlib
import os
import signal
import tempfile
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from joblib import effective_n_jobs  # scikit-learn has it

from lorax_lab import distributed, windows
from lorax_lab.comparison import lacks_comparison, why_unusable
from lorax_lab.config import AUTO, RunConfig
from lorax_lab.config.identity import plain
from lorax_lab.console import WorkerBars, console, say
from lorax_lab.data.assets import NotFetched, offline
from lorax_lab.errors import ConfigError, in_one_line
from lorax_lab.launch.compose import as_overrides
from lorax_lab.launch.fastest import precision_of
from lorax_lab.launch.outlook import dry_run_lines, not_measured_lines
from lorax_lab.launch.plan import check, check_together, each_once, run_of, with_reference
from lorax_lab.launch.room import Sizes, shares, shares_in_words
from lorax_lab.launch.runs import (
    COMPARED,
    ELSEWHERE,
    INTERRUPTED,
    NO_REFERENCE,
    RECORDED,
    Run,
    attempt,
    clear_checkpoints,
    follow,
    interrupt_once,
    interrupted,
    is_done,
    is_recorded_since,
    is_settled,
    record_status,
    signal_of,
)
from lorax_lab.launch.table import Row, table
from lorax_lab.launch.workers import Variables, Workers
from lorax_lab.record.lease import is_leased, lease
from lorax_lab.record.record import Record, read_record, status_of

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher

HERE = ("JoblibLauncher", "LocalLauncher")
"""Launchers of Hydra's, by class, whose jobs run on this machine."""


def carry_out(configs: list[RunConfig], launcher: Launcher | None, dry_run: bool) -> int:
    """Check every run, train those that are missing, and print the closing table; or say what would be done. Without a
    launcher of Hydra's, which would start the jobs, worker processes of our own train. Returns the exit code: 0 all
    completed, 1 some not, 130 interrupted."""
    if (count := distributed.launched()) > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        left_over = "unset it where no launcher started this one"
        say(f"WORLD_SIZE={count} is set: waiting for the other processes for two minutes at most; {left_over}")
    distributed.join(configs[0].train.device)
    if not distributed.is_first():
        return follow()
    with distributed.leading():
        return _carry_out(configs, launcher, dry_run)


def _carry_out(configs: list[RunConfig], launcher: Launcher | None, dry_run: bool) -> int:
    with offline() if dry_run else nullcontext():
        sweep = Sweep(each_once([with_reference(run_of(config)) for config in configs]))
        if distributed.processes() > 1:
            check_together(sweep.waiting, launcher is not None)
        workers, unmeasured, sizes = _outlook(sweep)
    if not dry_run:
        for run in sweep.runs:
            clear_checkpoints(run.folder)
        if sweep.waiting:
            _make_store(sweep.waiting[0])
    lacking = f", {len(sweep.uncompared)} of them not compared with the reference" if sweep.uncompared else ""
    say(f"{sum(map(is_settled, sweep.runs))} of {len(sweep.runs)} already recorded in {sweep.runs_dir}{lacking}")
    if configs[0].train.precision == AUTO:
        say(f"note: train.precision=auto is train.precision={precision_of(configs[0].train)} here")
    for epochs in {run.config.train.epochs for run in sweep.runs} - {config.train.epochs for config in configs}:
        least = f"train.epochs={epochs}, which makes about {configs[0].task.least_steps} steps of a small table"
        say(f"note: task={configs[0].task.name}: {least}; to train less, type train.epochs={configs[0].train.epochs}")
    for line in [*shares_in_words([] if launcher else workers), *unmeasured]:
        say(line)
    if dry_run:
        width = _width(launcher, len(sweep.waiting)) if launcher else max(len(workers), 1)
        for line in dry_run_lines(sweep.runs, sizes, width, bool(launcher) and not _is_here(launcher)):
            say(line)
        return 0
    if launcher:
        _start_jobs(sweep, launcher)
    train = sweep.train_together if distributed.processes() > 1 else partial(sweep.train, workers)
    interrupted = bool(sweep.left) and train()
    complete = sweep.close()
    if interrupted:
        say("interrupted; the same command goes on with what is missing")
        return 130
    return 0 if complete else 1


def _start_jobs(sweep: Sweep, launcher: Launcher) -> None:
    """Have a launcher of Hydra's try every run without a result: each is a job of its own, references first, and none
    waits for another. What is left to this process are comparisons and, where a launcher of this machine ended early,
    as with a worker that the system killed, the rest.

    Raises:
        ConfigError: the launcher ended before it had started a run.
    """
    runs = [run for run in sweep.left.values() if not is_settled(run)]
    if not runs:
        return
    failure, trains_here = "", _is_here(launcher)
    try:
        # with all that is settled here, such as what `auto` stands for: another machine might choose otherwise
        launcher.launch([as_overrides(plain(run.config)) for run in runs], initial_job_idx=0)
    except Exception as error:
        failure = in_one_line(error)
    if failure and not any(map(is_recorded_since, runs)):
        instead = "leave hydra/launcher out to train on this machine"
        raise ConfigError(f"hydra/launcher: {type(launcher).__name__} started no job ({failure}); {instead}")
    sweep.look_again()
    if failure:
        rest = "the rest is trained here" if trains_here else "the same command goes on with what is missing"
        say(f"the launcher ended early ({failure}); {rest}")
    if not (failure and trains_here):
        sweep.left = {run_id: run for run_id, run in sweep.left.items() if is_settled(run)}


def _is_here(launcher: Launcher | None) -> bool:
    """Whether the launcher's jobs run on this machine."""
    return type(launcher).__name__ in HERE


def _width(launcher: Launcher, jobs: int) -> int:
    """How many jobs a launcher of Hydra's runs at once, by its settings: joblib's or submitit's."""
    if "n_jobs" in (settings := getattr(launcher, "joblib", {})):
        return effective_n_jobs(settings["n_jobs"])
    return getattr(launcher, "params", {}).get("array_parallelism", jobs)


def _outlook(sweep: Sweep) -> tuple[list[Variables], list[str], Sizes]:
    """The environment of each worker, what is not measured, and what is read, after a check of every run. A dry run
    does not fetch a model that is not here, and so knows less."""
    try:
        sizes = check(sweep.waiting)
        workers = shares(sweep.waiting, len(sweep.runs), sizes) if distributed.processes() == 1 else []
        return workers, not_measured_lines(sweep.waiting), sizes
    except NotFetched as missing:
        say(f"note: {missing}; the sweep fetches it, and checks it then")
        return [{}], [], {}


def _make_store(run: Run) -> None:
    """Make the folder of the records, and try whether a file is written and locked there, before hours are spent."""
    try:
        run.runs_dir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=run.runs_dir).close()
        with lease(run.folder):
            pass
    except OSError as error:
        unwritten = f"runs_dir={run.runs_dir} cannot be written ({error.strerror})"
        raise ConfigError(f"{unwritten}; name another folder, as in runs_dir=runs") from None


class Sweep:
    """The planned runs and what became of them.

    Attributes:
        waiting: runs that were not recorded when the sweep began, were not compared with their reference, or are to be
            repeated.
        left: those of them that are not over yet, references first.
        uncompared: ids of runs that have their result and still have to be compared with their reference.
        failed: how the attempts of this sweep ended that gave no result, by run id.
        places: `[2/4] lora r=4 seed=0` by run id.
    """

    def __init__(self, runs: list[Run]) -> None:
        digest = hashlib.sha256("".join(run.run_id for run in runs).encode()).hexdigest()
        self.runs = [replace(run, group=f"sweep-{digest[:8]}", since=time.time()) for run in runs]
        self.runs_dir = runs[0].runs_dir
        self.places = {run.run_id: f"[{n}/{len(runs)}] {run.title}" for n, run in enumerate(runs, 1)}
        self.failed: dict[str, str] = {}
        self.look_again()

    def look_again(self) -> None:
        """Find out which runs are recorded by now."""
        self.waiting = [run for run in self.runs if not is_done(run)]
        references = {run.reference for run in self.runs}
        self.left = {run.run_id: run for run in sorted(self.waiting, key=lambda run: run.run_id not in references)}
        self.uncompared = {run.run_id for run in self.waiting if is_settled(run)}

    def train(self, shares: list[Variables], goal: Run | None = None) -> bool:
        """Give the runs to workers, and wait for those that another launcher trains: for all, or until the `goal` has
        its result. A run that begins before its reference is there is compared with it afterwards. Returns whether the
        sweep was interrupted."""
        interrupt_once()
        workers = Workers(shares)
        ended_by: signal.Signals | None = signal.SIGTERM
        waited_for = set[str]()
        try:
            with WorkerBars(len(self.left)) as bars:
                while self.left:
                    run = self._next(workers.runs) if workers.have_room else None
                    if run:
                        if run.run_id not in self.uncompared:
                            say(f"{self.places[run.run_id]}  {run.run_id}", style="bold")
                        workers.begin(replace(run, reference=None) if run.reference in self.left else run)
                    elif workers.busy:
                        for run, status in workers.over(bars):
                            bars.end(run.run_id)
                            self._tried(run, status)
                    elif goal and is_settled(goal):
                        break
                    else:
                        for run_id in self.left.keys() - waited_for:
                            say(f"  waiting for {run_id}, which another launcher trains")
                        waited_for |= self.left.keys()
                        time.sleep(1.0)
            ended_by = None  # each ends in its own time
        except KeyboardInterrupt as interrupt:
            ended_by = signal_of(interrupt)
            return True
        finally:
            with suppress(KeyboardInterrupt):  # what is left are windows, for which Ctrl-C does not wait
                workers.end(ended_by)
        return False

    def train_together(self) -> bool:
        """Try the one run in this process, the first of those that a launcher started; as `train`."""
        interrupt_once()
        (run,) = self.waiting
        try:
            with WorkerBars(1) as bars:
                status = attempt(run, partial(bars.show, run.run_id, run.title))
            windows.close()
        except KeyboardInterrupt as interrupt:
            if status_of(run.folder) == "running":  # the signal came while why was found out
                record_status(run, "killed", distributed.cause() or interrupted(interrupt))
            return True
        self._tried(run, status)
        return False

    def _next(self, busy: set[str]) -> Run | None:
        """The next run to try; None where all that are left are tried right now, or wait for a run or a launcher."""
        for run in [run for run_id, run in self.left.items() if run_id not in busy]:
            if is_leased(run.folder) or (run.run_id in self.uncompared and run.reference in self.left):
                continue
            if not self._is_over(run):  # asked last: it reads records
                return run
            del self.left[run.run_id]
        return None

    def _is_over(self, run: Run) -> bool:
        """Whether a run has all that it can have, or has failed in another launcher since the sweep began. One that was
        killed there, as by Ctrl-C, goes on here."""
        if run.run_id in self.uncompared and run.reference in self.failed:
            return True
        status = status_of(run.folder)
        has_failed = status not in (None, "damaged", "completed", "running")
        if status == "killed":  # but for one that memory may have killed
            has_failed = not (read_record(run.folder).reason or "").startswith(INTERRUPTED)
        return is_done(run) or (has_failed and is_recorded_since(run))

    def _tried(self, run: Run, status: str) -> None:
        """Count an attempt, and print how it ended."""
        run = self.left[run.run_id]
        lacks = lacks_comparison(run.folder, run.reference)
        if status == "completed" and run.run_id in self.uncompared and lacks:
            status = NO_REFERENCE  # its process died while it compared
        if status in ("completed", RECORDED) and run.reference not in self.failed and lacks:
            self.uncompared.add(run.run_id)
        elif status != ELSEWHERE:
            del self.left[run.run_id]
        if status not in ("completed", RECORDED, COMPARED, ELSEWHERE):
            self.failed[run.run_id] = status
        if status not in (ELSEWHERE, RECORDED):
            say(f"{self.places[run.run_id]} {self._result(run, status)}")

    def _result(self, run: Run, status: str) -> str:
        """`accuracy .81 42 s · 1 failed`."""
        parts = [f"compared with {run.reference}" if status == COMPARED else status]
        if status == "completed":
            record = read_record(run.folder)
            result, split = record.completed, "validation " if record.is_trial else ""
            parts = [f"{split}{result.metric} {result.score(record.split):.3f} {result.time.total_seconds:.0f} s"]
            parts += ["collapsed"] if result.collapsed else []
        failed = sum(status != NO_REFERENCE for status in self.failed.values())
        parts += [f"{failed} failed"] if failed else []
        return " · ".join(parts)

    def _outcome(self, run: Run) -> tuple[Record | None, str]:
        """A run's record, where it has a result, and its status in words."""
        status = status_of(run.folder)
        if status in (None, "damaged", "running") and run.run_id in self.failed:
            return None, f"{self.failed[run.run_id]}: its record could not be written"
        if status in (None, "damaged"):
            return None, status or "not run"
        record = read_record(run.folder)
        if record.result is None:
            return None, f"{record.status}: {in_one_line(record.reason)}" if record.reason else record.status
        if lacks_comparison(run.folder, run.reference):
            assert run.reference is not None
            reason = why_unusable(run.runs_dir / run.reference) or "it is not compared with its reference yet"
            cure = "the same command tries again, and reference=false does without the comparison"
            return record, f"{NO_REFERENCE}: {reason}; {cure}"
        return record, record.status

    def close(self) -> bool:
        """Print the closing table; returns whether every run is completed."""
        rows = [Row(run.config, *self._outcome(run)) for run in self.runs]
        console.print(table(rows, self.runs_dir))
        return all(row.status == "completed" for row in rows)
