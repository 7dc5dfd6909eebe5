"""Where examples come from: pinned assets, tables, folders, data sets; splits without leaks.

A new source is a function that reads it, a `Source` with its line in `SOURCES`, and a file in `conf/task/`.
"""

import hashlib

from lorax_lab.config import TaskConfig
from lorax_lab.config.checks import require_choice
from lorax_lab.data import built_in, hub, local
from lorax_lab.data.near_duplicates import RULES
from lorax_lab.data.source import Example, Pools, Source
from lorax_lab.errors import ConfigError

SOURCES: dict[str, Source] = built_in.SOURCES | {"local": local.SOURCE, "hub": hub.SOURCE}


def data_sha256(config: TaskConfig) -> str:
    """The hash of the task's data: pinned for what is built in (nothing is fetched), else of the content."""
    return under_rules(source_of(config).sha256(config), config)


def under_rules(sha256: str, config: TaskConfig) -> str:
    """The hash of the data, and of the rules by which near duplicate texts stay together, where they do: runs under
    other rules have other examples."""
    if not config.group_near_duplicates or config.memorise or "text" not in config.inputs.values():
        return sha256
    return hashlib.sha256(f"{sha256} {RULES}".encode()).hexdigest()


def source_of(config: TaskConfig) -> Source:
    """The source that a task's configuration names. A ConfigError names a key that it does not read, or that it needs,
    and a kind of task that its examples do not fit."""
    require_choice("task.source", config.source, tuple(SOURCES))
    source = SOURCES[config.source]
    columns = source.chosen(config)
    for key in ("path", "subset", "group", "label", *config.inputs, "drop_unlabeled", "classes"):
        value = getattr(config, key)
        if value not in (None, False) and key not in columns:
            unused = f"task={config.name} does not read task.{key}, and it is set to {value}"
            raise ConfigError(f"{unused}; leave it out, or type task=local for a table of your own")
    if missing := [f"task.{key}=…" for key in source.needed(config) if getattr(config, key) is None]:
        raise ConfigError(f"task={config.name} needs {' '.join(missing)} as well")
    if not source.fits(config):
        fitting = [f"task={name}" for name, candidate in SOURCES.items() if candidate.fits(config)]
        unfit = f"task.kind={config.kind} is not possible with the labels and inputs of task={config.name}"
        raise ConfigError(f"{unfit}; leave task.kind out, or type {' or '.join(fitting)}")
    return source
