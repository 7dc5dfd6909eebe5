"""The process that shows runs, one after the other; `lorax_lab.windows` starts it. It alone calls W&B or Trackio.

Its standard input has a line for each run that begins, and one when that run is over. Meanwhile it mirrors the run's
`progress.jsonl`; at the end it shows the record. When the input ends, its parent is done, or dead as after a kill. What
is open then has the deadline to close, and this process ends, whatever a server does.
"""

from __future__ import annotations

import calendar
import json
import os
import signal
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from filelock import FileLock

from lorax_lab.record.files import sha256_of, write_json
from lorax_lab.record.folder import load_spectra, read_history
from lorax_lab.record.output import guard
from lorax_lab.record.record import RECORD, Record, read_record
from lorax_lab.record.redact import redacted
from lorax_lab.windows import contents
from lorax_lab.windows.library import Window, library_of, resolve
from lorax_lab.windows.progress import PROGRESS, Reader, Row

LOOK = 0.5
"""Seconds between looks at a run's steps."""
NICE = 10
"""What the priority is lowered by: training goes first."""
GRACE = 8.0
"""Seconds in which somebody else may still record how a run ended whose process is gone."""
GONE = "its process is gone and left no record of its end: by a person, or because memory ran out"
Order = dict[str, Any]
"""`folder` of a run; `place`, where its attempt leaves its files until they are whole; `group`; `tracking`."""


def shown_in(folder: Path, mode: str) -> dict[str, Any]:
    """The mark of a window that has all of a run's record, with `mode` and `url`; empty where none has. A record that
    has changed since, as by a later comparison, is not shown."""
    try:
        mark = json.loads((folder / f"{library_of(mode)}.json").read_text(encoding="utf-8"))
        return dict(mark) if mark["record_sha256"] == sha256_of(folder / RECORD) else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


class Child:
    """What the process does.

    Attributes:
        since: when the input ended, or a window was whole after that; the deadline counts from it.
    """

    def __init__(self, deadline: float, tell: Callable[[dict[str, Any]], None]) -> None:
        self.deadline, self.tell, self.since = deadline, tell, time.monotonic()
        self.messages: Queue[Order | None] = Queue()

    def serve(self) -> None:
        """Show each run that is announced, until the input ends."""
        threading.Thread(target=self._listen, daemon=True).start()
        while (order := self.messages.get()) is not None:
            run_id = Path(order["folder"]).name
            try:
                self.tell({"run": run_id, "whole": self.show(order)})
                self.since = time.monotonic()
            except Exception as error:
                self.tell({"run": run_id, "why": f"{type(error).__name__}: {' '.join(str(error).split())}"})

    def _listen(self) -> None:
        for line in sys.stdin:
            self.messages.put(json.loads(line))
        self.messages.put(None)
        self.since = time.monotonic()
        while time.monotonic() - self.since < self.deadline:
            time.sleep(LOOK)
        os.kill(os.getpid(), signal.SIGKILL)  # W&B's own process ends with this one

    def _is_over(self) -> bool:
        """Wait a moment; whether the parent has said that the run is over, or is gone itself."""
        try:
            message = self.messages.get(timeout=LOOK)
        except Empty:
            return False
        if message is None:
            self.messages.put(None)
        return True

    def show(self, order: Order) -> dict[str, Any]:
        """Show a run from its first step to its end, and return the mark that its folder then has.

        Raises:
            Exception: whatever the library raises. The end of the run may be shown nevertheless, without its curves.
        """
        folder, place, tracking = Path(order["folder"]), Path(order["place"]), order["tracking"]
        mode, window, is_over = resolve(tracking["mode"]), None, False
        if mode == "disabled":
            return {}
        files = folder.parent / library_of(mode)
        files.mkdir(parents=True, exist_ok=True)
        with FileLock(files / f"{folder.name}.lock", timeout=2 * self.deadline):  # an earlier attempt's may be open
            reader = Reader(place / PROGRESS)
            while not is_over:
                is_over = self._is_over()
                is_begun = (place / RECORD).exists()
                here = place if is_begun else folder
                reader.path = here / PROGRESS
                reader.read()
                if window is None and (is_over or (is_begun and reader.is_at_work)):
                    group = order["group"] or reader.group
                    window = Window(mode, read_record(here), group, tracking, folder.parent)
                    self.tell({"run": folder.name, "url": window.url})
                if window is not None:
                    window.show(reader.rows[bisect_right(reader.rows, window.step, key=lambda row: row.step) :])
            assert window is not None
            return _show_end(window, here, folder.parent, reader.rows, tracking)


def _show_end(
    window: Window, folder: Path, runs_dir: Path, rows: list[Row], tracking: dict[str, Any]
) -> dict[str, Any]:
    """Show what a run's record says: first its end and its whole summary, so that nothing later can keep them back."""
    record, digest = _final(folder), sha256_of(folder / RECORD)
    window.end(contents.summary(record, folder, runs_dir), contents.end_tags(record))
    try:
        if record.result is not None:
            _show_result(window, record, folder, rows)
            if tracking["artifacts"] and record.result.matrices:
                names = sorted(name for name in record.result.files if name.endswith((".safetensors", ".json")))
                window.keep(record.run_id, [folder / name for name in names])
    finally:
        window.close(record.status)
    mark = {"mode": window.mode, "project": tracking["project"], "url": window.url, "record_sha256": digest}
    with suppress(OSError):
        write_json(folder / f"{library_of(window.mode)}.json", mark)
    return mark


def _final(folder: Path) -> Record:
    """The record of a run that is over. One that was killed could not say so; perhaps whoever started it does."""
    end = time.monotonic() + GRACE
    while (record := read_record(folder)).status == "running":
        if time.monotonic() > end:
            return replace(record, status="killed", reason=GONE)
        time.sleep(LOOK)
    return record


def _show_result(window: Window, record: Record, folder: Path, rows: list[Row]) -> None:
    """What only a completed run has: steps that `progress.jsonl` lacks, its curves and its map."""
    at = rows[-1].at if rows else calendar.timegm(time.strptime(record.written, "%Y-%m-%dT%H:%M:%SZ"))
    runtime = rows[-1].runtime if rows else None
    for metrics in read_history(folder):
        step = int(metrics.pop("step") or 0)
        if step > window.step:
            window.log(Row(step, at, runtime, metrics))
    spectra = load_spectra(folder) if record.completed.matrices else {}
    for values in contents.curves(record, spectra):
        window.log(Row(window.step + 1, at, runtime, values))
    if record.completed.matrices:
        from lorax_lab.record.measures import rows_of  # imports torch

        picture = contents.heat_map(rows_of(record.completed.matrices, spectra), record.method)
        window.draw("spectrum/effective_rank_map", picture, Row(window.step + 1, at, runtime, {}))


def main(deadline: float) -> None:
    """Serve the parent that wrote this command."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(NICE)
    os.environ["OMP_NUM_THREADS"] = "1"
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    sys.stdout = sys.stderr  # libraries print
    guard()

    def tell(message: dict[str, Any]) -> None:
        with suppress(OSError):  # the parent may be gone
            answers.write(json.dumps(redacted(message)) + "\n")

    Child(deadline, tell).serve()
    os._exit(0)  # what W&B does when Python ends may hang too


if __name__ == "__main__":
    main(float(sys.argv[1]))
