"""The share of what fine-tuning brings: 0 is the head alone on the frozen base, 1 is full fine-tuning."""

from collections.abc import Mapping
from pathlib import Path

from lorax_lab.record.direction import oriented
from lorax_lab.record.folder import HEAD_ALONE
from lorax_lab.record.record import Record, read_record, status_of
from lorax_lab.record.result import Result

SURE, MOST = 0.8, 0.9
"""The shares that the lab's answers speak of: kept surely, by the 95 % interval, and kept in the mean."""


def needed(zero: float, full: float, higher_is_better: bool) -> float | None:
    """The score that keeps `MOST` of what full fine-tuning (`full`) brings over `zero`, the head alone; None where
    it brings nothing.

    >>> needed(0.5, 1.0, True), needed(0.5, 0.5, True)
    (0.95, None)
    """
    return zero + MOST * (full - zero) if oriented(full - zero, higher_is_better) > 0 else None


def from_where(scores: Mapping[int, float], score: float, higher_is_better: bool) -> int | None:
    """The smallest size of which the score, and those of all larger ones, reach what is needed; None where the largest
    does not.

    >>> from_where({0: 0.5, 1: 0.9, 2: 0.7, 4: 0.8, 8: 0.9}, 0.75, True)
    4
    """
    least = oriented(score, higher_is_better)
    short = [size for size, value in scores.items() if oriented(value, higher_is_better) < least]
    return min((size for size in scores if size > max(short, default=-1)), default=None)


def share_kept(record: Record, full: Result) -> float | None:
    """(score − head) / (full − head) of a completed run on the test split; None for a trial, where no head was fitted
    alone, and where full fine-tuning brings nothing. `full` is of the run's reference."""
    brings = _brings(full)
    if brings is None or not brings > 0 or record.is_trial:
        return None
    return 1 + oriented(record.completed.score("test") - full.score("test"), full.higher_is_better) / brings


def difference(record: Record, full: Result) -> float | None:
    """What a completed run scores more on test than full fine-tuning, its reference: above 0 is better. None where full
    fine-tuning does not beat the head alone: who trains too little would learn nothing from it."""
    brings = _brings(full)
    if brings is not None and not brings > 0:
        return None
    return oriented(record.completed.score("test") - full.score("test"), full.higher_is_better)


def _brings(full: Result) -> float | None:
    head = full.baselines.get(f"{HEAD_ALONE}/{full.metric}")
    return None if head is None else oriented(full.score("test") - head, full.higher_is_better)


def reference_of(record: Record, runs_dir: Path) -> Result | None:
    """The full fine-tune of the same store that a run is compared with; None of a trial, and where it has no result."""
    reference = record.completed.reference
    if record.is_trial or reference is None or status_of(runs_dir / reference) != "completed":
        return None
    return read_record(runs_dir / reference).completed
