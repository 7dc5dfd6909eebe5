"""How long runs took, and how the remaining time is estimated from that."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from lorax_lab.launch.plan import Run
from lorax_lab.record import record

Like = tuple[str, str, str, str]
"""Method, model, task and measure: runs that share all four are taken to last equally long."""


class Durations:
    """Seconds that completed runs took, by the settings that affect the time most."""

    def __init__(self) -> None:
        self._seconds: dict[Like, list[float]] = {}

    def add(self, like: Like, seconds: float) -> None:
        """Count one completed run."""
        self._seconds.setdefault(like, []).append(seconds)

    def of(self, run: Run) -> float | None:
        """Mean seconds of the runs that are like this one; None where there is none."""
        return mean(self._seconds[like_of(run)]) if like_of(run) in self._seconds else None

    def left(self, runs: list[Run]) -> float | None:
        """Seconds for all of the runs. A run that is like no completed one counts as the mean over all. None where
        nothing is known."""
        if not self._seconds:
            return None
        overall = mean(seconds for of_like in self._seconds.values() for seconds in of_like)
        return sum(overall if (seconds := self.of(run)) is None else seconds for run in runs)


def like_of(run: Run) -> Like:
    """The settings of a run by which its duration is looked up."""
    return run.config.method.name, run.config.model, run.config.task.name, run.config.measure


def recorded(runs_dir: Path) -> Durations:
    """Durations of the completed runs of a store."""
    durations = Durations()
    for content in record.scan(runs_dir)[0].values():
        if content.result:
            config = content.config
            like = (content.method, config["model"], config["task"]["name"], config.get("measure", "standard"))
            durations.add(like, content.result.time.total_seconds)
    return durations


def in_words(seconds: float) -> str:
    """
    >>> in_words(42.4), in_words(372), in_words(9000)
    ('42 s', '6 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
