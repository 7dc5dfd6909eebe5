"""A planned run: where its record is, what became of it, and one attempt at it by the process that has its lease."""

import os
import shutil
import signal
import traceback
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lorax_lab import distributed, execute, windows
from lorax_lab.comparison import compare, lacks_comparison, why_unusable
from lorax_lab.config import RunConfig
from lorax_lab.console import Show, Steps, say
from lorax_lab.errors import LONGEST_TRACE, ConfigError, Diverged, in_one_line, is_out_of_memory, printable
from lorax_lab.launch.fastest import kernel_of
from lorax_lab.methods import METHODS
from lorax_lab.record.checkpoints import FOLDER as CHECKPOINTS
from lorax_lab.record.files import remove_scratch
from lorax_lab.record.lease import lease
from lorax_lab.record.provenance import new_record
from lorax_lab.record.record import RECORD, Status, status_of, write_record
from lorax_lab.record.redact import redact

ELSEWHERE, RECORDED = "elsewhere", "recorded"
"""Outcomes besides a run's status: another process has the lease on the run; the run was completed before."""
COMPARED, NO_REFERENCE = "compared", "no reference"
"""Outcomes for a run that was completed before: it was compared with its reference, or could not be."""


@dataclass(frozen=True)
class Run:
    """A planned run: its configuration, and where its record is or will be."""

    config: RunConfig
    run_id: str
    reference: str | None = None
    """Run id of the full fine-tune that the run is compared with."""
    group: str = ""
    """The name under which W&B shows the sweep."""
    since: float = 0.0
    """When the sweep began, in seconds since 1970. With `force` no earlier record counts."""

    @cached_property
    def folder(self) -> Path:
        """`<runs_dir>/<run_id>`."""
        return Path(self.config.runs_dir) / self.run_id

    @property
    def runs_dir(self) -> Path:
        """Where all records of the sweep are."""
        return self.folder.parent

    @cached_property
    def title(self) -> str:
        """`lora r=8 seed=1`, or `subspace dimension=1000 seed=1`; for a trial also the learning rate that it tries."""
        rank, size = "" if self.config.rank is None else f" r={self.config.rank}", METHODS[self.config.method.name].size
        rank += f" {size}={getattr(self.config.method, size)}" if size else ""
        rate = f" learning rate {self.config.train.learning_rate:g}" if self.config.measure == "trial" else ""
        return f"{self.config.method.name}{rank} seed={self.config.seed}{rate}"


def is_recorded_since(run: Run) -> bool:
    """Whether the run's record was written after its sweep began."""
    path = run.folder / RECORD
    return path.is_file() and path.stat().st_mtime >= run.since


def is_settled(run: Run) -> bool:
    """Whether the run has its result; with `force` one of this sweep."""
    return status_of(run.folder) == "completed" and (not run.config.force or is_recorded_since(run))


def is_done(run: Run) -> bool:
    """Whether the run has its result, and the comparison with its reference where it wants one."""
    return is_settled(run) and not lacks_comparison(run.folder, run.reference)


def clear_checkpoints(folder: Path) -> None:
    """Remove the checkpoints that a kill has left in the folder of a run that is completed."""
    if (folder / CHECKPOINTS).exists():
        with lease(folder) as mine:
            if mine and status_of(folder) == "completed":
                shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def attempt(run: Run, show: Show) -> str:
    """Train one run unless it is recorded, or compare it with its reference if only that is missing. Returns the run's
    status, or one of the outcomes above."""
    try:
        with lease(run.folder) as mine:
            if not mine:
                return ELSEWHERE
            if is_done(run):
                return RECORDED
            return _compare(run) if is_settled(run) else _train(run, show)
    except OSError as error:
        say(f"  failed: {run.runs_dir} cannot be written: {error}")
        return "failed"


def _train(run: Run, show: Show) -> str:
    earlier = status_of(run.folder)
    if earlier == "damaged":
        say(f"  the record in {run.folder} is damaged, and written anew")
    if earlier == "completed":
        (run.folder / RECORD).unlink()  # first: a kill leaves no record of files that are gone
        shutil.rmtree(run.folder)
    with windows.watched(run.folder, run.group, run.config.tracking, say) as sink:
        return _execute(run, [sink, Steps(run.run_id, show)], show)


