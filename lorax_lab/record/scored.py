"""Which examples a run's score is of, in words. The keys of its metrics keep the split's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRAINING = "training"
"""Stands for every split of a task that is memorised."""


def scored_on(config: Mapping[str, Any], split: str) -> str:
    """The split in words, for a heading or an axis.

    >>> scored_on({"task": {"name": "tweets"}}, "test"), scored_on({"task": {"memorise": True}}, "test")
    ('test', 'training')
    """
    return TRAINING if config["task"].get("memorise") else split
