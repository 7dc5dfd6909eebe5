"""From the command line to recorded runs: train what is missing of the whole grid, close with a table."""

from __future__ import annotations

import dataclasses
import hashlib
import signal
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lorax_lab.config.overrides import CONF
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.launch import leases
from lorax_lab.launch.attempts import ELSEWHERE, POLL, RECORDED, Attempt, attempt, record_status
from lorax_lab.launch.compose import from_dict, spell_out
from lorax_lab.launch.isolation import attempt_apart
from lorax_lab.launch.plan import Run, plan, with_reference
from lorax_lab.store import record

SWEEP_FLAGS = ("-m", "--multirun")
ASKING_FLAGS = (
    "--help",
    "-h",
    "--hydra-help",
    "--version",
    "--cfg",
    "-c",
    "--info",
    "-i",
    "--package",
    "-p",
    "--resolve",
)


def launch() -> int:
    """Run the command line in `sys.argv`; returns the exit code: 0 all completed, 1 some not, 2 a setting that
    cannot be, 130 interrupted."""
    from lorax_lab.console import console

    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    flags = [word for word in sys.argv[1:] if word.startswith("-")]
    try:
        for flag in flags:
            if flag.partition("=")[0] not in SWEEP_FLAGS + ASKING_FLAGS:
                raise ConfigError(f"{flag} is not possible; {suggest(flag, SWEEP_FLAGS + ASKING_FLAGS)}")
        if any(flag not in SWEEP_FLAGS for flag in flags):
            return _hydra(lambda _: None, sys.argv[1:])
        sweep = Sweep(plan(words, bool(flags)))
        recorded, count = len(sweep.recorded), len(sweep.runs)
        console.print(f"{recorded} of {count} already recorded in {sweep.runs[0].config.runs_dir}")
        _check_data(sweep.waiting)
        interrupted = bool(sweep.waiting) and sweep.train(spell_out(words) + flags)
    except ConfigError as error:
        console.print(f"[red]error:[/red] {_literal(error)}", soft_wrap=True)
        return 2
    complete = sweep.close()
    if interrupted:
        console.print("interrupted; the same command goes on with what is missing")
        return 130
    return 0 if complete else 1


def _check_data(runs: list[Run]) -> None:
    """Read each data set once, as each model reads it, so that one that cannot be used stops the sweep before it
    starts."""
    from lorax_lab.models import load_processor
    from lorax_lab.tasks import load_task
    from lorax_lab.tasks.split import encode

    pairs = {(run.config.model, repr(run.config.task)): run.config.task for run in runs}
    for (model, _), settings in pairs.items():
        task = load_task(settings)
        encode(task, load_processor(model, task.kind.processor_class))


