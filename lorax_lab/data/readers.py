"""From the bytes of a table's file to its columns. Each reader is told which columns are wanted."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lorax_lab.data.table import printable
from lorax_lab.errors import ConfigError, in_short

Columns = Mapping[str, Sequence[Any]]
Read = tuple[Columns, str]
"""The columns, and what a person should know of how they were read."""
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What can stand between two fields of a CSV file; the first is the usual one."""
AS_TEXT, UNPACK = "save it as CSV in UTF-8", "unpack it first"
BEGINNINGS = {
    b"PAR1": ("Parquet", "let its name end in .parquet, as in t.parquet"),
    b"PK\x03\x04": ("a zip archive or a spreadsheet", AS_TEXT),
    b"\xd0\xcf\x11\xe0": ("a spreadsheet", AS_TEXT),
    b"\x1f\x8b": ("packed by gzip", UNPACK),
    b"BZh": ("packed by bzip2", UNPACK),
    b"\xfd7zXZ": ("packed by xz", UNPACK),
    b"(\xb5/\xfd": ("packed by zstd", UNPACK),
    b"\xff\xfe\x00\x00": ("not UTF-8 but UTF-32", AS_TEXT),
    b"\xff\xfe": ("not UTF-8 but UTF-16", AS_TEXT),
    b"\xfe\xff": ("not UTF-8 but UTF-16", AS_TEXT),
}
"""What a file is that is no text, by its first bytes, and what to do with it."""
SOME = 20
"""Zeros in every second of the first bytes, from which on they are taken for UTF-16."""


def read_csv(path: Path, wanted: Collection[str]) -> Read:
    """The columns of a table of text, and with which delimiter it was read where it has no commas.

    The delimiter is the one by which the first line has every wanted column; names have no spaces around them.

    Raises:
        ConfigError: no text, a first line that two delimiters fit, a row that has not the header's number of fields, a
            quote that is never closed.
    """
    text = _text(path)
    limit = csv.field_size_limit(len(text) + 1)
    try:
        delimiter = _delimiter(path, text, wanted)
        header, rows = _rows(path, text, delimiter)
    finally:
        csv.field_size_limit(limit)
    names = [name.strip() for name in header]
    if repeated := _repeated([name for name in names if name]):
        raise _fault(path, f"has more than one column {repeated}; rename one")
    usual = delimiter == next(iter(DELIMITERS)) or path.suffix.lower() == ".tsv"
    note = "" if usual else f"{path.name} is read with {DELIMITERS[delimiter]} between its fields"
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}, note


def _delimiter(path: Path, text: str, wanted: Collection[str]) -> str:
    headers: dict[str, list[str]] = {}
    for delimiter in DELIMITERS:
        try:
            headers[delimiter] = [name.strip() for name in next(filter(None, _reader(text, delimiter)), [])]
        except csv.Error:
            continue
    fitting = [delimiter for delimiter, header in headers.items() if set(wanted) <= set(header)]
    if len({tuple(headers[delimiter]) for delimiter in fitting}) > 1:
        several = " and with ".join(DELIMITERS[delimiter] for delimiter in fitting)
        raise _fault(path, f"fits task.label and the other columns with {several}; put quotes around names with signs")
    if fitting or not headers:
        return fitting[0] if fitting else next(iter(DELIMITERS))
    return max(headers, key=lambda delimiter: len(headers[delimiter]))


def _reader(text: str, delimiter: str) -> Any:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)


def _rows(path: Path, text: str, delimiter: str) -> tuple[list[str], list[list[str]]]:
    """The header and the rows; lines without anything are passed over."""
    header: list[str] = []
    rows: list[list[str]] = []
    reader = _reader(text, delimiter)
    began = 1
    try:
        for row in reader:
            if row and header and len(row) != len(header):
                sizes = f"{len(row)} fields and the header has {len(header)}"
                put = f"put quotes around text with {DELIMITERS[delimiter]}"
                raise _fault(path, f"{sizes}; {put}", reader.line_num)
            if row and header:
                rows.append(row)
            header = header or row
            began = reader.line_num + 1
    except csv.Error as error:
        if "end of data" in str(error):
            raise _fault(path, "a quote is opened here and never closed; close it, or double it", began) from error
        reason = f"a quote ends a field before its end ({error}); double a quote inside a text"
        raise _fault(path, reason, reader.line_num) from error
    return header, rows


