"""`progress.jsonl`: a line for each step of a run as it is made, with its time. Windows mirror it.

An attempt begins with a line of its own. One that goes on from a checkpoint makes some steps again: of a step the last
line counts. No result is read from this file, so a line that cannot be written is lost, and the run goes on.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

PROGRESS = "progress.jsonl"
Sink = Callable[[int, int, Mapping[str, float]], None]
"""Called after each training step as `sink(step, steps, metrics)`."""


@dataclass(frozen=True)
class Row:
    """One step of a run: when it was done (seconds since 1970), how many seconds the run had been at work by then, and
    its metrics. Work that a kill lost counts, so that the time never runs back; pauses do not count."""

    step: int
    at: float
    runtime: float | None
    values: dict[str, float | None]


@contextmanager
def written(folder: Path, group: str) -> Iterator[Sink]:
    """Begin an attempt. The block is given the sink that writes its steps.

    The file is locked during the block. The system gives the lock back however the process ends (`is_written`).

    Args:
        folder: where the run's files go.
        group: the name under which windows show the sweep.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / PROGRESS).open("ab", buffering=0)
    except OSError:
        file = Path(os.devnull).open("ab", buffering=0)  # noqa: SIM115

    def write(line: str) -> None:
        with suppress(OSError):
            file.write(f"{line}\n".encode())

    def sink(step: int, steps: int, metrics: Mapping[str, float]) -> None:
        values = {key: value if math.isfinite(value) else None for key, value in metrics.items() if key != "step"}
        write(json.dumps({"step": step, "at": time()} | values))

    with file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write("")  # a line that a killed process left unfinished ends here
        write(json.dumps({"begin": time(), "group": group}))
        yield sink


def is_written(folder: Path) -> bool:
    """Whether a process makes an attempt at the run right now."""
    try:
        with (folder / PROGRESS).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


@dataclass
class Reader:
    """Reads a `progress.jsonl` that grows.

    Attributes:
        rows: ascending by step; of a step that was made again the last.
        group: the name under which windows show the sweep.
        is_at_work: whether the last attempt has made a step, or there are no steps of an earlier one. Until then it is
            not known which of the earlier steps are lost.
    """

    path: Path
    rows: list[Row] = field(default_factory=list)
    group: str = "sync"
    is_at_work: bool = True
    _offset: int = 0
    _unfinished: bytes = b""
    _began: float = 0.0
    _before: float = 0.0
    """Seconds that the run had been at work when the last attempt began."""

    def read(self) -> list[Row]:
        """Read what was written since the last time, and return all rows. A line that is no row of ours is left out."""
        with suppress(OSError), self.path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
            self._offset += len(new)
            *lines, self._unfinished = (self._unfinished + new).split(b"\n")
            for line in lines:
                with suppress(ValueError, TypeError, KeyError, RecursionError):
                    self._take(json.loads(line))
        return self.rows

    def _take(self, line: dict[str, Any]) -> None:
        if "begin" in line:
            self._began, self.group = float(line["begin"]), str(line["group"])
            self._before = (self.rows[-1].runtime or 0.0) if self.rows else 0.0
            self.is_at_work = not self.rows
            return
        step, at = int(line.pop("step")), float(line.pop("at"))
        while self.rows and self.rows[-1].step >= step:
            self.rows.pop()
        self.rows.append(Row(step, at, self._before + at - self._began, line))
        self.is_at_work = True
