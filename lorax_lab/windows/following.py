"""A sweep's handle on its follower: starts it, says what it says, and does not wait for it longer than it says."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from lorax_lab.record.record import RECORD
from lorax_lab.windows.door import DOORS, name_of
from lorax_lab.windows.marks import mark_of
from lorax_lab.windows.orders import FOLDER

WANDB = name_of("auto")
WAIT = 30.0
"""Seconds that the end of a sweep waits for its windows. Then they go on without it."""
QUIET = 1.0
"""Seconds that it waits without a word."""
NAMED = 20
"""Runs that are named at most, where the windows lack several."""
ALONE: list[subprocess.Popen[str]] = []
"""Followers that went on without their sweep. Python warns of a process that is forgotten while it runs."""


@contextmanager
def following(runs_dir: Path, launch: str, modes: Mapping[Path, str], say: Callable[[str], None]) -> Iterator[None]:
    """A follower stands by during the block. After it the windows have `WAIT` seconds to take what they lack, none
    where the block was interrupted; then the follower goes on alone. One that is gone before its time is said, and at
    the end the runs that its windows lack.

    Args:
        launch: identifies the sweep.
        modes: the `tracking.mode` of its runs by their folders; where none opens a window, there is no follower.
        say: called with a sentence for the user, from another thread too.
    """
    shown = {folder: mode for folder, mode in modes.items() if mode in DOORS}
    if not shown:
        yield
        return
    window = " and ".join(sorted({name_of(mode) for mode in shown.values()}))
    words = [sys.executable, "-m", "lorax_lab.windows.follower", str(runs_dir.resolve()), launch]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    try:
        process = subprocess.Popen(words, start_new_session=True, text=True, **pipes)  # type: ignore[call-overload]
    except OSError as error:
        say(f"{window} is not told of these runs ({error}); later: {later(runs_dir, window)}")
        try:
            yield
        finally:
            shutil.rmtree(runs_dir / FOLDER / launch, ignore_errors=True)  # orders that nobody takes
        return
    over, faults, wait = threading.Event(), [], 0.0  # type: ignore[var-annotated]
    heard = threading.Thread(target=_hear, args=(process, runs_dir, window, say, faults), daemon=True)
    heard.start()
    threading.Thread(target=_watch, args=(process, over, runs_dir, window, say, faults), daemon=True).start()
    try:
        yield
        wait = WAIT
    finally:
        over.set()
        with suppress(OSError):
            process.stdin.close()
        _wait(process, wait, runs_dir, window, say)
        heard.join(QUIET)
        if process.returncode is not None and (
            missed := _missed(process.returncode, runs_dir / FOLDER / launch, shown)
        ):
            ended = f"the process that shows them {_end(process.returncode, faults)}"
            say(f"{window} lacks {missed}, in whole or in part: {ended}; later: {later(runs_dir, window)}")


def later(runs_dir: Path, window: str = WANDB) -> str:
    """The command that shows what was missed."""
    words = ["python", "-m", "lorax_lab.windows.tracking", "sync", str(runs_dir)]
    return shlex.join(words + (["--mode", "trackio"] if window != WANDB else []))


def untold(name: str, why: str, runs_dir: Path, window: str = WANDB) -> str:
    """A sentence on a run that a window lacks."""
    again = later(runs_dir, window)
    return f"{window} was not told of {name} ({why}); its record does not depend on it; later: {again}"


def _watch(
    process: subprocess.Popen[str],
    over: threading.Event,
    runs_dir: Path,
    window: str,
    say: Callable[[str], None],
    faults: list[str],
) -> None:
    """Say at once that a follower is gone, where the sweep goes on without it."""
    while not over.wait(QUIET):
        if process.poll() is not None:
            over.wait(QUIET)  # its last words may be on their way
            ended = f"the process that shows runs in {window} {_end(process.returncode, faults)}"
            say(f"{ended}; the runs go on and do not depend on it; later: {later(runs_dir, window)}")
            return


def _end(code: int, faults: list[str]) -> str:
    return "ended with " + (faults[-1] if faults else f"status {code}")


def _missed(code: int, orders: Path, shown: Mapping[Path, str]) -> str:
    """The runs that the windows lack after a follower that failed, or that left orders behind, which are removed; empty
    where they lack none."""
    left = {path.stem for path in orders.glob("[!.]*.json")}
    shutil.rmtree(orders, ignore_errors=True)
    if code == 0 and not left:
        return ""
    begun = {path.name for path, mode in shown.items() if (path / RECORD).exists() and mark_of(path, mode) is None}
    names = sorted(left | begun)
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _wait(
    process: subprocess.Popen[str], seconds: float, runs_dir: Path, window: str, say: Callable[[str], None]
) -> None:
    """Wait for a follower that was told that no more runs come. Whoever interrupts the wait ends only the wait."""
    with suppress(KeyboardInterrupt):
        for some, line in (
            (min(QUIET, seconds), f"waiting up to {WAIT:.0f} s until {window} has the last runs; Ctrl-C does not wait"),
            (seconds - QUIET, ""),
        ):
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(some, 0.0))
                return
            if line and seconds:
                say(line)
    ALONE.append(process)
    say(f"{window} is told of the last runs in the background; what it misses: {later(runs_dir, window)}")


def _hear(
    process: subprocess.Popen[str], runs_dir: Path, window: str, say: Callable[[str], None], faults: list[str]
) -> None:
    """Say what the follower says; keep what ended it."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            with suppress(ValueError, KeyError, TypeError):
                message = json.loads(line)
                if fault := message.get("fault"):
                    faults.append(str(fault))
                elif url := message.get("url"):
                    say(f"{window}: {url}")
                elif why := message.get("why"):
                    say(untold(message["run"], why, runs_dir, window))
