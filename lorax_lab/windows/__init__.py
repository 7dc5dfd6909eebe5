"""Windows on runs: W&B, Trackio and dashboards. No run waits for a window, and none is changed by one.

A process that trains runs starts one child (`child.py`) with its first run, and tells it through one pipe which run
begins and which is over. The child mirrors the run's files. It may hang or die: the runs go on, and what a window lacks
is said once, with the command that shows it later. Measures need torch, which the child does not import: the process
that trained derives them and leaves them in a file (`contents.leave_update`).
"""

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lorax_lab.config import TrackingConfig
from lorax_lab.record.progress import Sink, written
from lorax_lab.windows import contents
from lorax_lab.windows.library import MODES, TRACKIO, library_of

DEADLINE, QUIET = 60.0, 1.0
"""Seconds that a window has to close when its run is over; seconds of waiting for it without a word."""
Say = Callable[[str], None]
"""Called with a sentence for the user, from another thread too."""


class Windows:
    """The child, as its parent sees it.

    Attributes:
        open: the runs that the child was told of and that are not complete in a window; each with its folder and mode.
    """

    def __init__(self, say: Say) -> None:
        self.process: Any = subprocess.Popen(
            [sys.executable, "-m", "lorax_lab.windows.child", str(DEADLINE)], bufsize=0, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        # a pipe that is full loses a message and stops no run
        os.set_blocking(self.process.stdin.fileno(), False)  # type: ignore[union-attr]
        self.say = say
        self.open: dict[str, tuple[Path, str]] = {}
        self.ears = threading.Thread(target=self._hear, daemon=True)
        self.ears.start()

    def send(self, message: dict[str, Any]) -> None:
        """A line to the child, which may be gone."""
        with suppress(OSError, ValueError):  # ValueError: the pipe is closed
            self.process.stdin.write(json.dumps(message).encode() + b"\n")

    def end(self, folder: Path) -> None:
        """Have the end of a run shown, as it is recorded."""
        with suppress(Exception):  # the child says what it lacks
            contents.leave_update(folder)
        self.send({"over": str(folder.resolve())})

    def _hear(self) -> None:
        with self.process.stdin, self.process.stdout as lines:
            for message in map(json.loads, lines):
                if message.get("url"):
                    self.say(f"{message['library']}: {message['url']}")
                elif "why" in message:
                    self._forget(message["run"], message["why"])
        self.process.wait()
        for run_id in list(self.open):
            self._forget(run_id, f"the process that shows runs ended, or hung for {DEADLINE:g} s")

    def _forget(self, run_id: str, why: str) -> None:
        """A run is complete in its window, or never will be: why not?"""
        folder, mode = self.open.pop(run_id, (Path(run_id), ""))
        if why and mode:
            again = later(folder.parent, mode)
            self.say(f"{library_of(mode)} lacks {run_id} ({why}); its record does not depend on it; later: {again}")

    def wait(self) -> None:
        """Wait until the runs that are over are shown. The child ends itself if it gets on with none for its deadline.
        Whoever interrupts the wait ends only the wait."""
        with suppress(KeyboardInterrupt):
            self.ears.join(QUIET)
            if self.ears.is_alive():
                self.say(f"waiting about {DEADLINE:g} s at most until the last runs are shown; Ctrl-C does not wait")
                self.ears.join(2 * DEADLINE)


_CURRENT: list[Windows] = []
"""The child of this process, once it has one."""


@contextmanager
def watched(folder: Path, group: str, tracking: TrackingConfig, say: Say) -> Iterator[Sink]:
    """What the block trains is written down step by step, and shown live as part of the sweep `group`. The block is
    given the sink for the steps, and records how the run ends before it ends itself: the window then shows the record.
    """
    with written(folder, group) as sink:
        windows = _begin(folder, group, tracking, say)
        try:
            yield sink
        finally:
            if windows:
                windows.end(folder)


def show(folder: Path, tracking: TrackingConfig, say: Say) -> None:
    """Show a run that is over, without waiting for it."""
    if windows := _begin(folder, "", tracking, say):
        windows.end(folder)


def _begin(folder: Path, group: str, tracking: TrackingConfig, say: Say) -> Windows | None:
    """Announce a run to the child of this process, or to a new one. None where nothing is shown."""
    if tracking.mode not in MODES:
        return None
    if not _CURRENT or _CURRENT[0].process.poll() is not None:
        try:
            _CURRENT[:] = [Windows(say)]
        except OSError as error:
            say(f"{library_of(tracking.mode)} lacks {folder.name} ({error}); later: {later(folder.parent)}")
            return None
    windows = _CURRENT[0]
    windows.open[folder.name] = (folder, tracking.mode)
    windows.send({"folder": str(folder.resolve()), "group": group, "tracking": asdict(tracking)})
    return windows


def close(wait: bool = True) -> None:
    """This process trains no more runs: `wait` until the last are shown, for the deadline at most, which the child has
    without this process too."""
    while _CURRENT:
        windows = _CURRENT.pop()
        windows.process.stdin.close()
        if wait:
            windows.wait()


def later(runs_dir: Path, mode: str = "online") -> str:
    """The command that shows what a window lacks."""
    words = ["python", "-m", "lorax_lab.windows", "sync", str(runs_dir)]
    return shlex.join(words + (["--mode", TRACKIO] if mode == TRACKIO else []))
