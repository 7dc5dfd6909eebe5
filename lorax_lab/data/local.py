"""A table of one's own: a CSV, JSON-lines or Parquet file on this machine."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lorax_lab.config import TaskConfig
from lorax_lab.data import leaks
from lorax_lab.data.columns import FILES, INPUTS, chosen_columns, content_sha256, contents, to_pools
from lorax_lab.data.examples import Pools
from lorax_lab.data.labels import LABELS
from lorax_lab.data.source import Source
from lorax_lab.data.table import Table
from lorax_lab.errors import ConfigError, suggest

Columns = dict[str, list[Any]]


def read(config: TaskConfig) -> Pools:
    """Every row of the file `task.path`, as one pool. Text is UTF-8; in CSV an empty field is a missing value
    and every other is taken literally, `NA` and `null` too. Paths of images and recordings start at the file's folder.

    Raises:
        ConfigError: a file that is missing, of another kind, or cannot be read; a column or row at fault.
    """
    path = _file(config)
    tables = {"train": _table(path)}
    pools = to_pools(path.name, tables, config)
    leaks.refuse(path.name, tables, config)
    return pools


def _table(path: Path) -> Table:
    try:
        columns = READERS[path.suffix.lower()](path)
    except ConfigError:
        raise
    except UnicodeDecodeError as error:
        raise ConfigError(f"task.path={path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except (OSError, ValueError, NotImplementedError, csv.Error) as error:
        raise ConfigError(f"task.path={path} cannot be read: {' '.join(str(error).split())[:200]}") from error
    return Table(path.name, columns, path.parent)


def data_sha256(config: TaskConfig) -> str:
    """The SHA-256 of the file; where its rows name images or recordings, of the file and all of those."""
    path = _file(config)
    columns = {key: column for key, column in chosen_columns(config).items() if config.inputs.get(key) in FILES}
    try:
        digest = content_sha256(path)
        if columns:
            named = [contents(_table(path), key, column) for key, column in columns.items()]
            every = [content_sha256(cell) for cells in named for cell in cells]
            digest = hashlib.sha256(" ".join([digest, *every]).encode()).hexdigest()
    except OSError as error:
        raise ConfigError(f"task.path={path} cannot be read: {error.strerror}") from error
    return digest


def _file(config: TaskConfig) -> Path:
    path = Path(str(config.path)).expanduser()
    if path.is_dir():
        other_source = f"type task=hub task.path={path} for a folder of train, validation and test files"
        raise ConfigError(f"task.path={path} is a folder, and task=local reads one file; {other_source}")
    if path.suffix.lower() not in READERS:
        raise ConfigError(f"task.path={path} is no table that can be read; its name ends in {' or '.join(READERS)}")
    if not path.is_file():
        beside = [p.name for p in path.parent.glob("*") if p.suffix.lower() in READERS]
        hint = suggest(path.name, beside).replace("allowed:", "tables there:") if beside else "no table is there"
        raise ConfigError(f"task.path={path}: there is no such file in {path.parent.absolute()}; {hint}")
    return path


def _csv(path: Path) -> Columns:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        rows = []
        for row in reader:
            if row and len(row) != len(header):
                fault = f"{len(row)} fields and the header has {len(header)}; put quotes around text with commas"
                raise ConfigError(f"{path.name}, line {reader.line_num}: {fault}")
            rows += [row] if row else []
    if repeated := {name for name in header if header.count(name) > 1}:
        raise ConfigError(f"{path.name} has more than one column {', '.join(sorted(repeated))}; rename one")
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def _jsonl(path: Path) -> Columns:
    rows = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line) if line.strip() else {}
            except json.JSONDecodeError as error:
                raise ConfigError(f"{path.name}, line {number}: not JSON ({error.msg}); one object a line") from error
            if not isinstance(row, dict):
                raise ConfigError(f'{path.name}, line {number}: not an object like {{"text": …, "label": …}}')
            rows += [row] if row else []
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _parquet(path: Path) -> Columns:
    from pyarrow import parquet

    columns: Columns = parquet.ParquetFile(path).read().to_pydict()
    return columns


READERS: dict[str, Callable[[Path], Columns]] = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
SOURCE = Source(read, data_sha256, labels=tuple(LABELS), columns=tuple(INPUTS), keys=("path", "group"))
