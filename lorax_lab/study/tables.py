"""Tables of published records, as Parquet with zstd. A row is a flat dictionary; a part that it lacks is null in its
column, and a list of numbers is a numpy array."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lorax_lab.record.files import write_whole

ARRAYS = (pa.bool_(), pa.float16(), pa.float32(), pa.int32())
"""What lists have that are read as arrays: answers, losses, singular values, groups. Other lists are short."""
ABOUT = b"about"
"""The key of what a table says about all of its rows."""
HALVES = pa.list_(pa.float16())
Row = dict[str, Any]


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], shared: Mapping[str, Any] | None = None) -> None:
    """Write flat rows, whole; the same rows give the same bytes."""
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    table = pa.table(columns).replace_schema_metadata({ABOUT: json.dumps(shared or {}).encode()})
    # Half precision has no value twice, and its exponents compress apart from the rest; all else repeats.
    halves = [_leaf(name, column.type) for name, column in columns.items() if column.type == HALVES]
    repeated = [_leaf(name, column.type) for name, column in columns.items() if column.type != HALVES]
    # What is compressed at once is large, since arrays of one run repeat in another's.
    options = {"use_dictionary": repeated, "use_byte_stream_split": halves, "data_page_size": 2**26}
    options |= {"compression": "zstd", "compression_level": 19, "write_statistics": False, "write_page_checksum": True}
    write_whole(path, lambda scratch: pq.write_table(table, scratch, **options))


def read_table(path: Path) -> list[Row]:
    """The rows of a table, each with the parts that it has.

    Raises:
        FileNotFoundError: there is none. OSError, ValueError: it is damaged.
    """
    table = pq.ParquetFile(path, page_checksum_verification=True).read()
    columns = [_values(column) for column in table.columns]
    return [
        {name: value for name, value in zip(table.column_names, values, strict=True) if value is not None}
        for values in zip(*columns, strict=True)
    ]


def read_about(path: Path) -> Row:
    """What a table says about all of its rows; raises as `read_table`."""
    return dict(json.loads((pq.read_schema(path).metadata or {}).get(ABOUT, b"{}")))


def nested(row: Mapping[str, Any]) -> Row:
    """A flat row with its dotted names as dictionaries.

    >>> nested({"matrix": "m", "each.8,8": 1, "each.1,1": 2})
    {'matrix': 'm', 'each': {'8,8': 1, '1,1': 2}}
    """
    result: Row = {}
    for key, value in row.items():
        *sections, name = key.split(".")
        part = result
        for section in sections:
            part = part.setdefault(section, {})
        part[name] = value
    return result


def _column(values: list[Any]) -> pa.Array:
    has_arrays = any(isinstance(value, np.ndarray) for value in values)
    return pa.array(values, from_pandas=not has_arrays)  # NaN is null, but not inside a column of arrays


def _leaf(name: str, kind: pa.DataType) -> str:
    """The name of a column's innermost part."""
    return _leaf(f"{name}.list.element", kind.value_type) if pa.types.is_list(kind) else name


def _values(column: pa.ChunkedArray) -> Iterable[Any]:
    is_array = pa.types.is_list(column.type) and column.type.value_type in ARRAYS
    return column.to_numpy() if is_array else column.to_pylist()
