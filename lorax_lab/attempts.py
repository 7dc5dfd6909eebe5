"""One run, tried: claimed, trained unless it is recorded, and whatever came of it recorded."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorax_lab import claims, record
from lorax_lab.config import ConfigError, Diverged, RunConfig
from lorax_lab.plan import Planned

Execute = Callable[[RunConfig, str, Path | None, str, Callable[[], None]], dict[str, Any]]
ELSEWHERE, RECORDED = "elsewhere", "recorded"
"""What `attempt` answers where another launcher has the claim on a run, and where it was completed before."""
WEIGHTS = "model.safetensors"
POLL = 1.0
"""Seconds between looks at a run that another launcher trains."""


@dataclass(frozen=True)
class Trial:
    """How a run is tried.

    Args:
        title: said when it begins.
        group: the name under which W&B shows the sweep.
        launch: of the launcher that tries it, to tell its dead from those of others.
        wait: for another launcher that has the claim, until the run is completed or the claim is free.
    """

    title: str
    group: str
    launch: str
    wait: bool = False


def attempt(execute: Execute, run: Planned, trial: Trial) -> str:
    """Train one run unless it is recorded; returns its status, `RECORDED` or `ELSEWHERE`.

    A completed record that `force` repeats stays until the new one is complete.
    """
    try:
        claim = _claim(run, trial.wait)
    except (OSError, TimeoutError) as error:
        _say(f"  failed: {run.runs_dir} cannot be written: {error}")
        return "failed"
    if isinstance(claim, str):
        return claim
    with claim:
        try:
            return _train(execute, run, trial, claim)
        except claims.ClaimLost as lost:
            _say(f"  {lost}")
            return ELSEWHERE


def _claim(run: Planned, wait: bool) -> claims.Claim | str:
    said = False
    while True:
        if record.status_of(run.folder) == "completed" and not run.config.force:
            return RECORDED
        claim = claims.take(run.runs_dir, run.run_id)
        if isinstance(claim, claims.Claim):
            return claim
        if not wait:
            return ELSEWHERE
        if not said:
            _say(f"  waiting for {run.run_id}, which {claim} trains")
            said = True
        time.sleep(POLL)


def _train(execute: Execute, run: Planned, trial: Trial, claim: claims.Claim) -> str:
    before = record.status_of(run.folder)
    if before == "completed" and not run.config.force:
        return RECORDED
    _say(trial.title, style="bold")
    if before == "damaged":
        _say(f"  the record is damaged; the folder is now {record.quarantine(run.folder)}")
    keep = before == "completed"
    reference = run.runs_dir / run.reference if run.reference else None
    if reference is not None and not _has_weights(reference):
        _say(f"  {reference.name} is not complete, or its weights are gone: no comparison with it")
        reference = None
    try:
        note(run, "running", keep=keep, launch=trial.launch)
        execute(run.config, run.run_id, reference, trial.group, claim.check)
    except claims.ClaimLost:
        raise
    except KeyboardInterrupt:
        claim.check()
        note(run, "killed", "interrupted", keep=keep)
        raise
    except (Exception, SystemExit) as error:
        claim.check()
        status, reason = _status_of(error), _reason(error)
        try:
            note(run, status, reason, "".join(traceback.format_exception(error)), keep)
        except OSError as unwritten:
            _say(f"  this could not be recorded: {unwritten}")
        known = isinstance(error, ConfigError | Diverged)
        _say(f"  {status}: {reason}" + ("" if known else f"; the traceback is in {run.folder / record.RECORD}"))
        return status
    return "completed"


def _has_weights(reference: Path) -> bool:
    if record.status_of(reference) != "completed" or not (reference / WEIGHTS).exists():
        return False
    try:
        record.check_file(reference, WEIGHTS)
    except record.DamagedRecord as error:
        _say(f"  {error}")
        return False
    return True


def _status_of(error: BaseException) -> str:
    from lorax_lab.memory import is_out_of_memory

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


def note(
    run: Planned,
    status: str,
    reason: str | None = None,
    error: str | None = None,
    keep: bool = False,
    launch: str | None = None,
) -> None:
    """Record that a run has no result, and why; nothing where a completed record is to stay."""
    from lorax_lab.provenance import provenance

    if not keep:
        content = provenance(run.config, run.run_id, status) | {"reason": reason, "error": error, "launch": launch}
        record.write_record(run.folder, content)


def _say(text: str, style: str | None = None) -> None:
    from lorax_lab.console import console

    console.print(text, style=style, soft_wrap=True, markup=False)
