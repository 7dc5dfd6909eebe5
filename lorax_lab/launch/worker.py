"""The program of a worker: it trains the runs that come through its pipe, one after the other.

What it prints, how far a run is, and each outcome go back through the pipe; the parent (`workers.py`) shows them.
"""

from __future__ import annotations

import io
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

OFTEN = 0.2
"""Seconds between two messages about how far a run is."""


class Parent(io.TextIOBase):
    """The parent, as its worker sees it: told things, and a standard output. Where it is gone what it is told is lost,
    and the run goes on."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.lock, self.shown, self.unfinished = pipe, threading.Lock(), 0.0, ""

    def report(self, kind: str, **content: Any) -> None:
        """Send one message."""
        with self.lock, suppress(OSError):
            self.pipe.send({"kind": kind} | content)

    def show(self, title: str, done: int, total: int, more: str = "", line: str = "") -> None:
        """Show how far the work is, not more often than can be seen; a `line`, and the end, always."""
        if line or done >= total or time.monotonic() - self.shown >= OFTEN:
            self.shown = time.monotonic()
            self.report("bar", title=title, done=done, total=total, more=more, line=line)

    def write(self, text: str) -> int:
        """Send the lines that are finished by now."""
        *lines, self.unfinished = (self.unfinished + text).split("\n")
        for line in lines:
            self.report("say", text=line)
        return len(text)


def _interrupt_once(*_: Any) -> None:
    """Interrupt what is done; later signals do nothing. `SIG_IGN` in their place would have Python complain of one that
    came at the same moment."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt


def main(pipe: Connection) -> int:
    """Train the runs that come through the pipe until it is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt_once)
    sys.stdout = parent = Parent(pipe)
    from lorax_lab import windows
    from lorax_lab.launch.runs import attempt
    from lorax_lab.record.redact import guard

    guard()
    try:
        while True:
            parent.report("end", status=attempt(pipe.recv(), parent.show))
    except EOFError:
        windows.close()
        return 0
    except KeyboardInterrupt:
        windows.close(wait=False)
        return 130


if __name__ == "__main__":
    sys.exit(main(Connection(int(sys.argv[1]))))
