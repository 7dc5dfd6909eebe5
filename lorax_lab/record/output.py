"""Standard output and standard error without secrets: every entry calls `guard` first.

Whatever a process prints goes through these two: the console's lines, warnings, log messages, errors of Hydra, and the
traceback of an exception that nobody caught.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from lorax_lab import errors
from lorax_lab.record.redact import redact


class Redacting:
    """A text stream that hides secrets. It passes on whole lines, and the rest when it is flushed, since a secret may
    be written in pieces. All else it leaves to the stream that it stands before."""

    def __init__(self, stream: Any) -> None:
        self.stream, self._held, self._lock = stream, "", threading.RLock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Pass on the lines that are whole by now."""
        with self._lock:
            text_so_far = self._held + text
            end = 1 + max(text_so_far.rfind("\n"), text_so_far.rfind("\r"))
            self._held = text_so_far[end:]
            self._pass_on(text_so_far[:end])
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Pass on what is there."""
        with self._lock:
            rest, self._held = self._held, ""
            self._pass_on(rest, flush=True)

    def _pass_on(self, text: str, flush: bool = False) -> None:
        """Nobody may read on, as after `| head`: what is printed from then on is dropped, and the work goes on."""
        try:
            if text:
                self.stream.write(redact(text))
            if flush:
                self.stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def guard() -> None:
    """Hide secrets in all that this process prints from now on."""
    errors.hide = redact
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Redacting):
            setattr(sys, name, Redacting(stream))
