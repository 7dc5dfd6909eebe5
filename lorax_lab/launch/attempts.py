"""One attempt at a run: lease it, train it unless it is recorded, and record how it ended."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass

from lorax_lab.errors import ConfigError, Diverged, is_out_of_memory
from lorax_lab.launch import leases
from lorax_lab.launch.plan import Run
from lorax_lab.launch.references import why_unusable
from lorax_lab.store import record
from lorax_lab.store.provenance import new_record
from lorax_lab.store.record import Status

ELSEWHERE, RECORDED = "elsewhere", "recorded"
"""Returned by `attempt` besides a status: another launcher has the lease on the run; the run was completed before."""
POLL = 1.0
"""Seconds between looks at a run that another launcher trains."""


@dataclass(frozen=True)
class Attempt:
    """How a run is tried.

    Args:
        title: printed when it begins.
        group: the name under which W&B shows the sweep.
        launch: identifies the sweep that tries the run, so that runs which died in it differ from those of other
            sweeps.
        wait: whether to wait for another launcher that has the lease, until the run is completed or the lease is free.
    """

    title: str
    group: str
    launch: str
    wait: bool = False


def attempt(run: Run, how: Attempt) -> str:
    """Train one run unless it is recorded; returns its status, `RECORDED` or `ELSEWHERE`.

    A completed record that `force` repeats stays until the new one is complete.
    """
    try:
        lease = _lease(run, how.wait)
    except (OSError, TimeoutError) as error:
        _say(f"  failed: {run.runs_dir} cannot be written: {error}")
        return "failed"
    if isinstance(lease, str):
        return lease
    with lease:
        try:
            return _train(run, how, lease)
        except leases.LeaseLost as lost:
            _say(f"  {lost}")
            return ELSEWHERE


def _lease(run: Run, wait: bool) -> leases.Lease | str:
    is_waiting = False
    while True:
        if record.status_of(run.folder) == "completed" and not run.config.force:
            return RECORDED
        lease = leases.acquire(run.runs_dir, run.run_id)
        if isinstance(lease, leases.Lease):
            return lease
        if not wait:
            return ELSEWHERE
        if not is_waiting:
            _say(f"  waiting for {run.run_id}, which {lease} trains")
            is_waiting = True
        time.sleep(POLL)


def _train(run: Run, how: Attempt, lease: leases.Lease) -> str:
    from lorax_lab.execute import execute

    before = record.status_of(run.folder)
    if before == "completed" and not run.config.force:
        return RECORDED
    _say(how.title, style="bold")
    if before == "damaged":
        _say(f"  the record is damaged; the folder is now {record.quarantine(run.folder)}")
    keep = before == "completed"
    reference = run.runs_dir / run.reference if run.reference else None
    if reference is not None and (reason := why_unusable(reference)):
        _say(f"  {reason}: no comparison with it")
        reference = None
    try:
        record_status(run, "running", keep=keep, launch=how.launch)
        execute(run.config, run.run_id, reference, how.group, lease.check, run.data_sha256)
    except leases.LeaseLost:
        raise
    except KeyboardInterrupt:
        lease.check()
        record_status(run, "killed", "interrupted", keep=keep)
        raise
    except (Exception, SystemExit) as error:
        lease.check()
        status, reason = _status_of(error), _reason(error)
        try:
            record_status(run, status, reason, "".join(traceback.format_exception(error)), keep)
        except OSError as unwritten:
            _say(f"  this could not be recorded: {unwritten}")
        known = isinstance(error, ConfigError | Diverged)
        _say(f"  {status}: {reason}" + ("" if known else f"; the traceback is in {run.folder / record.RECORD}"))
        return status
    return "completed"


def _status_of(error: BaseException) -> Status:
    if isinstance(error, Diverged):
        return "diverged"
    return "oom" if is_out_of_memory(error) else "failed"


def _reason(error: BaseException) -> str:
    if isinstance(error, ConfigError | Diverged):
        return str(error)
    if isinstance(error, SystemExit):
        return f"sys.exit({error.code!r}) was called"
    notes = getattr(error, "__notes__", [])
    return " ".join([f"{type(error).__name__}: {' '.join(str(error).split())}", *notes])


def record_status(
    run: Run,
    status: Status,
    reason: str | None = None,
    error: str | None = None,
    keep: bool = False,
    launch: str | None = None,
) -> None:
    """Record that a run has no result, and why. If a completed record is to stay, nothing is written."""
    if not keep:
        record.write_record(
            run.folder, new_record(run.config, run.run_id, status, reason=reason, error=error, launch=launch)
        )


def _say(text: str, style: str | None = None) -> None:
    from lorax_lab.console import console

    console.print(text, style=style, soft_wrap=True, markup=False)
