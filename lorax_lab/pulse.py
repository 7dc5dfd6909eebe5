"""The pulse of a run: each training step and each scored batch says that the next begins, and how long it may take. Who
watches a run by its process or its output cannot tell a hang from work."""

import time
from collections import deque
from collections.abc import Callable
from statistics import median

TIMES, LEAST, FIRST = 20, 300.0, 3600.0
"""A step may take so many times the median of those before it, at least so many seconds, and the first one an hour."""
REMEMBERED = 100
"""Steps whose median is taken."""
RARELY = 1.0
"""Seconds between two words to the listener, which need not hear of every step."""


class Pulse:
    """The pulse of the run that this process trains.

    Attributes:
        listener: is told how many seconds the run may be silent from now on; None: it does what nobody watches, such as
            a checkpoint, whose time depends on the disk.
    """

    def __init__(self) -> None:
        self.listener: Callable[[float | None], None] = lambda _: None
        self.took: dict[str, deque[float]] = {}
        self.kind, self.began, self.told_at = "", 0.0, 0.0

    def beat(self, kind: str) -> None:
        """One `step` or `batch` is over, if one was going on, and the next begins."""
        now = time.monotonic()
        self._end(now)
        took = self.took.get(kind, ())
        if kind != self.kind or len(took) == 1 or now - self.told_at >= RARELY:
            self.told_at = now
            self.listener(max(TIMES * median(took), LEAST) if took else FIRST)
        self.kind, self.began = kind, now

    def rest(self) -> None:
        """One `step` or `batch` is over, if one was going on, and none begins."""
        self._end(time.monotonic())
        self.kind = ""
        self.listener(None)

    def begin(self) -> None:
        """A run begins, of which nothing is known."""
        self.rest()
        self.took.clear()

    def _end(self, now: float) -> None:
        if self.kind:
            self.took.setdefault(self.kind, deque(maxlen=REMEMBERED)).append(now - self.began)


PULSE = Pulse()
