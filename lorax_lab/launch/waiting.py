"""What a launcher says while it waits for a run that another one trains: for whom, since when, and until when."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

from lorax_lab.launch import leases
from lorax_lab.launch.durations import in_words, recorded
from lorax_lab.launch.leases import DEAD, Owner
from lorax_lab.launch.plan import Run

FIRST, LAST = 60.0, 3600.0
"""Seconds until a line is said again; each time twice as many, and at most an hour."""


class Waiting:
    """Lines about the runs that a launcher waits for, on a scale of time: at once, after 1, 3, 7, 15, 31 minutes, …"""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._next: dict[str, float] = {}
        self._owner: dict[str, str] = {}

    def line(self, run: Run, owner: Owner) -> str | None:
        """What to say now; None while nothing is due."""
        now = time.monotonic()
        if self._owner.get(run.run_id) != owner.token:
            self._owner[run.run_id], self._began[run.run_id] = owner.token, now
            self._next[run.run_id] = now + FIRST
            return f"waiting for {run.run_id}, which {owner} trains{_since(owner)}; {_until(run, owner)}"
        if now < self._next[run.run_id]:
            return None
        waited = now - self._began[run.run_id]
        self._next[run.run_id] = now + min(max(waited, FIRST), LAST)
        return f"still waiting for {run.run_id} after {in_words(waited)}: {_pulse(run, owner)}; {_until(run, owner)}"


def _since(owner: Owner) -> str:
    return f" since {_clock(owner.since)}" if owner.since else ""


def _until(run: Run, owner: Owner) -> str:
    """Until when: as long as runs like it took, or until its owner is dead."""
    lives = f"until it is recorded, or {owner} shows no sign of life for {DEAD:.0f} s"
    seconds = recorded(run.runs_dir).of(run) if owner.since else None
    return lives if seconds is None else f"until about {_clock(owner.since + seconds)}: {lives}"


def _pulse(run: Run, owner: Owner) -> str:
    beat = leases.last_beat(Path(run.runs_dir), run.run_id)
    return f"{owner} showed a sign of life at {_clock(beat)}" if beat else f"{owner} gave it back"


def _clock(seconds: float) -> str:
    """The time of day of a moment, with its date where that is not today's."""
    try:
        moment = datetime.fromtimestamp(seconds)
    except (ValueError, OverflowError, OSError):
        return "an unknown time"
    today = moment.date() == datetime.now().date()
    return moment.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")
