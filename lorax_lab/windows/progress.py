"""`progress.jsonl`: a line for each step of a run as it is made, with its time. Windows mirror it.

An attempt begins with a line of its own; of a step that is made again the last line counts. No result is read from
this file, so a line that cannot be written is lost, and the run goes on.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time
from typing import Any, NamedTuple

PROGRESS = "progress.jsonl"
Sink = Callable[[int, int, Mapping[str, float]], None]
"""Called after each training step as `sink(step, steps, metrics)`."""


class Row(NamedTuple):
    """One step of a run: when it was done (seconds since 1970), how many seconds the run had been at work by then,
    without pauses but with work that a kill lost, and its metrics."""

    step: int
    at: float
    seconds: float
    values: dict[str, float | None]


@contextmanager
def written(folder: Path, group: str) -> Iterator[Sink]:
    """Begin an attempt. The block is given the sink that writes its steps to `folder`; windows show the sweep as
    `group`. The file is locked during the block, however the process ends (`is_written`)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / PROGRESS).open("ab", buffering=0)
    except OSError:
        file = Path(os.devnull).open("ab", buffering=0)  # noqa: SIM115

    def write(line: Mapping[str, Any]) -> None:
        with suppress(OSError):
            file.write(f"{json.dumps(line)}\n".encode())

    def sink(step: int, steps: int, metrics: Mapping[str, float]) -> None:
        values = {key: value if math.isfinite(value) else None for key, value in metrics.items() if key != "step"}
        write({"step": step, "at": time()} | values)

    with file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(b"\n")  # a line that a killed process left unfinished ends here
        write({"begin": time(), "group": group})
        yield sink


def is_written(folder: Path) -> bool:
    """Whether a process makes an attempt at the run right now."""
    with suppress(FileNotFoundError), (folder / PROGRESS).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class Reader:
    """Reads a `progress.jsonl` that grows.

    Attributes:
        rows: ascending by step; of a step that was made again the last.
        is_at_work: whether the last attempt has made a step, or there are no steps of an earlier one. Until then it is
            not known which of the earlier steps are lost.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.group, self.is_at_work = path, "sync", True
        self.rows: list[Row] = []
        self._read_to, self._began, self._seconds_before = 0, 0.0, 0.0

    def read(self) -> list[Row]:
        """Read the lines that were finished since the last time, and return all rows. A line that is no row of ours is
        left out."""
        with suppress(OSError), self.path.open("rb") as file:
            file.seek(self._read_to)
            for line in file:
                if line.endswith(b"\n"):
                    self._read_to += len(line)
                    with suppress(ValueError, TypeError, KeyError, AttributeError):
                        self._take(json.loads(line))
        return self.rows

    def _take(self, line: dict[str, Any]) -> None:
        if "begin" in line:
            self._began, self.group = float(line["begin"]), str(line["group"])
            self._seconds_before, self.is_at_work = self.rows[-1].seconds if self.rows else 0.0, not self.rows
            return
        step, at = int(line.pop("step")), float(line.pop("at"))
        while self.rows and self.rows[-1].step >= step:
            self.rows.pop()
        self.rows.append(Row(step, at, self._seconds_before + at - self._began, line))
        self.is_at_work = True
