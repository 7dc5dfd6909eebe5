"""Where examples come from: pinned assets, tables, folders, data sets; splits without leaks.

A new source is one module here with `KEYS`, `KINDS`, `read` and `data_sha256` (see `Source`), its line in `SOURCES`,
and a file in `conf/task/`.
"""

from __future__ import annotations

from lorax_lab.config import TaskConfig
from lorax_lab.data import boolq, hub, hutto_gilbert, local, sarcasm
from lorax_lab.data.examples import Example, Pools, Source
from lorax_lab.errors import ConfigError, suggest

__all__ = ["SOURCES", "Example", "Pools", "Source", "data_sha256", "source_of"]

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
    return source_of(config).data_sha256(config)


def source_of(config: TaskConfig) -> Source:
    """The source that a task's configuration names.

    Raises:
        ConfigError: an unknown source, or a key or kind that the source has not.
    """
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
