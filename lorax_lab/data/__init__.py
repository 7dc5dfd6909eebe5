"""Where examples come from: pinned assets, tables, folders, data sets; splits without leaks.

A new source is a function that reads it, a `Source` with its line in `SOURCES`, and a file in `conf/task/`.
"""

from __future__ import annotations

from lorax_lab.config import TaskConfig
from lorax_lab.data import built_in, hub, image_folder, local
from lorax_lab.data.source import Example, Pools, Source
from lorax_lab.errors import ConfigError, suggest

SOURCES: dict[str, Source] = built_in.SOURCES | {
    "local": local.SOURCE,
    "image_folder": image_folder.SOURCE,
    "hub": hub.SOURCE,
}


def data_sha256(config: TaskConfig) -> str:
    """The hash of the task's data: pinned for what is built in (nothing is fetched), else of the content.

    Raises:
        ConfigError: as `source_of`; data that cannot be read.
    """
    return source_of(config).sha256(config)


def source_of(config: TaskConfig) -> Source:
    """The source that a task's configuration names.

    Raises:
        ConfigError: an unknown source; a key that it does not read, or that it needs and is null; a column that two
            keys name; a kind of task that its examples do not fit.
    """
    if config.source not in SOURCES:
        raise ConfigError(f"task.source={config.source} is unknown; {suggest(config.source, tuple(SOURCES))}")
    source = SOURCES[config.source]
    _require_keys(source, config)
    _require_own_columns(source, config)
    _require_fit(source, config)
    return source


def _require_keys(source: Source, config: TaskConfig) -> None:
    for key in ("path", "subset", "group", "label", *config.inputs):
        value = getattr(config, key)
        if value is not None and key not in source.chosen(config):
            unused = f"task={config.name} does not read task.{key}, and it is set to {value}"
            raise ConfigError(f"{unused}; leave it out, or type task=local for a table of your own")
    if config.drop_unlabeled and not source.columns:
        unused = f"task={config.name} does not read task.drop_unlabeled: every row of it has a label"
        raise ConfigError(f"{unused}; leave it out, or type task=local for a table of your own")
    missing = [f"task.{key}=…" for key in source.needed(config) if getattr(config, key) is None]
    if missing:
        raise ConfigError(f"task={config.name} needs {' '.join(missing)} as well")


def _require_own_columns(source: Source, config: TaskConfig) -> None:
    """A label that is an input too is read off, not learned; an input that is there twice says nothing more. A group
    may be a column that is read."""
    named: dict[str, str] = {}
    for key in ("label", *config.inputs) if source.columns else ():
        column = getattr(config, key)
        if column in named:
            twice = f"task.{key}={column} is the column that task.{named[column]} names"
            raise ConfigError(f"{twice}; name another column for each, {', '.join(sorted({key, named[column]}))}")
        if column is not None:
            named[column] = key


def _require_fit(source: Source, config: TaskConfig) -> None:
    if source.fits(config):
        return
    if source.gives_inputs(config):
        why = f"whose labels are {' or '.join(source.labels)}, not {config.labels}"
    else:
        why = f"whose examples have {', '.join(source.inputs) or 'columns of text'}, not {', '.join(config.inputs)}"
    fitting = [f"task={name}" for name, other in SOURCES.items() if other.fits(config)]
    hint = f", or type {' or '.join(fitting)}" if fitting else ""
    raise ConfigError(
        f"task.kind={config.kind} is not possible with task={config.name}, {why}; leave task.kind out{hint}"
    )
