"""The process that shows runs, one after the other; `lorax_lab.windows` starts it. It alone calls W&B or Trackio.

Its standard input has a line for each run that begins, and one when that run is over. Meanwhile it mirrors the run's
`progress.jsonl`; at the end it shows the record. When the input ends, its parent is done, or dead as after a kill. What
is open then has the deadline to close, and this process ends, whatever a server does.
"""

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
from datetime import datetime
from itertools import chain
from pathlib import Path
from queue import Empty, Queue
from tempfile import mkdtemp
from typing import Any

from filelock import FileLock

from lorax_lab.record.files import sha256_of, write_json
from lorax_lab.record.folder import read_history
from lorax_lab.record.progress import PROGRESS, Reader
from lorax_lab.record.record import RECORD, Record, read_record
from lorax_lab.record.redact import guard, redacted
from lorax_lab.windows import contents
from lorax_lab.windows.library import Window, library_of, resolve

LOOK = 0.5
"""Seconds between looks at a run's steps."""


def shown_in(folder: Path, mode: str) -> dict[str, Any]:
    """The mark of a window that has all of a run's record as it is now, with `mode` and `url`; empty where none has."""
    path = folder / f"{library_of(mode)}.json"
    mark: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return mark if mark.get("record_sha256") == sha256_of(folder / RECORD) else {}


class Child:
    """What the process does.

    Attributes:
        over: how many runs are over, by the input, and not shown yet. While there are any, the system ends this
            process, and so W&B's own, if none of them is shown within the deadline.
    """

    def __init__(self, deadline: float, tell: Callable[[dict[str, Any]], None]) -> None:
        self.deadline, self.tell, self.over = deadline, tell, 0
        self.messages: Queue[dict[str, Any] | None] = Queue()
        self.counting = threading.Lock()

    def serve(self) -> None:
        """Show each run that is announced, until the input ends."""
        threading.Thread(target=self._listen, daemon=True).start()
        while (order := self.messages.get()) is not None:
            if "over" in order:  # of a run whose window failed before
                Path(order["over"], contents.UPDATE).unlink(missing_ok=True)
                continue
            why = ""
            try:
                self.show(order)
            except Exception as error:
                why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            with self.counting:
                self.over -= 1
                signal.setitimer(signal.ITIMER_REAL, self.deadline if self.over > 0 else 0.0)
            self.tell({"run": Path(order["folder"]).name, "why": why})

    def _listen(self) -> None:
        for line in chain(sys.stdin, ["null"]):
            message = json.loads(line)
            if message is None or "over" in message:
                with self.counting:
                    self.over += 1
                    if self.over == 1:
                        signal.setitimer(signal.ITIMER_REAL, self.deadline)
            self.messages.put(message)

    def _is_over(self) -> bool:
        """Wait a moment; whether the parent has said that the run is over, or is gone itself."""
        with suppress(Empty):
            if self.messages.get(timeout=LOOK) is None:
                self.messages.put(None)
            return True
        return False

    def show(self, order: dict[str, Any]) -> None:
        """Show a run from its first step to its end, and mark its folder. Whatever the library raises is passed on."""
        folder, tracking = Path(order["folder"]), order["tracking"]
        mode, window, is_over = resolve(tracking["mode"]), None, False
        if mode == "disabled":
            return
        files = folder.parent / library_of(mode)
        files.mkdir(parents=True, exist_ok=True)
        with FileLock(files / f"{folder.name}.lock", timeout=2 * self.deadline):  # an earlier attempt's may be open
            reader = Reader(folder / PROGRESS)
            while not is_over:
                is_over = self._is_over()
                rows = reader.read()
                if window is None and (is_over or (reader.is_at_work and (folder / RECORD).exists())):
                    window = Window(mode, read_record(folder), order["group"] or reader.group, tracking, folder.parent)
                    self.tell({"library": library_of(mode), "url": window.url})
                if window is not None:
                    for row in rows[bisect_right(rows, window.step, key=lambda row: row.step) :]:
                        window.log(row.step, row.at, row.values)
            assert window is not None
            _show_end(window, folder, tracking)


def _show_end(window: Window, folder: Path, tracking: dict[str, Any]) -> None:
    """Show what a run's record says: first its end and its whole summary, so that nothing later can keep them back."""
    record, digest = _final(folder), sha256_of(folder / RECORD)
    left = folder / contents.UPDATE
    update = json.loads(left.read_text(encoding="utf-8")) if left.exists() else {}
    left.unlink(missing_ok=True)
    values = contents.record_values(record, folder.parent) | update.get("values", {})
    window.end(contents.summary(values), contents.configuration(record))
    try:
        if record.result is not None:
            _show_result(window, record, folder, values, update)
            if tracking["artifacts"] and record.result.matrices:
                names = sorted(name for name in record.result.files if name.endswith((".safetensors", ".json")))
                window.keep(record.run_id, "adapter", {}, [folder / name for name in names])
    finally:
        window.close({"completed": 0, "killed": 137}.get(record.status, 1))
    mark = {"mode": window.mode, "url": window.url, "record_sha256": digest}
    with suppress(OSError):
        write_json(folder / f"{library_of(window.mode)}.json", mark)


def _final(folder: Path) -> Record:
    """The record of a run that is over. One that was killed could not say so; perhaps whoever started it does soon."""
    end = time.monotonic() + 8.0
    while (record := read_record(folder)).status == "running":
        if time.monotonic() > end:
            gone = "its process is gone and left no record of its end: by a person, or because memory ran out"
            return replace(record, status="killed", reason=gone)
        time.sleep(LOOK)
    return record


def _show_result(window: Window, record: Record, folder: Path, values: dict[str, Any], update: dict[str, Any]) -> None:
    """What only a completed run has: steps that `progress.jsonl` lacks, its update, and its other `values`."""
    at = datetime.fromisoformat(record.written).timestamp()
    for metrics in read_history(folder):
        if (step := int(metrics.pop("step") or 0)) > window.step:
            window.log(step, at, metrics)
    make = window.library.Table
    rest = [[key, value] for key, value in values.items() if key not in contents.summary(values)]
    tables = {"record": make(columns=["key", "value"], data=rest, allow_mixed_types=True)}
    if record.completed.matrices:
        if not update:
            raise LookupError("the measures of its update could not be derived")
        columns = ["layer", "module", "share of noise", "effective rank"]
        tables["matrices"] = make(columns=columns, data=update["matrices"])
        tables["spectrum"] = make(columns=["index", "module", "sigma"], data=update["spectrum"])
        picture = window.library.Image(contents.heat_map(update["matrices"]))
        for row in [*update["curves"], {contents.HEAT_MAP: picture}]:
            window.log(window.step + 1, at, row)
    window.keep(f"{record.run_id}-tables", "tables", tables)


def main(deadline: float) -> None:
    """Serve the parent that wrote this command."""
    os.nice(10)  # training goes first
    os.environ |= {"OMP_NUM_THREADS": "1", "WANDB_DATA_DIR": mkdtemp()}  # offline files quote where W&B stages tables
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
