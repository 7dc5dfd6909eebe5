"""One attempt at a run: lease it, train it unless it is recorded, and record how it ended."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lorax_lab import windows
from lorax_lab.errors import ConfigError, Diverged, is_out_of_memory
from lorax_lab.launch import leases
from lorax_lab.launch.kernel import kernel_of
from lorax_lab.launch.plan import Run
from lorax_lab.launch.references import lacks_comparison, why_unusable
from lorax_lab.launch.waiting import Waiting
from lorax_lab.record import forced, record
from lorax_lab.record.files import remove_scratch, sha256_of
from lorax_lab.record.folder import quarantine
from lorax_lab.record.provenance import new_record
from lorax_lab.record.record import Status
from lorax_lab.record.redact import redact

ELSEWHERE, RECORDED = "elsewhere", "recorded"
"""Returned by `attempt` besides a status: another launcher has the lease on the run; the run was completed before."""
COMPARED, NO_REFERENCE = "compared", "no reference"
"""Returned by `attempt` too: a run that was completed before was compared with its reference, or could not be."""
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
        repeats: SHA-256 of the record that `force` repeats; None where the run is not repeated.
        later: whether the run is to be compared with a reference that is not there yet.
    """

    title: str
    group: str
    launch: str
    wait: bool = False
    repeats: str | None = None
    later: bool = False


def attempt(run: Run, how: Attempt) -> str:
    """Train one run unless it is recorded, or compare it with its reference if only that is missing.

    A completed run that `force` repeats stays whole until the new one is.

    Returns:
        The run's status, `RECORDED`, `COMPARED`, `NO_REFERENCE` or `ELSEWHERE`.
    """
    try:
        lease = _lease(run, how)
    except (OSError, TimeoutError) as error:
        _say(f"  failed: {run.runs_dir} cannot be written: {error}")
        return "failed"
    if isinstance(lease, str):
        return lease
    with lease:
        try:
            return _attempt(run, how, lease)
        except leases.LeaseLost as lost:
            _say(f"  {lost}")
            return ELSEWHERE


def is_settled(run: Run, repeats: str | None) -> bool:
    """Whether the run has its result: a completed record, which is not the one that `force` repeats."""
    return record.status_of(run.folder) == "completed" and not _repeated(run, repeats)


def is_done(run: Run, repeats: str | None) -> bool:
    """Whether the run has its result, and the comparison with its reference where it wants one."""
    return is_settled(run, repeats) and not lacks_comparison(run.folder, run.reference)


def workplace(run: Run, repeats: str | None) -> Path:
    """Where an attempt at the run leaves its files: apart from the completed run that it repeats."""
    return forced.workplace(run.folder) if _repeated(run, repeats) else run.folder


def _repeated(run: Run, repeats: str | None) -> bool:
    return repeats is not None and record_sha256(run) == repeats


def record_sha256(run: Run) -> str | None:
    """Of the run's record as it is now; None where there is none."""
    path = run.folder / record.RECORD
    return sha256_of(path) if path.is_file() else None


def _lease(run: Run, how: Attempt) -> leases.Lease | str:
    waiting = Waiting()
    while True:
        if is_done(run, how.repeats):
            return RECORDED
        lease = leases.acquire(run.runs_dir, run.run_id)
        if isinstance(lease, leases.Lease):
            return lease
        if not how.wait:
            return ELSEWHERE
        if line := waiting.line(run, lease):
            _say(f"  {line}")
        time.sleep(POLL)


def _attempt(run: Run, how: Attempt, lease: leases.Lease) -> str:
    forced.mend(run.folder)
    if is_done(run, how.repeats):
        return RECORDED
    if is_settled(run, how.repeats):
        status = _compare(run, lease)
        if status == COMPARED:
            windows.show(run.folder, "", run.config.tracking, _say)
        return status
    _say(how.title, style="bold")
    if record.status_of(run.folder) == "damaged":
        _say(f"  the record is damaged; the folder is now {quarantine(run.folder)}")
    place = workplace(run, how.repeats)
    with windows.watched(run.folder, place, how.group, run.config.tracking, _say) as sink:
        return _train(run, how, lease, place, sink)


def _train(run: Run, how: Attempt, lease: leases.Lease, place: Path, sink: windows.Sink) -> str:
    from lorax_lab.execute import execute

    reference = run.runs_dir / run.reference if run.reference else None
    if reference is not None and (reason := why_unusable(reference)):
        _say(f"  {reason}: no comparison with it")
        reference = None
    try:
        lease.check()  # a launcher that was suspended until here may have lost it
        remove_scratch(place)
        record_status(run, "running", place=place, launch=how.launch, check=lease.check)
        kernel = kernel_of(run.config.train)
        execute(run.config, run.run_id, place, reference, lease.check, run.data_sha256, kernel, [sink])
        if place != run.folder:
            lease.check()
            forced.put_in_place(run.folder)
    except leases.LeaseLost:
        raise
    except KeyboardInterrupt:
        lease.check()
        if not is_settled(run, how.repeats):  # it may come when all is written
            record_status(run, "killed", "interrupted", place=place, check=lease.check)
        raise
    except (Exception, SystemExit) as error:
        status, reason = _status_of(error), _reason(error)
        kept = f"; the earlier run stays as it was in {run.folder}" if place != run.folder else ""
        try:
            record_status(run, status, reason, "".join(traceback.format_exception(error)), place, check=lease.check)
        except OSError as unwritten:
            _say(f"  this could not be recorded: {unwritten}")
        known = isinstance(error, ConfigError | Diverged)
        _say(f"  {status}: {reason}" + ("" if known else f"; the traceback is in {place / record.RECORD}") + kept)
        return status
    return "completed"


def _compare(run: Run, lease: leases.Lease) -> str:
    """Compare a run that is trained already with its reference; where that is not possible, its record stays."""
    from lorax_lab.comparison import compare

    assert run.reference is not None
    reference = run.runs_dir / run.reference
    if reason := why_unusable(reference):
        _say(f"  {run.title} is not compared: {reason}")
        return NO_REFERENCE
    try:
        lease.check()
        remove_scratch(run.folder)
        compare(run.config, run.folder, reference, lease.check)
    except leases.LeaseLost:
        raise
    except (Exception, SystemExit) as error:
        _say(f"  {run.title} is not compared with {run.reference}: {_reason(error)}")
        return NO_REFERENCE
    return COMPARED


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
    return " ".join([f"{type(error).__name__}: {' '.join(redact(str(error)).split())}", *notes])


def record_status(
    run: Run,
    status: Status,
    reason: str | None = None,
    error: str | None = None,
    place: Path | None = None,
    launch: str | None = None,
    check: Callable[[], None] | None = None,
) -> None:
    """Record that an attempt has no result, and why, in the folder that it worked in, the run's own by default.

    `check` is called right before the record takes its place, since what it says of the machine takes time to find.
    """
    kernel = kernel_of(run.config.train)
    content = new_record(run.config, run.run_id, status, kernel, reason=reason, error=error, launch=launch)
    record.write_record(place or run.folder, content, check)


def _say(text: str, style: str | None = None) -> None:
    from lorax_lab.console import console

    console.print(text, style=style, soft_wrap=True, markup=False)
