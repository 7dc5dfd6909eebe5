"""Data of one's own on this machine: a table in a CSV, JSON-lines or Parquet file."""

import hashlib
import os
from pathlib import Path

from lorax_lab.config import TaskConfig
from lorax_lab.data.assets import sha256_of_file
from lorax_lab.data.columns import FILES, INPUTS, LABELS, content_hashes, labeled, to_pools
from lorax_lab.data.source import Pools, Source, chosen_columns
from lorax_lab.data.table import READERS, printable, read_table
from lorax_lab.errors import ConfigError


def read_file(config: TaskConfig) -> Pools:
    """Every row of the file `task.path`, as one pool. Text is UTF-8; in CSV an empty field is a missing value and every
    other is taken as it stands, `NA` too. Paths of images and recordings start at the file's folder."""
    path = _file(config)
    return to_pools(printable(path.name), {"train": read_table(path, chosen_columns(config).values())}, config)


def file_sha256(config: TaskConfig) -> str:
    """The SHA-256 of the file; where its rows name images or recordings, of the file and all of those."""
    path = _file(config)
    columns = {key: column for key, column in chosen_columns(config).items() if config.inputs.get(key) in FILES}
    if not columns:
        return sha256_of_file(path)
    table = labeled({"train": read_table(path, chosen_columns(config).values())}, config)["train"]
    hashes = [sha256 for key, column in columns.items() for sha256 in content_hashes(table, key, column)]
    return hashlib.sha256(" ".join([sha256_of_file(path), *hashes]).encode()).hexdigest()


def _file(config: TaskConfig) -> Path:
    path, fault = Path(os.path.expanduser(str(config.path))), None
    if os.path.isdir(path):
        instead = f"type task=hub task.path={config.path} for a folder of train, validation and test files"
        fault = f"is a folder, and task=local reads one file; {instead}"
    elif path.suffix.lower() not in READERS:
        fault = f"is no table that can be read: its name ends in {' or '.join(READERS)}"
    elif not os.path.isfile(path):
        fault = f"is not there: {path.name} is no file in {path.parent.absolute()}"
    if fault:
        raise ConfigError(f"task.path={config.path} {fault}")
    return path


SOURCE = Source(read_file, file_sha256, labels=tuple(LABELS), columns=tuple(INPUTS), keys=("path", "group"))
