"""What a score says: which of two is better, and of which examples it is. A result or published line that lacks
`higher_is_better` is older than the field, and higher is better."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

Score = TypeVar("Score")
KEY = "higher_is_better"
LOWER, HIGHER = "lower is better", "higher is better"
TRAINING = "training"
"""Stands for every split of a task that is memorised."""


def oriented(score: Score, higher_is_better: bool) -> Score:
    """The score where higher is better, else its negative: of two results the larger is the better. Twice is nothing.

    >>> oriented(2.5, True), oriented(2.5, False)
    (2.5, -2.5)
    """
    return score if higher_is_better else -score  # type: ignore[operator]


def of_line(line: Mapping[str, Any]) -> bool:
    """Whether higher is better of a published line's scores.

    >>> of_line({"metric": "accuracy"}), of_line({"metric": "nats_per_token", "higher_is_better": False})
    (True, False)
    """
    return bool(line.get(KEY, True))


def of_lines(lines: Iterable[Mapping[str, Any]]) -> bool:
    """Whether higher is better of lines that have one metric; one of a run that diverged has none."""
    return next((of_line(line) for line in lines if "metric" in line), True)


def labelled(name: str, higher_is_better: bool) -> str:
    """A score's name, for a heading or an axis, which says so where lower is better.

    >>> labelled("nats_per_token", False), labelled("accuracy", True)
    ('nats_per_token (lower is better)', 'accuracy')
    """
    return name if higher_is_better else f"{name} ({LOWER})"


def scored_on(config: Mapping[str, Any], split: str) -> str:
    """The split in words, for a heading or an axis; the keys of a run's metrics keep its name.

    >>> scored_on({"task": {"name": "tweets"}}, "test"), scored_on({"task": {"memorise": True}}, "test")
    ('test', 'training')
    """
    return TRAINING if config["task"].get("memorise") else split
