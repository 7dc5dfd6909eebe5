"""One attempt at a run, by the process that has its lease: train it unless it is recorded, and record how it ended."""

from __future__ import annotations

import os
import shutil
import traceback
from dataclasses import dataclass
from pathlib import Path

from lorax_lab import windows
from lorax_lab.comparison import lacks_comparison, why_unusable
from lorax_lab.console import Show, Steps, say
from lorax_lab.errors import ConfigError, Diverged, is_out_of_memory
from lorax_lab.launch.fastest import kernel_of
from lorax_lab.launch.leases import lease
from lorax_lab.launch.plan import Run
from lorax_lab.record import record
from lorax_lab.record.files import remove_scratch, sha256_of
from lorax_lab.record.folder import quarantine
from lorax_lab.record.provenance import new_record
from lorax_lab.record.record import Status
from lorax_lab.record.redact import redact

ELSEWHERE, RECORDED = "elsewhere", "recorded"
"""Outcomes besides a run's status: another process has the lease on the run; the run was completed before."""
COMPARED, NO_REFERENCE = "compared", "no reference"
"""Outcomes for a run that was completed before: it was compared with its reference, or could not be."""
ASIDE = ".forced"
"""Where a run waits that is trained again; it comes back unless the new one is completed."""


@dataclass(frozen=True)
class Attempt:
    """How a run is tried.

    Args:
        title: printed when it begins.
        group: the name under which W&B shows the sweep.
        repeats: SHA-256 of the record that `force` repeats; None where the run is not repeated.
    """

    title: str
    group: str
    repeats: str | None = None


def attempt(run: Run, how: Attempt, show: Show) -> str:
    """Train one run unless it is recorded, or compare it with its reference if only that is missing.

    Returns:
        The run's status, or one of the outcomes above.
    """
    try:
        with lease(run.runs_dir, run.run_id) as mine:
            return _attempt(run, how, show) if mine else ELSEWHERE
    except OSError as error:
        say(f"  failed: {run.runs_dir} cannot be written: {error}")
        return "failed"


def is_settled(run: Run, repeats: str | None) -> bool:
    """Whether the run has its result: a completed record, which is not the one that `force` repeats."""
    return record.status_of(run.folder) == "completed" and (repeats is None or record_sha256(run) != repeats)


def is_done(run: Run, repeats: str | None) -> bool:
    """Whether the run has its result, and the comparison with its reference where it wants one."""
    return is_settled(run, repeats) and not lacks_comparison(run.folder, run.reference)


def record_sha256(run: Run) -> str | None:
    """Of the run's record as it is now; None where there is none."""
    path = run.folder / record.RECORD
    return sha256_of(path) if path.is_file() else None


def _attempt(run: Run, how: Attempt, show: Show) -> str:
    if is_done(run, how.repeats):
        return RECORDED
    if is_settled(run, how.repeats):
        status = _compare(run)
        if status == COMPARED:
            windows.show(run.folder, run.config.tracking, say)
        return status
    say(how.title, style="bold")
    earlier = record.status_of(run.folder)
    if earlier == "damaged":
        say(f"  the record is damaged; the folder is now {quarantine(run.folder)}")
    aside = run.runs_dir / ASIDE / run.run_id
    if earlier == "completed":
        _move(run.folder, aside)
    with windows.watched(run.folder, how.group, run.config.tracking, say) as sink:
        status = _train(run, [sink, Steps(run.run_id, show)], show)
    if status == "completed":
        shutil.rmtree(aside, ignore_errors=True)
    elif aside.exists():
        _move(aside, run.folder)
        say(f"  the earlier run stays as it was in {run.folder}")
    return status


def _move(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


def _train(run: Run, sinks: list[windows.Sink], show: Show) -> str:
    from lorax_lab.execute import execute

    reference = run.runs_dir / run.reference if run.reference else None
    if reference is not None and (reason := why_unusable(reference)):
        say(f"  {reason}: no comparison with it")
        reference = None
    try:
        remove_scratch(run.folder)
        record_status(run, "running")
        kernel = kernel_of(run.config.train)
        execute(run.config, run.run_id, run.folder, reference, run.data_sha256, kernel, sinks, show)
    except KeyboardInterrupt:
        if record.status_of(run.folder) != "completed":  # it may come when all is written
            record_status(run, "killed", "interrupted")
        raise
    except (Exception, SystemExit) as error:
        status, reason = _status_of(error), _reason(error)
        try:
            record_status(run, status, reason, "".join(traceback.format_exception(error)))
        except OSError as unwritten:
            say(f"  this could not be recorded: {unwritten}")
        expected = isinstance(error, ConfigError | Diverged)
        say(f"  {status}: {reason}" + ("" if expected else f"; the traceback is in {run.folder / record.RECORD}"))
        return status
    return "completed"


def _compare(run: Run) -> str:
    """Compare a run that is trained already with its reference; where that is not possible, its record stays."""
    from lorax_lab.comparison import compare

    assert run.reference is not None
    reference = run.runs_dir / run.reference
    if reason := why_unusable(reference):
        say(f"  {run.title} is not compared: {reason}")
        return NO_REFERENCE
    try:
        remove_scratch(run.folder)
        compare(run.config, run.folder, reference)
    except (Exception, SystemExit) as error:
        say(f"  {run.title} is not compared with {run.reference}: {_reason(error)}")
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


def record_status(run: Run, status: Status, reason: str | None = None, error: str | None = None) -> None:
    """Record that an attempt has no result, and why."""
    kernel = kernel_of(run.config.train)
    content = new_record(run.config, run.run_id, status, kernel, reason=reason, error=error)
    record.write_record(run.folder, content)
