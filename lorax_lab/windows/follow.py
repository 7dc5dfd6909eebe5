"""Show one run in its window, from its first step to its end: what a follower does in a process of its own.

It reads files and writes only `wandb.json` and what the window keeps. It knows that a run is over from its record, and
that its process is gone from the system: a run that was killed cannot say so itself.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from lorax_lab.record.files import sha256_of
from lorax_lab.record.folder import HISTORY, check_file, load_spectra, read_history
from lorax_lab.record.record import RECORD, Record, read_record
from lorax_lab.windows import marks, window
from lorax_lab.windows.door import Door, Window, door_of
from lorax_lab.windows.orders import Order
from lorax_lab.windows.progress import PROGRESS, Reader, Row, with_history

LOOK = 0.5
"""Seconds between looks at a run's files."""
GRACE = 8.0
"""Seconds after the end of a run's process in which its sweep may still record why."""
GONE = "its process is gone and left no record of its end: by a person, or because memory ran out"
ADAPTER = "adapter"
Tell = Callable[[dict[str, Any]], None]
"""Called with `{"url": …}` once the window is open."""


class PartlyShown(RuntimeError):
    """A window has a run's end, and lacks curves or pictures: a file of the run is gone or damaged."""


def follow(order: Order, tell: Tell = lambda message: None) -> None:
    """Show a run until its end, or at once where it has ended.

    Raises:
        Exception: whatever the window's library raises; of a window that was opened, the mark then says why.
            PartlyShown: the end is shown, but not all the rest.
            DamagedRecord, FileNotFoundError: there is no run to show.
    """
    door = door_of(order.tracking.mode)
    mode = door.resolve(order.tracking.mode) if door else "disabled"
    if door is None or mode == "disabled":
        return
    _Followed(door, order, mode, tell).show()


class _Followed:
    """A run, its open window, and how far it is shown."""

    def __init__(self, door: Door, order: Order, mode: str, tell: Tell) -> None:
        self.door, self.order, self.tell = door, order, tell
        self.reader = Reader(order.place / PROGRESS)
        self.reader.read()
        record = self._record()
        began = self.reader.began or time.time()
        self.start = window.start_of(record, order.group, began, asdict(order.tracking), mode, order.folder.parent)
        self.window = self._open(order.resume and marks.was_opened(self._folder(), mode))
        self.shown = self.window.next_step - 1

    def _open(self, resume: bool) -> Window:
        opened = self.door.open_window(self.start, window.AXES, resume)
        opened.summary({"status": "running", "status/why": ""})  # not the end of an attempt before
        marks.begin(self._folder(), self.start, opened.url)
        self.tell({"url": opened.url})
        return opened

    def show(self) -> None:
        """Show the rows as they come, then the end."""
        try:
            self._show()
        except Exception as error:
            marks.fail(self._folder(), self.start.mode, self.start.group, f"{type(error).__name__}: {error}")
            raise

    def _show(self) -> None:
        while (record := self._ended()) is None:
            self._rows(self._new_rows())
            time.sleep(LOOK)
        if record.launch != self.order.launch and self.order.launch is not None and record.status == "running":
            return  # another sweep has taken the run over, and shows it
        self._rows(self._new_rows())
        self._show_end(record)

    def _new_rows(self) -> list[Row]:
        self.reader.read()
        if self.order.resume and self.reader.changed:  # what the window has is of an attempt with other results
            self.window.close(0)
            self.order = replace(self.order, resume=False)
            self.window, self.shown = self._open(False), -1
        return self.reader.rows

    def _rows(self, rows: list[Row]) -> None:
        """Show the rows that the window lacks."""
        first = len(rows)
        while first and rows[first - 1].step > self.shown:
            first -= 1
        for row in rows[first:]:
            self.window.row(row)
            self.shown = row.step

    def _folder(self) -> Path:
        """Where the run's files are now: a forced run's take the place of the earlier one's when it is whole."""
        return self.order.place if (self.order.place / RECORD).exists() else self.order.folder

    def _record(self) -> Record:
        try:
            return read_record(self._folder())
        except FileNotFoundError:
            return read_record(self.order.folder)

    def _ended(self) -> Record | None:
        """The record of a run that is over; of one that was killed, and cannot say so, what it would say."""
        record = self._record()
        if record.status == "completed" and self._folder() != self.order.folder:  # not in its place yet
            self.reader.read()
            return None if self.reader.lives() else replace(record, status="killed", reason=GONE, result=None)
        taken = self.order.launch is not None and record.launch not in (None, self.order.launch)
        if record.status != "running" or taken:
            return record
        self.reader.read()
        if self.reader.lives():
            return None
        end = time.monotonic() + (GRACE if self.order.launch else 0.0)
        while time.monotonic() < end:
            time.sleep(LOOK)
            record = self._record()
            if record.status != "running" or self.reader.lives():
                return record if record.status != "running" else None
        return replace(record, status="killed", reason=GONE)

    def _show_end(self, record: Record) -> None:
        folder, shown = self._folder(), ""
        with suppress(OSError):
            shown = sha256_of(folder / RECORD)  # first: what changes meanwhile is shown again by `sync`
        values = window.end_of(record.status, record.reason)
        self.window.summary(values)  # first: whatever else cannot be shown, the end is
        if tags := window.end_tags(record):
            self.window.tags(tags)
        try:
            self._show_rest(record, folder, values)
        finally:
            self.window.close(window.EXIT[record.status])
        marks.end(folder, self.start, self.window.url, shown)

    def _show_rest(self, record: Record, folder: Path, values: dict[str, Any]) -> None:
        """What a run has beside its end; the summary comes after the last row, whose values it replaces."""
        try:
            if record.status == "completed":
                self._show_result(record, folder)
        except (OSError, ValueError, LookupError, TypeError, BadZipFile) as error:
            why = f"{type(error).__name__}: {error}"
            raise PartlyShown(f"its end is shown, but not all of its curves and pictures: {why}") from error
        finally:
            if record.status == "completed":
                values |= window.summary(record, self.order.folder.parent)
            if rows := self.reader.rows:
                times = {"_timestamp": rows[-1].at, "_runtime": rows[-1].runtime}
                values |= {key: value for key, value in times.items() if value is not None}
            self.window.summary({key: value for key, value in values.items() if value is not None})
        self._show_adapter(record, folder)

    def _show_result(self, record: Record, folder: Path) -> None:
        """What only a completed run has: its whole learning curve, its curves and its pictures."""
        from lorax_lab.windows.pictures import pictures

        check_file(folder, HISTORY)
        unknown = calendar.timegm(time.strptime(record.written, "%Y-%m-%dT%H:%M:%SZ"))
        rows = with_history(self.reader.rows, read_history(folder), unknown)
        self._rows(rows)
        last = rows[-1]
        spectra = load_spectra(folder) if record.completed.matrices else {}
        for values in window.curves(record, spectra):
            last = replace(last, step=last.step + 1, values=values)
            self._rows([last])
        for name, picture in pictures(record, spectra).items():
            last = replace(last, step=last.step + 1, values={})
            if last.step > self.shown:
                self.window.picture(name, picture, last)
                self.shown = last.step

    def _show_adapter(self, record: Record, folder: Path) -> None:
        """The trained weights, if they are asked for; a trial has none."""
        if self.order.tracking.artifacts and record.result and record.result.matrices:
            names = [name for name in record.completed.files if name.endswith((".safetensors", ".json"))]
            self.window.artifact(record.run_id, ADAPTER, [folder / name for name in sorted(names)])
