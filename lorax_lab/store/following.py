"""A sweep's handle on its follower: starts it, says what it says, and does not wait for it longer than it says."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lorax_lab.store.door import DOORS, name_of

WANDB = name_of("auto")
WAIT = 30.0
"""Seconds that the end of a sweep waits for its windows. Then they go on without it."""
QUIET = 1.0
"""Seconds that it waits without a word."""
ALONE: list[subprocess.Popen[str]] = []
"""Followers that went on without their sweep. Python warns of a process that is forgotten while it runs."""


@contextmanager
def following(runs_dir: Path, launch: str, modes: set[str], say: Callable[[str], None]) -> Iterator[None]:
    """A follower stands by during the block. After it the windows have `WAIT` seconds to take what they lack, none
    where the block was interrupted; then the follower goes on alone.

    Args:
        launch: identifies the sweep.
        modes: the `tracking.mode` of its runs; where none opens a window, there is no follower.
        say: called with a sentence for the user, from another thread too.
    """
    if not modes & set(DOORS):
        yield
        return
    window = " and ".join(sorted({name_of(mode) for mode in modes & set(DOORS)}))
    words = [sys.executable, "-m", "lorax_lab.store.follower", str(runs_dir.resolve()), launch]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    try:
        process = subprocess.Popen(words, start_new_session=True, text=True, **pipes)  # type: ignore[call-overload]
    except OSError as error:
        say(f"{window} is not told of these runs ({error}); later: {later(runs_dir, window)}")
        yield
        return
    heard = threading.Thread(target=_hear, args=(process, runs_dir, window, say), daemon=True)
    heard.start()
    wait = 0.0
    try:
        yield
        wait = WAIT
    finally:
        with suppress(OSError):
            process.stdin.close()
        _wait(process, wait, runs_dir, window, say)
        heard.join(QUIET)


def later(runs_dir: Path, window: str = WANDB) -> str:
    """The command that shows what was missed."""
    return f"python -m lorax_lab.store.tracking sync {runs_dir}" + (" --mode trackio" if window != WANDB else "")


def untold(name: str, why: str, runs_dir: Path, window: str = WANDB) -> str:
    """A sentence on a run that a window lacks."""
    again = later(runs_dir, window)
    return f"{window} was not told of {name} ({why}); its record does not depend on it; later: {again}"


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


def _hear(process: subprocess.Popen[str], runs_dir: Path, window: str, say: Callable[[str], None]) -> None:
    """Say what the follower says."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            with suppress(ValueError, KeyError, TypeError):
                message = json.loads(line)
                if url := message.get("url"):
                    say(f"{window}: {url}")
                elif why := message.get("why"):
                    say(untold(message["run"], why, runs_dir, window))