def read_jsonl(path: Path, wanted: Collection[str]) -> Read:
    """The columns of a file with one JSON object a line; what a row lacks is None.

    Raises:
        ConfigError: no text, or a line that is no object.
    """
    rows = list(_objects(path))
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}, ""


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(io.StringIO(_text(path), newline=None), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_unlike)
        except json.JSONDecodeError as error:
            raise _fault(path, f"not JSON ({error.msg}); one object a line", number) from error
        except RecursionError as error:
            raise _fault(path, "lists or objects inside others, too deep; leave the line out", number) from error
        except KeyError as error:
            raise _fault(path, f"the key {error.args[0]} stands twice; rename one", number) from error
        except ValueError as error:
            digits = max(map(len, re.findall(r"\d+", line)), default=0)
            raise _fault(path, f"a number of {digits:,} digits; put quotes around it", number) from error
        if not isinstance(row, dict):
            raise _fault(path, 'not an object like {"text": …, "label": …}', number)
        yield row


def _unlike(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise KeyError(_repeated([name for name, _ in pairs]))
    return content


def read_parquet(path: Path, wanted: Collection[str]) -> Read:
    """The columns of a Parquet file; each becomes Python's values when it is asked for.

    Raises:
        ConfigError: no Parquet, a damaged file, two columns of one name.
    """
    import pyarrow as pa
    from pyarrow import parquet

    with path.open("rb") as file:
        if (start := file.read(4)) != b"PAR1":
            raise _fault(path, f"is no Parquet: it begins with {start!r}; let its name end in what it is, as in t.csv")
    try:
        table = parquet.ParquetFile(path).read()
    except (OSError, ValueError, TypeError, NotImplementedError, pa.ArrowException) as error:
        raise _fault(path, f"cannot be read: {in_short(error)}") from error
    if repeated := _repeated(table.column_names):
        raise _fault(path, f"has more than one column {repeated}; rename one")
    return _Arrow(path, table), ""


def _repeated(names: Sequence[str]) -> str:
    return ", ".join(printable(name) for name, count in Counter(names).items() if count > 1)


class _Arrow(Mapping[str, Sequence[Any]]):
    """Columns of Arrow as Python's values, by name."""

    def __init__(self, path: Path, table: Any) -> None:
        self.path, self.table = path, table

    def __getitem__(self, name: str) -> Sequence[Any]:
        try:
            values: list[Any] = self.table[name].to_pylist()
        except UnicodeDecodeError as error:
            raise _fault(self.path, f"has texts in {printable(name)} that are not UTF-8; write them anew") from error
        except (ValueError, TypeError, OverflowError, NotImplementedError) as error:
            unread = f"has values in {printable(name)} that cannot be read: {in_short(error)}"
            raise _fault(self.path, unread) from error
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self.table.column_names)

    def __len__(self) -> int:
        return len(self.table.column_names)


def _text(path: Path) -> str:
    """The file's text, UTF-8.

    Raises:
        ConfigError: it is none; the message says what it is instead, where its first bytes show it.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
        zero = text.find("\0")
    except UnicodeDecodeError as error:
        what, instead = _known(content) or (f"not UTF-8 (byte {error.start})", "save it as UTF-8")
        raise _fault(path, f"is {what}; {instead}") from error
    if zero >= 0:
        halves = [content[start:400:2].count(0) > SOME for start in (0, 1)]
        known = _known(content) or (("not UTF-8 but UTF-16", AS_TEXT) if halves[0] != halves[1] else None)
        if known:
            raise _fault(path, f"is {known[0]}; {known[1]}")
        raise _fault(path, f"a NUL byte, which no text has; {AS_TEXT}", text.count("\n", 0, zero) + 1)
    return text


def _known(content: bytes) -> tuple[str, str] | None:
    return next((known for start, known in BEGINNINGS.items() if content.startswith(start)), None)


def _fault(path: Path, reason: str, line: int | None = None) -> ConfigError:
    return ConfigError(f"task.path={path} {reason}" if line is None else f"task.path={path}, line {line}: {reason}")


READERS: dict[str, Callable[[Path, Collection[str]], Read]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}
"""How a table is read, by the end of its file's name."""
