"""A table of one's own: a CSV, JSON-lines or Parquet file on this machine."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

from lorax_lab.config import TaskConfig
from lorax_lab.data import leaks
from lorax_lab.data.columns import FILES, INPUTS, chosen_columns, content_sha256, contents, to_pools
from lorax_lab.data.examples import Pools
from lorax_lab.data.labels import LABELS, used
from lorax_lab.data.readers import AS_TEXT, READERS, UNPACK
from lorax_lab.data.source import Source
from lorax_lab.data.table import Table, printable
from lorax_lab.errors import ConfigError, suggest

INSTEAD = dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip"), UNPACK) | dict.fromkeys(
    (".xlsx", ".xls", ".ods"), AS_TEXT
)
"""What to do with a file that is no table yet, by the end of its name."""


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
    typed = Path(str(config.path))
    try:
        path = typed.expanduser()
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path) from None
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"task.path={typed} cannot be read: {_reason(error)}; name another file") from error
    if stat.S_ISDIR(mode):
        other_source = f"type task=hub task.path={path} for a folder of train, validation and test files"
        raise ConfigError(f"task.path={path} is a folder, and task=local reads one file; {other_source}")
    _require_ending(path)
    if not stat.S_ISREG(mode):
        raise ConfigError(f"task.path={path} is no regular file but a pipe or a device; write its content into a file")
    return path


def _require_ending(path: Path) -> None:
    if path.suffix.lower() not in READERS:
        instead = INSTEAD.get(path.suffix.lower())
        hint = f"its name ends in {' or '.join(READERS)}" + (f"; {instead}" if instead else "")
        raise ConfigError(f"task.path={path} is no table that can be read; {hint}")


def _missing(path: Path) -> ConfigError:
    if path.is_symlink():
        return ConfigError(f"task.path={path} is a link to {os.readlink(path)}, and no file is there; mend the link")
    _require_ending(path)
    beside = [p.name for p in path.parent.glob("*") if p.suffix.lower() in READERS]
    hint = suggest(path.name, beside).replace("allowed:", "tables there:") if beside else "no table is there"
    return ConfigError(f"task.path={path}: there is no such file in {path.parent.absolute()}; {hint}")


def _reason(error: Exception) -> str:
    """
    >>> _reason(OSError(errno.ELOOP, "?")), _reason(RuntimeError("Could not determine home directory."))
    ('a link leads to itself', 'Could not determine home directory.')
    """
    code = getattr(error, "errno", None)
    known = {errno.ELOOP: "a link leads to itself", errno.ENAMETOOLONG: "its name is too long"}
    return known.get(code or 0, getattr(error, "strerror", None) or str(error))


SOURCE = Source(read, data_sha256, labels=tuple(LABELS), columns=tuple(INPUTS), keys=("path", "group"))
