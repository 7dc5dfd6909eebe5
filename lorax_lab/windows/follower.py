"""The process that shows the runs of a sweep in their windows while they train.

A sweep starts one follower. Whoever tries a run of the sweep, in whatever process, leaves an order in
`<runs_dir>/.tracking/<launch>/`, and goes on. The follower forks a process for each order: what one window does, or
fails to do, touches no other. It has low priority, and imports once what windows need: what opens one with the first
order, what draws after the second, so that a run alone is not slowed by what only its end needs. It ends when the sweep
has ended and all is shown, and it outlives a sweep that is killed, to say so.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from lorax_lab.record.output import guard
from lorax_lab.record.record import DamagedRecord, read_record
from lorax_lab.record.redact import redact
from lorax_lab.windows import marks
from lorax_lab.windows.door import door_of
from lorax_lab.windows.follow import LOOK, follow
from lorax_lab.windows.orders import FOLDER, Order, claimed
from lorax_lab.windows.processes import seconds_of
from lorax_lab.windows.progress import PROGRESS, Reader

PATIENCE = 90.0
"""Seconds that a window gets to take what it lacks when its run is over; then its process is ended."""
MOST = 600.0
"""Seconds that it gets where it works: on a machine that trains, drawing may take longer."""
WORKS = 0.02
"""Share of that time in which a process that works uses a processor; one that hangs only looks who is there."""
NICE = 10
"""What the priority is lowered by: training goes first, and the windows still get on (a tenth of a busy core)."""


class _Child:
    """The process that shows one run."""

    def __init__(self, order: Order, pid: int) -> None:
        self.order, self.pid = order, pid
        self.over_since: float | None = None
        self.used = 0.0
        self.reader = Reader(order.place / PROGRESS)

    def is_late(self, patience: float) -> bool:
        """Whether its run has ended, or its process is gone, for longer than the window may take: up to `MOST` where it
        still works."""
        if self.over_since is None and self._is_over():
            self.over_since, self.used = time.monotonic(), seconds_of(self.pid)
        waited = 0.0 if self.over_since is None else time.monotonic() - self.over_since
        if waited <= patience:
            return False
        used = seconds_of(self.pid) - self.used  # NaN of a process that has just ended, which is not late
        return waited > MOST or math.isnan(self.used) or used < WORKS * waited

    def _is_over(self) -> bool:
        place = self.order.place if self.order.place.exists() else self.order.folder
        with suppress(FileNotFoundError, DamagedRecord):
            if read_record(place).status != "running":
                return True
        self.reader.read()
        return not self.reader.lives()

    def end(self) -> None:
        """End it. W&B's own process, which has a session of its own, ends when this one is gone."""
        with suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)


class Follower:
    """What the process does: a child for each order."""

    def __init__(self, runs_dir: Path, launch: str, patience: float = PATIENCE) -> None:
        self.folder, self.patience = runs_dir / FOLDER / launch, patience
        self.children: list[_Child] = []
        self.waiting: list[Order] = []
        self.served, self.draws = 0, False

    def serve(self, owner: int) -> None:
        """Take orders until the sweep has ended, which closes the pipe, and every child too.

        Args:
            owner: descriptor of the pipe from the sweep.
        """
        ended = False
        while True:
            self._take()
            self._reap()
            if ended and not self.children and not self.waiting and not list(self.folder.glob("*.json")):
                break
            if ended:
                time.sleep(LOOK)
            elif select.select([owner], [], [], LOOK)[0]:
                ended = not os.read(owner, 1)
        with suppress(OSError):
            self.folder.rmdir()

    def _take(self) -> None:
        """Start a child for each order; one whose run is being shown still waits for that."""
        for path in sorted(self.folder.glob("[!.]*.json")):
            try:
                self.waiting.append(Order.of(json.loads(path.read_text(encoding="utf-8"))))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                _tell({"run": path.stem, "why": f"its order cannot be read: {type(error).__name__}: {error}"})
            path.unlink(missing_ok=True)
        busy = {child.order.folder for child in self.children}
        for order in [order for order in self.waiting if order.folder not in busy]:
            self.waiting.remove(order)
            self.served += 1
            _prepare(order)
            self.children.append(_Child(order, self._fork(order)))
        if self.served > 1 and not self.draws:
            self.draws = True
            _prepare_to_draw()

    def _fork(self, order: Order) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            os.setpgid(0, 0)
            threading.Thread(target=self._end_alone, args=(order, parent), daemon=True).start()
            code = show(order)
        finally:
            os._exit(code)

    def _end_alone(self, order: Order, parent: int) -> None:
        """In a child: end it as `_reap` would, where the follower was killed and nobody else does."""
        this = _Child(order, os.getpid())
        while os.getppid() == parent or not this.is_late(self.patience):
            time.sleep(LOOK)
        _failed(order, f"it took more than {self.patience:g} s")
        this.end()

    def _reap(self) -> None:
        for child in list(self.children):
            ended, status = os.waitpid(child.pid, os.WNOHANG)
            late = not ended and child.is_late(self.patience)
            if late:
                child.end()
                os.waitpid(child.pid, 0)
            if ended or late:
                self.children.remove(child)
                code = os.waitstatus_to_exitcode(status)
                if late:
                    _failed(child.order, f"it took more than {self.patience:g} s")
                elif code != 0 and code != SAID:
                    _failed(child.order, f"its process ended with status {code}")


CLAIM = 120.0
"""Seconds that a window waits until an earlier one of the same run is closed."""
SAID = 3
"""Exit status of a child that has said why it failed."""


def show(order: Order) -> int:
    """Show a run; returns 0, or `SAID` when it could not and has said why."""
    name = order.folder.name
    try:
        with claimed(order.folder, CLAIM):
            follow(order, lambda message: _tell(message | {"run": name}))
    except Exception as error:
        _failed(order, f"{type(error).__name__}: {' '.join(str(error).split())}")
        return SAID
    return 0


def _failed(order: Order, why: str) -> None:
    """Say to the sweep, and for later in the mark, why a window lacks a run."""
    marks.fail(order.folder, order.tracking.mode, order.group, why)
    _tell({"run": order.folder.name, "why": why})


def _tell(message: dict[str, Any]) -> None:
    """A line to the sweep, which may be gone."""
    shown = {key: redact(value) if isinstance(value, str) else value for key, value in message.items()}
    with suppress(OSError):
        os.write(1, (json.dumps(shown) + "\n").encode())


def _prepare(order: Order) -> None:
    """Import once what opens a window; what fails here fails in the child, which says so."""
    with suppress(Exception):
        if (door := door_of(order.tracking.mode)) is not None:
            door.prepare(order.folder.parent)


def _prepare_to_draw() -> None:
    """Import once what draws: torch and matplotlib, which take longer than all the rest."""
    with suppress(Exception):
        import lorax_lab.spectra  # noqa: F401
        from lorax_lab.windows import pictures

        pictures.prepare()


def _step_back() -> None:
    """Lower the priority. Linux weighs sessions first, and processes only within their session."""
    with suppress(OSError):
        os.nice(NICE)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(f"{NICE}", encoding="ascii")


def main(arguments: list[str]) -> int:
    """`python -m lorax_lab.windows.follower RUNS LAUNCH`, which a sweep starts."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _step_back()
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        Follower(Path(arguments[0]), arguments[1]).serve(0)
    except Exception as error:
        _tell({"fault": f"{type(error).__name__}: {' '.join(str(error).split())}"})
        return 1
    return 0


if __name__ == "__main__":
    guard()
    sys.exit(main(sys.argv[1:]))
