"""`isolate=true`: each run has a process of its own, so that a crash ends only that run. As a program, that process.

The process reads the run from its standard input, then leases, trains and records it. Its parent learns the outcome
from the exit status and the record.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from lorax_lab.launch import leases
from lorax_lab.launch.attempts import (
    COMPARED,
    ELSEWHERE,
    NO_REFERENCE,
    RECORDED,
    Attempt,
    attempt,
    is_done,
    is_settled,
    record_status,
    workplace,
)
from lorax_lab.launch.plan import Run
from lorax_lab.launch.typed import from_dict
from lorax_lab.store.output import guard
from lorax_lab.store.record import Status

EXIT = {"completed": 0, "diverged": 65, "failed": 66, "oom": 67}
EXIT |= {ELSEWHERE: 75, RECORDED: 76, COMPARED: 77, NO_REFERENCE: 78}
"""Exit status of the process by the outcome of its attempt; any other means that the process was ended."""
PATIENCE = 15.0
"""Seconds that an interrupted process gets to record that it was."""


def attempt_apart(run: Run, how: Attempt) -> str:
    """Make the `attempt` in a new process and return the status. If the process recorded none, its exit status
    decides."""
    if is_done(run, how.repeats):
        return RECORDED
    spec = {"run": dataclasses.asdict(run), "how": dataclasses.asdict(how)}
    kills = _oom_kills()
    command = [sys.executable, "-X", "faulthandler", "-m", "lorax_lab.launch.isolation"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    try:
        process.communicate(json.dumps(spec), timeout=run.config.time_limit_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        reason = f"it did not end within time_limit_seconds={run.config.time_limit_seconds:g}"
        return _record_end(run, how, "failed", reason)
    except KeyboardInterrupt:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    outcome = next((status for status, code in EXIT.items() if code == process.returncode), None)
    if outcome and (outcome != "completed" or is_settled(run, how.repeats)):
        return outcome
    return _record_end(run, how, *_cause(process.returncode, _oom_kills() > kills))


def _cause(code: int, oom_killed: bool) -> tuple[Status, str]:
    """(status, reason) of a process that ended without recording one.

    >>> _cause(-11, False), _cause(0, False)
    (('failed', 'its process was ended by SIGSEGV'), ('failed', 'its process ended with status 0 and left no record'))
    >>> _cause(-9, True), _cause(-9, False)[0]
    (('oom', 'its process was ended by SIGKILL: the system ran out of memory'), 'killed')
    """
    if code == -signal.SIGKILL:
        if oom_killed:
            return "oom", "its process was ended by SIGKILL: the system ran out of memory"
        return "killed", "its process was ended by SIGKILL: by a person, or because memory ran out"
    if code < 0:
        return "failed", f"its process was ended by {signal.Signals(-code).name}"
    return "failed", f"its process ended with status {code} and left no record"


def _oom_kills() -> int:
    """How many processes the system has killed because memory ran out."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _record_end(run: Run, how: Attempt, status: Status, reason: str) -> str:
    """Record the end of a process that could not, unless another launcher has the run by now."""
    from lorax_lab.console import console

    lease = leases.acquire(run.runs_dir, run.run_id)
    if isinstance(lease, leases.Owner):
        return ELSEWHERE
    with lease:
        if not is_settled(run, how.repeats):
            record_status(run, status, reason, place=workplace(run, how.repeats))
    console.print(f"  {status}: {reason}", soft_wrap=True, markup=False)
    return status


def _interrupt_once(*_: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Train the run that standard input describes; the exit status is one of `EXIT`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt_once)
    spec = json.load(sys.stdin)
    run = Run(**spec["run"] | {"config": from_dict(spec["run"]["config"])})
    try:
        status = attempt(run, Attempt(**spec["how"]))
    except KeyboardInterrupt:
        return 130
    return EXIT[status]


if __name__ == "__main__":
    guard()
    sys.exit(main())
