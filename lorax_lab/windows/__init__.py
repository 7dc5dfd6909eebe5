"""Windows on runs: W&B, Trackio and dashboards. No run waits for a window, and none is changed by one.

A process that trains runs starts one child (`child.py`) with its first run, and tells it through one pipe which run
begins and which is over. The child mirrors the run's files. It may hang or die: the runs go on, and what a window lacks
is said once, with the command that shows it later.
"""

from __future__ import annotations

import atexit
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lorax_lab.config import TrackingConfig
from lorax_lab.windows.library import MODES, TRACKIO, title_of
from lorax_lab.windows.progress import Sink, written

DEADLINE = 60.0
"""Seconds that a window has to close when its run is over."""
QUIET = 1.0
"""Seconds for which the end of a process waits for its windows without a word."""
Say = Callable[[str], None]
"""Called with a sentence for the user, from another thread too."""


class Windows:
    """The child, as its parent sees it.

    Attributes:
        open: the runs that the child was told of and that are not whole in a window; each with its folder and mode.
        over: those of them that have ended.
        since: when the child was last known to get on: a window was whole, or a run ended that it can now show.
        why: what is said of the runs that are open when the child ends.
    """

    def __init__(self, say: Say, deadline: float) -> None:
        words = [sys.executable, "-m", "lorax_lab.windows.child", str(deadline)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process: Any = subprocess.Popen(words, start_new_session=True, bufsize=0, **pipes)  # type: ignore[call-overload]
        os.set_blocking(self.process.stdin.fileno(), False)  # a pipe that is full loses a message and stops no run
        self.say, self.deadline, self.pid, self.since = say, deadline, os.getpid(), time.monotonic()
        self.open: dict[str, tuple[Path, str]] = {}
        self.over: set[str] = set()
        self.why = "the process that shows runs has ended"
        self.ears = threading.Thread(target=self._hear, daemon=True)
        self.ears.start()

    def begin(self, folder: Path, place: Path, group: str, tracking: TrackingConfig) -> None:
        """Have a run shown."""
        self.open[folder.name] = (folder, tracking.mode)
        where = {"folder": str(folder.resolve()), "place": str(place.resolve())}
        self._send(where | {"group": group, "tracking": asdict(tracking)})

    def end(self, run_id: str) -> None:
        """The run is over, and its record says how."""
        if run_id in self.open:
            self.since = self.since if self.over else time.monotonic()
            self.over.add(run_id)
            self._send({"over": run_id})

    def _send(self, message: dict[str, Any]) -> None:
        with suppress(OSError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")

    def _hear(self) -> None:
        with self.process.stdout as lines:
            for message in map(json.loads, lines):
                run_id = message["run"]
                if run_id not in self.open:
                    continue
                if message.get("url"):
                    self.say(f"{title_of(self.open[run_id][1])}: {message['url']}")
                elif "whole" in message:
                    self.since = time.monotonic()
                    self._forget(run_id)
                elif "why" in message:
                    self._forget(run_id, message["why"])
        for run_id in list(self.open):
            self._forget(run_id, self.why)

    def _forget(self, run_id: str, why: str = "") -> None:
        folder, mode = self.open.pop(run_id)
        self.over.discard(run_id)
        if why:
            again = later(folder.parent, mode)
            self.say(f"{title_of(mode)} lacks {run_id} ({why}); its record does not depend on it; later: {again}")

    @property
    def is_late(self) -> bool:
        """Whether a run is over for longer than its window may take."""
        return bool(self.over) and time.monotonic() - self.since > self.deadline

    def kill(self) -> None:
        """End the child; W&B's own process ends with it."""
        self.why = f"it took more than {self.deadline:g} s"
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.ears.join(QUIET)

    def close(self, wait: bool = True) -> None:
        """No more runs come: wait for the runs that are over, and end the child. Whoever interrupts the wait ends only
        the wait: the child has the same time without this process."""
        self.process.stdin.close()
        if not wait:
            return
        with suppress(KeyboardInterrupt):
            began, is_said = time.monotonic(), False
            while self.over and not self.is_late and self.process.poll() is None:
                time.sleep(0.05)
                if time.monotonic() - began > QUIET and not is_said:
                    is_said = True
                    self.say(f"waiting up to {self.deadline:g} s until the last runs are shown; Ctrl-C does not wait")
            self.kill()


_WINDOWS: list[Windows] = []
"""The child of this process, once it has one."""


@contextmanager
def watched(folder: Path, place: Path, group: str, tracking: TrackingConfig, say: Say) -> Iterator[Sink]:
    """What the block trains is written down step by step, and shown live. The block is given the sink for the steps.

    The block also records how the run ends, before it ends itself: the window then shows the record.

    Args:
        folder: of the run. place: where its attempt leaves its files, the same but for a run that is repeated.
        group: the name under which the window shows the sweep.
        say: called with a sentence for the user, from another thread too.
    """
    with written(place, group) as sink:
        windows = _begin(folder, place, group, tracking, say)
        try:
            yield sink
        finally:
            if windows:
                windows.end(folder.name)


def show(folder: Path, group: str, tracking: TrackingConfig, say: Say) -> None:
    """Show a run that is over, without waiting for it.

    Args:
        group: as for `watched`; empty for the one that the run was trained in.
    """
    if windows := _begin(folder, folder, group, tracking, say):
        windows.end(folder.name)


def _begin(folder: Path, place: Path, group: str, tracking: TrackingConfig, say: Say) -> Windows | None:
    """Announce a run to the child of this process, which is started where there is none, or where it is dead or late.
    None where nothing is shown."""
    if tracking.mode not in MODES:
        return None
    if _WINDOWS and _WINDOWS[0].is_late:
        _WINDOWS[0].kill()
    if not _WINDOWS or _WINDOWS[0].process.poll() is not None or _WINDOWS[0].pid != os.getpid():
        try:
            _WINDOWS[:] = [Windows(say, DEADLINE)]
        except OSError as error:
            say(
                f"{title_of(tracking.mode)} lacks {folder.name} ({error}); later: {later(folder.parent, tracking.mode)}"
            )
            return None
        atexit.register(close)
    _WINDOWS[0].begin(folder, place, group, tracking)
    return _WINDOWS[0]


def close(wait: bool = True) -> None:
    """This process trains no more runs: wait until the last are shown, for the deadline at most.

    Args:
        wait: whether to wait at all; the child has the same time without this process.
    """
    while _WINDOWS:
        windows = _WINDOWS.pop()
        if windows.pid == os.getpid():
            windows.close(wait)


def later(runs_dir: Path, mode: str = "online") -> str:
    """The command that shows what a window lacks."""
    words = ["python", "-m", "lorax_lab.windows", "sync", str(runs_dir)]
    return shlex.join(words + (["--mode", TRACKIO] if mode == TRACKIO else []))
