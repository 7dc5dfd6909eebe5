"""The tasks: examples in three splits, fixed by the data and `task.split_seed`, with their score.

A new family is one module here with `KEYS`, `KINDS`, `read` and `data_sha256` (see `Source`), its line in `SOURCES`,
and a file in `conf/task/`.
"""

from __future__ import annotations

from lorax_lab.config import ConfigError, TaskConfig, suggest
from lorax_lab.tasks import boolq, hub, hutto_gilbert, local, sarcasm
from lorax_lab.tasks.task import Example, Pools, Source, Task

__all__ = ["SOURCES", "Example", "Pools", "Source", "Task", "data_sha256", "load_task"]

SOURCES: dict[str, Source] = {
    "movie_reviews": hutto_gilbert,
    "product_reviews": hutto_gilbert,
    "editorials": hutto_gilbert,
    "tweets": hutto_gilbert,
    "sarcasm": sarcasm,
    "boolq": boolq,
    "local": local,
    "hub": hub,
}

CHOSEN = ("path", "subset", "text", "text_pair", "label", "group")
"""Keys that choose what is read; each is used by some sources only."""


def data_sha256(config: TaskConfig) -> str:
    """The hash of the task's data: pinned for what is built in (nothing is fetched), else of the content.

    Raises:
        ConfigError: an unknown source, a key or kind that the source has not, data that cannot be read.
    """
    return _source(config).data_sha256(config)


def load_task(config: TaskConfig) -> Task:
    """The examples of the three splits: no text in two of them, no group in two of them.

    Test is taken first, then validation, then train, so that the number of training examples changes neither
    of the others, and fewer training examples are a part of more.

    Raises:
        ConfigError: an unknown source, metric or kind, an ignored key, data that cannot be read or is too small.
    """
    from lorax_lab.tasks.score import primary_metric
    from lorax_lab.tasks.splits import split

    source = _source(config)
    metric = primary_metric(config.kind, config.metric)
    pools, sha256 = source.read(config), source.data_sha256(config)
    _require_variety(pools, config.kind)
    splits, dropped = split(pools, config, sha256)
    return Task(config.name, config.kind, pools.classes, metric, *splits, sha256, dropped)


def _source(config: TaskConfig) -> Source:
    if config.source not in SOURCES:
        raise ConfigError(f"task.source={config.source} is unknown; {suggest(config.source, tuple(SOURCES))}")
    source = SOURCES[config.source]
    for key in CHOSEN:
        value = getattr(config, key)
        if value is not None and key not in source.KEYS:
            what = f"task={config.name} does not read task.{key}, and it is set to {value}"
            raise ConfigError(f"{what}; leave it out, or type task=local for a table of your own")
    if config.kind not in source.KINDS:
        what = f"task.kind={config.kind} is not possible with task={config.name}, whose labels are classes"
        scored = ", ".join(name for name in SOURCES if SOURCES[name] is hutto_gilbert)
        raise ConfigError(f"{what}; leave task.kind out, or type task={scored.replace(', ', ' or task=')}")
    return source


def _require_variety(pools: Pools, kind: str) -> None:
    if not pools.train:
        raise ConfigError(f"{pools.where} has no rows with text; check task.path and task.text")
    labels = {example.label for example in pools.train}
    if len(labels) < 2:
        label = next(iter(labels))
        only = label if kind == "regression" else repr(pools.classes[int(label)])
        raise ConfigError(f"{pools.where} has one label only ({only}): there is nothing to learn; check task.label")
