"""A table of one's own: a CSV, JSON-lines or Parquet file on this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lorax_lab.config import TaskConfig
from lorax_lab.data import leaks
from lorax_lab.data.columns import FILES, INPUTS, LABELS, chosen_columns, content_sha256, contents, to_pools, used
from lorax_lab.data.source import Pools, Source
from lorax_lab.data.table import READERS, Table, printable
from lorax_lab.errors import ConfigError, suggest


def read(config: TaskConfig) -> Pools:
    """Every row of the file `task.path`, as one pool. Text is UTF-8; in CSV an empty field is a missing value
    and every other is taken literally, `NA` and `null` too. Paths of images and recordings start at the file's folder.

    Raises:
        ConfigError: a file that is missing, of another kind, or cannot be read; a column or row at fault.
    """
    path = _file(config)
    where, tables = printable(path.name), {"train": _table(path, config)}
    pools = to_pools(where, tables, config)
    leaks.refuse(where, tables, config)
    return pools


def _table(path: Path, config: TaskConfig) -> Table:
    try:
        columns, note = READERS[path.suffix.lower()](path, chosen_columns(config).values())
    except OSError as error:
        raise ConfigError(f"task.path={path} cannot be read: {error.strerror or error}") from error
    return Table(printable(path.name), columns, path.parent, str(path), note=note)


def data_sha256(config: TaskConfig) -> str:
    """The SHA-256 of the file; where its rows name images or recordings, of the file and all of those."""
    path = _file(config)
    columns = {key: column for key, column in chosen_columns(config).items() if config.inputs.get(key) in FILES}
    try:
        digest = content_sha256(path)
        if columns:
            table = used({"train": _table(path, config)}, config)["train"]
            named = [contents(table, key, column) for key, column in columns.items()]
            every = [content_sha256(cell) for cells in named for cell in cells]
            digest = hashlib.sha256(" ".join([digest, *every]).encode()).hexdigest()
    except OSError as error:
        raise ConfigError(f"task.path={path} cannot be read: {error.strerror}") from error
    return digest


def _file(config: TaskConfig) -> Path:
    typed = f"task.path={config.path}"
    try:
        path = Path(str(config.path)).expanduser()
        is_file, is_folder, is_there = path.is_file(), path.is_dir(), path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{typed} cannot be read: {reason}; name another file") from error
    if is_folder:
        instead = f"type task=hub {typed} for a folder of train, validation and test files"
        raise ConfigError(f"{typed} is a folder, and task=local reads one file; {instead}")
    if path.suffix.lower() not in READERS:
        raise ConfigError(f"{typed} is no table that can be read: its name ends in {' or '.join(READERS)}")
    if is_there and not is_file:
        raise ConfigError(f"{typed} is no regular file but a pipe or a device; write its content into a file")
    if not is_file:
        tables = [p.name for p in path.parent.glob("*") if p.suffix.lower() in READERS]
        hint = suggest(path.name, tables).replace("allowed:", "tables there:") if tables else "no table is there"
        raise ConfigError(f"{typed}: there is no such file in {path.parent.absolute()}; {hint}")
    return path


SOURCE = Source(read, data_sha256, labels=tuple(LABELS), columns=tuple(INPUTS), keys=("path", "group"))
