"""`progress.jsonl`: what a run does, a line for each step as it is made, with its time.

It is what a window shows while the run trains, and what tells the times of its steps ever after. The results are
elsewhere: no number is read back from it into a record. An attempt begins with a line that names its process, and its
rows follow. An attempt that goes on from a checkpoint makes some steps again; of a step the last row counts.

A line that cannot be written is lost, and the run goes on.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

from lorax_lab.windows.processes import here, start_of

PROGRESS = "progress.jsonl"
QUIET = 3600.0
"""Seconds after which a run of another machine that writes nothing counts as ended."""


@dataclass(frozen=True)
class Row:
    """One step of a run: when it was done (seconds since 1970), how many seconds the run had been at work by then (None
    where that is not known), and its metrics. Work that a kill lost counts too, so that time never runs back in a
    window which had shown it; pauses do not count."""

    step: int
    at: float
    runtime: float | None
    values: dict[str, float | None]


@dataclass(frozen=True)
class Begin:
    """The begin of an attempt: when, and the process that makes it."""

    at: float
    place: str
    pid: int
    started: str
    group: str


def this_place() -> str:
    """This machine since it was started, as a hash: a window's files name no machine."""
    return hashlib.sha256(here()[0].encode()).hexdigest()[:16]


@contextmanager
def written(folder: Path, group: str) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Begin an attempt in `progress.jsonl`; the block writes a row by calling what it is given with (step, metrics).

    Args:
        folder: where the run's files go.
        group: the name under which a window shows the sweep.
    """
    _, _, pid, started = here()
    handle = None
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / PROGRESS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(line: Mapping[str, Any]) -> None:
        if handle is not None:
            with suppress(OSError):
                os.write(handle, (json.dumps(line) + "\n").encode())

    def row(step: int, metrics: Mapping[str, float]) -> None:
        finite = {key: value if math.isfinite(value) else None for key, value in metrics.items() if key != "step"}
        write({"step": step, "at": time()} | finite)

    try:
        if handle is not None:
            with suppress(OSError):
                os.write(handle, b"\n")  # a line that a killed process left unfinished ends here
        write({"begin": time(), "place": this_place(), "pid": pid, "started": started, "group": group})
        yield row
    finally:
        if handle is not None:
            os.close(handle)


@dataclass
class Reader:
    """Reads a `progress.jsonl` that grows.

    Attributes:
        rows: of the run by now, ascending by step; of a step that was made again the last.
        begin: of the last attempt; None before the first line.
        changed: whether the last attempt made a step again that had other values before, as other code does.
    """

    path: Path
    rows: list[Row] = field(default_factory=list)
    begin: Begin | None = None
    changed: bool = False
    began: float | None = None
    """When the first attempt began, in seconds since 1970."""
    _offset: int = 0
    _held: bytes = b""
    _before: dict[int, dict[str, float | None]] = field(default_factory=dict)
    """The values of steps that are to be made again."""
    _worked: float = 0.0
    """Seconds that the run had been at work when the last attempt began."""
    _last: float = 0.0
    """Seconds that it had been at work by the last line."""

    def read(self) -> None:
        """Read what was written since the last time. A line that is no row of ours is left out."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except OSError:
            return
        self._offset += len(new)
        *lines, self._held = (self._held + new).split(b"\n")
        for line in lines:
            with suppress(ValueError, TypeError, KeyError, RecursionError):
                self._take(json.loads(line))

    def _take(self, line: dict[str, Any]) -> None:
        if "begin" in line:
            names = ("place", "pid", "started", "group")
            self.begin = Begin(float(line["begin"]), *(line[name] for name in names))
            self._worked, self.changed = self._last, False
            self.began = self.began or self.begin.at
        elif self.begin is not None:
            step, at = int(line["step"]), float(line["at"])
            values = {key: value for key, value in line.items() if key not in ("step", "at")}
            while self.rows and self.rows[-1].step >= step:
                old = self.rows.pop()
                self._before[old.step] = old.values
            if step in self._before and self._before.pop(step) != values:
                self.changed = True
            self._last = self._worked + at - self.begin.at
            self.rows.append(Row(step, at, self._last, values))

    def lives(self) -> bool:
        """Whether the process of the last attempt is there. One on another machine counts as there while it writes."""
        begin = self.begin
        if begin is None:
            return False
        if begin.place == this_place():
            return bool(begin.started) and start_of(begin.pid) == begin.started
        try:
            return time() - self.path.stat().st_mtime < QUIET
        except OSError:
            return False


def with_history(rows: list[Row], history: list[dict[str, float | None]], unknown: float) -> list[Row]:
    """The rows of a completed run: the values of its learning curve, with the times of the rows where they are known.

    Args:
        history: as `read_history` gives it.
        unknown: the time of a step that no row tells, in seconds since 1970.
    """
    known = {row.step: row for row in rows}
    nothing = Row(0, unknown, None, {})
    complete = []
    for metrics in history:
        step = int(metrics["step"] or 0)
        timed = known.get(step, nothing)
        values = {key: value for key, value in metrics.items() if key != "step"}
        complete.append(Row(step, timed.at, timed.runtime, values))
    return complete