class Sweep:
    """A planned grid on its way; a launcher of Hydra's may carry it into other processes."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs, self.began, self.launch = runs, time.time(), uuid.uuid4().hex
        self.group = "sweep-" + hashlib.sha256("".join(run.run_id for run in runs).encode()).hexdigest()[:8]
        self.recorded = [run.run_id for run in runs if _is_recorded(run)]
        self.done: set[str] = set()
        self.seconds: dict[str, list[float]] = {}

    @property
    def waiting(self) -> list[Run]:
        """Runs that were not recorded when the sweep began, or are to be repeated."""
        return [run for run in self.runs if run.run_id not in self.recorded]

    def train(self, arguments: list[str]) -> bool:
        """Hand the grid to Hydra's launcher, then finish what it, or another sweep, left; returns whether it was
        interrupted."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            _hydra(self.job, arguments)
            self.finish()
        except KeyboardInterrupt:
            return True
        return False

    def job(self, cfg: Any) -> None:
        """One job of Hydra's: its run, and before it the reference where it needs one."""
        from hydra.core.hydra_config import HydraConfig

        words = list(HydraConfig.get().overrides.task)
        *before, run = with_reference(words, from_dict(cfg))
        for item in (*before, run):
            self.one(item, wait=item is not run)

    def one(self, run: Run, wait: bool = False) -> str:
        """Try a run that was not tried here yet, saying so before and after."""
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
        """Train what other launchers had leased and did not complete, and what a process of a parallel launcher left
        when it died; a run that died there is not tried again here, since it may take this process too."""
        while left := [run for run in self.runs if run.run_id not in self.done and not self._is_settled(run)]:
            open_ids = {run.run_id for run in left}
            tried = [self.one(run) for run in left if run.reference not in open_ids]
            if all(status == ELSEWHERE for status in tried):
                time.sleep(POLL)

    def _is_settled(self, run: Run) -> bool:
        status = record.status_of(run.folder)
        if status in (None, "damaged"):
            return False
        content = record.read_record(run.folder)
        here = _seconds(content["written"]) >= int(self.began)
        mine = content.get("launch") == self.launch
        if status == "running" and mine and leases.holder(run.runs_dir, run.run_id) is None:
            record_status(run, "failed", "its process ended without a word; type isolate=true to see how")
            return True
        return status == "completed" or (here and status != "running")

    def _result(self, run: Run, status: str) -> str:
        """`accuracy .81 42 s · 2 already recorded · 1 failed · 6 min left`."""
        parts = [status]
        if status == "completed":
            content = record.read_record(run.folder)
            split, seconds = "validation " if run.config.measure == "trial" else "", content["time"]["total_seconds"]
            score = content["metrics"][f"{split.strip() or 'test'}/{content['metric']}"]
            parts = [f"{split}{content['metric']} {score:.3f} {seconds:.0f} s"]
            self.seconds.setdefault(run.config.method.name, []).append(seconds)
        parts += [f"{len(self.recorded)} already recorded"] if self.recorded else []
        statuses = {other.run_id: record.status_of(other.folder) for other in self.waiting}
        failed = sum(found in ("failed", "oom", "diverged", "killed") for found in statuses.values())
        parts += [f"{failed} failed"] if failed else []
        left = [other for other in self.waiting if statuses[other.run_id] in (None, "running")]
        return " · ".join([*parts, *([f"{_minutes(self._time_left(left))} left"] if left and self.seconds else [])])

    def _time_left(self, left: list[Run]) -> float:
        """Seconds, by the mean of the runs trained here of the same method, or of all."""
        known = [seconds for times in self.seconds.values() for seconds in times]
        times = [self.seconds.get(run.config.method.name, known) for run in left]
        return sum(sum(group) / len(group) for group in times)

    def close(self) -> bool:
        """The closing table; returns whether every run is completed."""
        from lorax_lab.console import console
        from lorax_lab.launch.table import table

        rows = []
        for run in self.runs:
            status = record.status_of(run.folder) or "not run"
            config = run.config
            content: dict[str, Any] = {"config": dataclasses.asdict(config), "rank": config.rank, "seed": config.seed}
            content["method"] = config.method.name
            if status not in ("not run", "damaged"):
                content = record.read_record(run.folder)
            rows.append((content, f"{status}: {content['reason']}" if content.get("reason") else status))
        console.print(table(rows, Path(self.runs[0].config.runs_dir)))
        return all(status == "completed" for _, status in rows)


def _is_recorded(run: Run) -> bool:
    return not run.config.force and record.status_of(run.folder) == "completed"


def _seconds(written: str) -> float:
    import calendar

    return calendar.timegm(time.strptime(written, "%Y-%m-%dT%H:%M:%SZ"))


def _minutes(seconds: float) -> str:
    """
    >>> _minutes(42.4), _minutes(372)
    ('42 s', '6 min')
    """
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _hydra(job: Callable[[Any], None], arguments: list[str]) -> int:
    import hydra

    def task(cfg: Any) -> None:
        job(cfg)

    sys.argv[1:] = arguments
    hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(task)()
    return 0


def _literal(text: object) -> str:
    from rich.markup import escape

    return escape(str(text))
