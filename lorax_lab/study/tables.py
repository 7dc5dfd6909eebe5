"""Tables of published records, as Parquet with zstd, and the one checksum file beside them.

A row is a flat dictionary. A part that a row lacks is null in its column, and is absent again when it is read; a list
of numbers is a numpy array. The checksums of a folder of studies stand in `SHA256SUMS`: `sha256sum -c SHA256SUMS`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lorax_lab.record.files import sha256_of, write_text, write_whole

SUMS = "SHA256SUMS"
LEVEL = 19
"""Of zstd: published once, read often."""
PAGE = 2**26
"""Bytes of a column that are compressed at once: arrays of one run repeat in another's."""
ARRAYS = (pa.bool_(), pa.float16(), pa.float32())
"""What lists have that are read as arrays: answers, losses, singular values. Other lists are short."""
ABOUT = b"about"
"""The key of what a table says about all of its rows."""


class Table:
    """A table that was read, column by column; a row is made when it is asked for.

    Attributes:
        columns: by name the values, None where a row has none.
        about: what was written about all rows.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]], about: dict[str, Any], length: int) -> None:
        self.columns, self.about, self._length = columns, about, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self.row(number) for number in range(self._length))

    def row(self, number: int) -> dict[str, Any]:
        """The parts that a row has."""
        values = ((name, column[number]) for name, column in self.columns.items())
        return {name: value for name, value in values if value is not None}


class _Arrays(Sequence[Any]):
    """A column of lists of numbers: views of one array."""

    def __init__(self, values: np.ndarray, offsets: np.ndarray, valid: np.ndarray) -> None:
        self.values, self.offsets, self.valid = values, offsets, valid

    def __len__(self) -> int:
        return len(self.valid)

    def __getitem__(self, number: Any) -> Any:
        return self.values[self.offsets[number] : self.offsets[number + 1]] if self.valid[number] else None


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any] | None = None) -> None:
    """Write flat rows, whole; the same rows give the same bytes."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    table = pa.table(columns).replace_schema_metadata({ABOUT: json.dumps(about or {}).encode()})
    # Half precision has no value twice, and its exponents compress apart from the rest; all else repeats.
    halves = [f"{name}.list.element" for name, column in columns.items() if _is_half(column.type)]
    repeated = [_leaf(name, column.type) for name, column in columns.items() if not _is_half(column.type)]
    write_whole(
        path,
        lambda scratch: pq.write_table(
            table,
            scratch,
            compression="zstd",
            compression_level=LEVEL,
            use_dictionary=repeated,
            use_byte_stream_split=halves,
            write_statistics=False,
            data_page_size=PAGE,
        ),
    )


def read_table(path: Path) -> Table:
    """A table as it was written.

    Raises:
        FileNotFoundError: there is none. OSError, ValueError: it is damaged.
    """
    table = pq.ParquetFile(path).read()
    columns = {name: _values(table.column(name)) for name in table.column_names}
    metadata = table.schema.metadata or {}
    return Table(columns, dict(json.loads(metadata.get(ABOUT, b"{}"))), table.num_rows)


def _column(values: list[Any]) -> pa.Array:
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    if not arrays:
        return pa.array([None if isinstance(v, float) and math.isnan(v) else v for v in values])
    lengths = [0 if value is None else len(value) for value in values]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    missing = pa.array([value is None for value in values])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(arrays)), mask=missing)


def _is_half(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and pa.types.is_float16(kind.value_type))


def _leaf(name: str, kind: pa.DataType) -> str:
    """The name of a column's innermost part."""
    return _leaf(f"{name}.list.element", kind.value_type) if pa.types.is_list(kind) else name


def _values(column: pa.ChunkedArray) -> Sequence[Any]:
    kind = column.type
    if not (pa.types.is_list(kind) and kind.value_type in ARRAYS):
        return list(column.to_pylist())
    joined = column.combine_chunks()
    lists = joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined
    values = lists.values.to_numpy(zero_copy_only=False)
    return _Arrays(values, lists.offsets.to_numpy(), lists.is_valid().to_numpy(zero_copy_only=False))


def write_sums(folder: Path) -> None:
    """Write the checksums of all files under a folder of studies."""
    files = sorted(path for path in folder.rglob("[!.]*") if path.is_file() and path.name != SUMS)
    write_text(folder / SUMS, "".join(f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files))


def altered(folder: Path, study: str) -> list[str]:
    """The files of a study that are not what was written, or gone, a sentence each."""
    path = folder / SUMS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    sums = {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
    damages = []
    for name in (name for name in sums if name.startswith(f"{study}/")):
        if not (folder / name).is_file():
            damages.append(f"{name}: it is gone")
        elif sha256_of(folder / name) != sums[name]:
            damages.append(f"{name}: it is not what was written: its checksum differs")
    return damages
