"""A table of one's own: a CSV, JSON-lines or Parquet file on this machine."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from lorax_lab.config import TaskConfig
from lorax_lab.data.assets import sha256_of_file
from lorax_lab.data.columns import FILES, INPUTS, LABELS, content_hashes, labeled, to_pools
from lorax_lab.data.source import Pools, Source, chosen_columns
from lorax_lab.data.table import READERS, printable, read_table
from lorax_lab.errors import ConfigError, suggest


def read(config: TaskConfig) -> Pools:
    """Every row of the file `task.path`, as one pool. Text is UTF-8; in CSV an empty field is a missing value and every
    other is taken as it stands, `NA` too. Paths of images and recordings start at the file's folder."""
    path = _file(config)
    return to_pools(printable(path.name), {"train": read_table(path, chosen_columns(config).values())}, config)


def data_sha256(config: TaskConfig) -> str:
    """The SHA-256 of the file; where its rows name images or recordings, of the file and all of those."""
    path = _file(config)
    columns = {key: column for key, column in chosen_columns(config).items() if config.inputs.get(key) in FILES}
    try:
        digest = sha256_of_file(path)
        if columns:
            table = labeled({"train": read_table(path, chosen_columns(config).values())}, config)["train"]
            hashes = [sha256 for key, column in columns.items() for sha256 in content_hashes(table, key, column)]
            digest = hashlib.sha256(" ".join([digest, *hashes]).encode()).hexdigest()
    except OSError as error:
        raise ConfigError(f"task.path={path} cannot be read: {error.strerror}; name another file") from error
    return digest


def _file(config: TaskConfig) -> Path:
    path = Path(os.path.expanduser(str(config.path)))
    if os.path.isdir(path):
        instead = f"type task=hub task.path={path} for a folder of train, validation and test files"
        raise ConfigError(f"task.path={path} is a folder, and task=local reads one file; {instead}")
    if path.suffix.lower() not in READERS:
        raise ConfigError(f"task.path={path} is no table that can be read: its name ends in {' or '.join(READERS)}")
    if not os.path.isfile(path):
        tables = [p.name for p in path.parent.glob("*") if p.suffix.lower() in READERS]
        hint = suggest(path.name, tables).replace("allowed:", "tables there:") if tables else "no table is there"
        raise ConfigError(f"task.path={path}: there is no such file in {path.parent.absolute()}; {hint}")
    return path


SOURCE = Source(read, data_sha256, labels=tuple(LABELS), columns=tuple(INPUTS), keys=("path", "group"))
