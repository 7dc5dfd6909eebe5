"""What is learned: examples in three splits, fixed by the data and `task.split_seed`, with their score."""

from __future__ import annotations

from lorax_lab.config import TaskConfig
from lorax_lab.data import Pools, source_of
from lorax_lab.errors import ConfigError
from lorax_lab.tasks.task import Task

__all__ = ["Task", "load_task"]


def load_task(config: TaskConfig) -> Task:
    """The examples of the three splits: no text in two of them, no group in two of them.

    Test is taken first, then validation, then train, so that the number of training examples changes neither
    of the others, and fewer training examples are a part of more.

    Raises:
        ConfigError: an unknown source, metric or kind, an ignored key, data that cannot be read or is too small.
    """
    from lorax_lab.data.splits import split
    from lorax_lab.tasks.score import primary_metric

    source = source_of(config)
    metric = primary_metric(config.kind, config.metric)
    pools, sha256 = source.read(config), source.data_sha256(config)
    _require_variety(pools, config.kind)
    splits, dropped = split(pools, config, sha256)
    return Task(config.name, config.kind, pools.classes, metric, *splits, sha256, dropped)


def _require_variety(pools: Pools, kind: str) -> None:
    if not pools.train:
        raise ConfigError(f"{pools.where} has no rows with text; check task.path and task.text")
    labels = {example.label for example in pools.train}
    if len(labels) < 2:
        label = next(iter(labels))
        only = label if kind == "regression" else repr(pools.classes[int(label)])
        raise ConfigError(f"{pools.where} has one label only ({only}): there is nothing to learn; check task.label")