def _execute(run: Run, sinks: list[windows.Sink], show: Show) -> str:
    reference = run.runs_dir / run.reference if run.reference else None
    if reference is not None and (reason := why_unusable(reference)):
        say(f"  {reason}: no comparison with it")
        reference = None
    try:
        remove_scratch(run.folder)
        record_status(run, "running")
        kernel = kernel_of(run.config.train)
        distributed.from_first((run, kernel))
        execute.execute(run.config, run.run_id, run.folder, reference, kernel, sinks, show)
    except KeyboardInterrupt as interrupt:
        distributed.lose()
        if status_of(run.folder) != "completed":  # it may come when all is written
            record_status(run, "killed", distributed.cause() or interrupted(interrupt))
        raise
    except Exception as error:
        status: Status = "oom" if is_out_of_memory(error) else "failed"
        status, reason = "diverged" if isinstance(error, Diverged) else status, _reason(error)
        if status != "diverged":
            distributed.lose()
        if distributed.is_of_others(error):
            status, reason = "killed", distributed.cause() or "interrupted"
        trace = printable(redact("".join(traceback.format_exception(error))), LONGEST_TRACE)
        record_status(run, status, reason, trace)
        expected = isinstance(error, ConfigError | Diverged)
        say(f"  {status}: {reason}" + ("" if expected else f"; the traceback is in {run.folder / RECORD}"))
        return status
    return "completed"


INTERRUPTED = "interrupted by"
"""How the reason of a run begins that a signal ended."""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals that interrupt a sweep."""


def interrupt_once() -> None:
    """Let the first signal of `ENDING` interrupt what is done, but those that are ignored, as after `nohup`; later ones
    do nothing. `SIG_IGN` in their place would have Python complain of one that came at the same moment."""

    def interrupt(number: int, _: object) -> None:
        for later in ENDING:
            signal.signal(later, lambda *_: None)
        raise KeyboardInterrupt(signal.Signals(number))

    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


def signal_of(interrupt: KeyboardInterrupt) -> signal.Signals:
    """The signal behind an interrupt; Ctrl-C's where it says none."""
    return signal.Signals(*interrupt.args or (signal.SIGINT,))


def interrupted(interrupt: KeyboardInterrupt) -> str:
    """The reason of a run that a signal ended."""
    return f"{INTERRUPTED} {signal_of(interrupt).name}"


def follow() -> int:
    """What every process but the first does: its part of each run that the first begins. It prints nothing, and returns
    the exit code."""
    interrupt_once()
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            while begun := distributed.from_first():
                run, kernel = begun
                with suppress(Diverged):  # the first says so
                    execute.take_part(run.config, run.run_id, run.folder, kernel)
        distributed.agreed(True)
        return 0
    except KeyboardInterrupt:
        distributed.blame("")
        return 130
    except Exception as error:
        distributed.blame("" if distributed.is_of_others(error) else _reason(error))
        raise


def _compare(run: Run) -> str:
    """Compare a run that is trained already with its reference; where that is not possible, its record stays."""
    assert run.reference is not None
    reference = run.runs_dir / run.reference
    reason = why_unusable(reference)
    if not reason:
        try:
            remove_scratch(run.folder)
            compare(run.config, run.folder, reference)
        except Exception as error:
            reason = _reason(error)
    if reason:
        say(f"  {run.title} is not compared with {run.reference}: {reason}")
        return NO_REFERENCE
    windows.show(run.folder, run.config.tracking, say)
    return COMPARED


def _reason(error: BaseException) -> str:
    if isinstance(error, ConfigError | Diverged):
        return in_one_line(error)
    notes = getattr(error, "__notes__", [])
    return in_one_line(redact(" ".join([f"{type(error).__name__}: {error}", *notes])))


def record_status(run: Run, status: Status, reason: str | None = None, error: str | None = None) -> None:
    """Record that an attempt has no result, and why."""
    kernel = kernel_of(run.config.train)
    write_record(run.folder, new_record(run.config, run.run_id, status, kernel, reason=reason, error=error))
