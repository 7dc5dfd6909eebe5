"""`progress.jsonl`: a line for each step of a run as it is made, with its time. Windows mirror it.

An attempt begins with a line of its own; of a step that is made again the last line counts. No result is read from
this file, so a line that cannot be written is lost, and the run goes on.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time
from typing import Any, NamedTuple

PROGRESS = "progress.jsonl"
Sink = Callable[[int, int, Mapping[str, float]], None]
"""Called after each training step as `sink(step, steps, metrics)`."""


class Row(NamedTuple):
    """One step of a run: when it was done (seconds since 1970), and its metrics."""

    step: int
    at: float
    values: dict[str, float | None]


@contextmanager
def written(folder: Path, group: str) -> Iterator[Sink]:
    """Begin an attempt. The block is given the sink that writes its steps to `folder`; windows show the sweep as
    `group`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / PROGRESS).open("ab", buffering=0)

    def write(line: Mapping[str, Any], before: str = "") -> None:
        with suppress(OSError):
            file.write(f"{before}{json.dumps(line)}\n".encode())

    def sink(step: int, steps: int, metrics: Mapping[str, float]) -> None:
        values = {key: value if math.isfinite(value) else None for key, value in metrics.items() if key != "step"}
        write({"step": step, "at": time()} | values)

    with file:
        write({"begin": time(), "group": group}, "\n")  # a line that a killed process left unfinished ends here
        yield sink


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
        self._read_to = 0

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
            self.group, self.is_at_work = str(line["group"]), not self.rows
            return
        step, at = int(line.pop("step")), float(line.pop("at"))
        while self.rows and self.rows[-1].step >= step:
            self.rows.pop()
        self.rows.append(Row(step, at, line))
        self.is_at_work = True
