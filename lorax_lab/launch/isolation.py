"""`isolate=true`: each run has a process of its own, so that a crash ends only that run. As a program, that process.

The process reads runs from its standard input, a line each. It leases, trains and records one after the other. Its
parent learns the outcome of the last from the exit status and the record. With `--tell FD` it is a worker
(`workers.py`): what it has to say, and each outcome, goes to its parent through that pipe.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lorax_lab import windows
from lorax_lab.console import console
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
from lorax_lab.record.output import guard
from lorax_lab.record.record import Status

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
    kills = oom_kills()
    process = subprocess.Popen(command(), stdin=subprocess.PIPE, text=True)
    try:
        process.communicate(line_of(run, how), timeout=run.config.time_limit_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return record_end(run, how, *too_long(run))
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
    return record_end(run, how, *cause(process.returncode, oom_kills() > kills))


def command() -> list[str]:
    """What starts the process."""
    return [sys.executable, "-X", "faulthandler", "-m", "lorax_lab.launch.isolation"]


def line_of(run: Run, how: Attempt) -> str:
    """A run as the process reads it, with how it is tried."""
    return json.dumps({"run": dataclasses.asdict(run), "how": dataclasses.asdict(how)}) + "\n"


def too_long(run: Run) -> tuple[Status, str]:
    """(status, reason) of a process that was ended at the run's time limit."""
    return "failed", f"it did not end within time_limit_seconds={run.config.time_limit_seconds:g}"


def cause(code: int, oom_killed: bool) -> tuple[Status, str]:
    """(status, reason) of a process that ended without recording one.

    >>> cause(-11, False), cause(0, False)
    (('failed', 'its process was ended by SIGSEGV'), ('failed', 'its process ended with status 0 and left no record'))
    >>> cause(-9, True), cause(-9, False)[0]
    (('oom', 'its process was ended by SIGKILL: the system ran out of memory'), 'killed')
    """
    if code == -signal.SIGKILL:
        if oom_killed:
            return "oom", "its process was ended by SIGKILL: the system ran out of memory"
        return "killed", "its process was ended by SIGKILL: by a person, or because memory ran out"
    if code < 0:
        return "failed", f"its process was ended by {signal.Signals(-code).name}"
    return "failed", f"its process ended with status {code} and left no record"


def oom_kills() -> int:
    """How many processes the system has killed because memory ran out."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def record_end(run: Run, how: Attempt, status: Status, reason: str) -> str:
    """Record the end of a process that could not, unless another launcher has the run by now, or it was completed
    before the process ended."""
    lease = leases.acquire(run.runs_dir, run.run_id)
    if isinstance(lease, leases.Owner):
        return ELSEWHERE
    with lease:
        if is_settled(run, how.repeats):
            return "completed"
        record_status(run, status, reason, place=workplace(run, how.repeats))
    console.print(f"  {status}: {reason}", soft_wrap=True, markup=False)
    return status


def _interrupt_once(*_: Any) -> None:
    """Interrupt what is done; later signals do nothing. `SIG_IGN` in their place would have Python complain of one that
    came at the same moment."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Train the runs that standard input describes. The exit status is one of `EXIT`, by the last of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tell", type=int, metavar="FD", help="the pipe that messages go to")
    parser.add_argument("--bars", action="store_true", help="the parent shows bars, so no lines stand for them")
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt_once)
    if options.tell is not None:
        console.shows_bars = options.bars
    try:
        outcome = _attempts(options.tell)
        windows.close()
        return outcome
    except KeyboardInterrupt:
        windows.close(wait=False)
        return 130


def _attempts(handle: int | None) -> int:
    """Try one run after the other; the exit status of the last."""
    outcome, tell = 0, _messenger(handle)
    for line in sys.stdin:
        spec = json.loads(line)
        run = Run(**spec["run"] | {"config": from_dict(spec["run"]["config"])})
        if handle is not None:
            console.relay = lambda message, run=run: tell(_named(message, run))
        status = attempt(run, Attempt(**spec["how"]))
        outcome = EXIT[status]
        tell({"status": status})
    return outcome


def _messenger(handle: int | None) -> Callable[[dict[str, Any]], None]:
    """What sends messages to the parent; where it is gone, they are lost, and the run goes on."""
    if handle is None:
        return lambda message: None
    pipe, lock = Connection(handle, readable=False), threading.Lock()

    def tell(message: dict[str, Any]) -> None:
        with lock, suppress(OSError):
            pipe.send_bytes(json.dumps(message).encode())

    return tell


def _named(message: dict[str, Any], run: Run) -> dict[str, Any]:
    """A message in which a line that belongs to the line above it, as an indented one does, names the run."""
    text = message.get("say", "")
    return message | {"say": f"{run.title}: {text.strip()}"} if text.startswith("  ") else message


if __name__ == "__main__":
    guard()
    sys.exit(main())
