"""`isolate=true`: each run in a process of its own, so that what ends it ends nothing else. As a program, that process.

The run is described on standard input; the process leases, trains and records it as any other would. Its parent tells
from its end, and from the record, what came of it.
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
from lorax_lab.launch.attempts import ELSEWHERE, RECORDED, Attempt, attempt, record_status
from lorax_lab.launch.compose import from_dict
from lorax_lab.launch.plan import Run
from lorax_lab.store import record

EXIT = {"completed": 0, "diverged": 65, "failed": 66, "oom": 67, ELSEWHERE: 75, RECORDED: 76}
"""Exit status of the process by what it answers; any other is an end that it did not choose."""
PATIENCE = 15.0
"""Seconds that an interrupted process gets to record that it was."""


def attempt_apart(run: Run, how: Attempt) -> str:
    """`attempt` in a new process; returns the status, which the process's own end decides where it left none."""
    if record.status_of(run.folder) == "completed" and not run.config.force:
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
        return _left(run, "failed", f"it did not end within time_limit_seconds={run.config.time_limit_seconds:g}")
    except KeyboardInterrupt:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    answer = next((status for status, code in EXIT.items() if code == process.returncode), None)
    if answer and (answer != "completed" or record.status_of(run.folder) == "completed"):
        return answer
    return _left(run, *_cause(process.returncode, _oom_kills() > kills))


def _cause(code: int, oom_killed: bool) -> tuple[str, str]:
    """(status, reason) of a process that ended without a word.

    >>> _cause(-11, False), _cause(0, False)
    (('failed', 'its process was ended by SIGSEGV'), ('failed', 'its process ended with status 0 and left no record'))
    """
    if code == -signal.SIGKILL:
        if oom_killed:
            return "oom", "its process was ended by SIGKILL: the system ran out of memory"
        return "killed", "its process was ended by SIGKILL, by someone or for want of memory"
    if code < 0:
        return "failed", f"its process was ended by {signal.Signals(-code).name}"
    return "failed", f"its process ended with status {code} and left no record"


def _oom_kills() -> int:
    """How often the system has killed a process for want of memory."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _left(run: Run, status: str, reason: str) -> str:
    """Record the end of a process that could not, unless another launcher has the run by now."""
    from lorax_lab.console import console

    lease = leases.acquire(run.runs_dir, run.run_id)
    if isinstance(lease, leases.Owner):
        return ELSEWHERE
    with lease:
        if record.status_of(run.folder) != "completed":
            record_status(run, status, reason)
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
    sys.exit(main())
