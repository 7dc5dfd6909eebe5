"""A table: named columns of equal length, how its file is read, and the message for a row at fault."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from lorax_lab.errors import ConfigError, cut, in_short, suggest

Columns = Mapping[str, Sequence[Any]]
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What can stand between two fields of a CSV file; the first is the usual one."""
LISTED, COMPARED, LONGEST = 20, 1000, 60
"""How many names of columns a message lists, and among how many it looks for the nearest; characters of a name."""


@dataclass(frozen=True)
class Table:
    """Named columns of equal length; `where` names the table in messages. Rows count from 1, after a header.

    Args:
        folder: where the files lie whose paths a column has.
        path: what `task.path` is in the message for a row; without it, `where`.
        kept: indices of the rows that are used; None for all.
        note: what a person should know of how the table was read.
    """

    where: str
    columns: Mapping[str, Sequence[Any]]
    folder: Path = Path()
    path: str = ""
    kept: tuple[int, ...] | None = None
    note: str = ""

    def column(self, key: str, name: str) -> list[Any]:
        """The values of the column that `task.<key>` names.

        Raises:
            ConfigError: no such column; the nearest names come first.
        """
        if not self.columns:
            raise ConfigError(f"task.path={self.path or self.where} is empty: it has no columns")
        if name not in self.columns:
            raise ConfigError(f"task.{key}={name} is not a column of {self.where}; {self._hint(name)}")
        values = list(self.columns[name][:])
        return values if self.kept is None else [values[row] for row in self.kept]

    def only(self, rows: Sequence[int]) -> Table:
        """The table with these of its rows; a message still counts all."""
        return replace(self, kept=tuple(rows if self.kept is None else (self.kept[row] for row in rows)))

    def fault(self, row: int, reason: str) -> ConfigError:
        """The error for the row of index `row`, counted from 1 in the message."""
        number = row if self.kept is None else self.kept[row]
        return ConfigError(f"task.path={self.path or self.where}, row {number + 1}: {reason}")

    def _hint(self, name: str) -> str:
        near = [printable(column) for column in islice(self.columns, COMPARED)]
        close = suggest(name, near).partition("allowed: ")[0]
        more = f" and {len(self.columns) - LISTED:,} more" if len(self.columns) > LISTED else ""
        return f"{close}its columns: {', '.join(near[:LISTED])}{more}"


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing.

    >>> is_missing(None), is_missing(float("nan")), is_missing(" "), is_missing(0)
    (True, True, True, False)
    """
    return value is None or value != value or (isinstance(value, str) and is_unseen(value))


def is_unseen(text: str) -> bool:
    r"""Whether nothing of a text is seen: it has spaces and signs of format alone, such as a byte order mark.

    >>> is_unseen(" \u200b"), is_unseen("\ufeff\u2060"), is_unseen("a\u200b")
    (True, True, False)
    """
    return all(sign.isspace() or unicodedata.category(sign) == "Cf" for sign in text)


def shown(value: Any) -> str:
    """A cell in a message.

    >>> shown(None), shown([1])
    ('missing', "list '[1]'")
    """
    return "missing" if value is None or value != value else f"{type(value).__name__} {cut(value, 40)!r}"


def printable(text: str) -> str:
    r"""A name in a message, on one line and not long: what a terminal cannot show is escaped.

    >>> printable("a\nb"), printable("é")
    ('a\\nb', 'é')
    """
    short = cut(text, LONGEST + 1)
    short = short if len(short) <= LONGEST else f"{short[: LONGEST - 1]}…"
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in short)


def require_whole(table: Table, row: int, what: str, text: str) -> str:
    """The text, if each of its characters is whole.

    Raises:
        ConfigError: half a character (a lone surrogate), which no tokenizer and no file takes.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"{what} has half a character at place {error.start + 1} ({text[error.start]!a}, a lone surrogate)"
        raise table.fault(row, f"{half}; mend it or leave the row out") from error
    return text


def read_csv(path: Path, wanted: Collection[str]) -> tuple[Columns, str]:
    """The columns of a table of text, and with which delimiter it was read where it has no commas.

    The delimiter is the one by which the first line has every wanted column; names have no spaces around them. Every
    cell is the text that it has: `NA` is no missing value.

    Raises:
        ConfigError: no text, a first line that two delimiters fit, a row that has not the header's number of fields, a
            quote that is never closed.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow

    text = _text(path)
    if not text.strip("\r\n"):
        return {}, ""
    delimiter, names = _header(path, text, wanted)
    if repeated := _repeated([name for name in names if name]):
        raise _fault(path, f"has more than one column {repeated}; rename one")
    numbered = [str(number) for number in range(len(names))]
    content = text.encode()
    try:
        table = arrow.read_csv(
            io.BytesIO(content),
            arrow.ReadOptions(use_threads=False, block_size=min(len(content) + 1, 2**31 - 1), column_names=numbered),
            arrow.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            arrow.ConvertOptions(column_types=dict.fromkeys(numbered, pa.string())),
        )
    except pa.ArrowException as error:
        put = f"put quotes around text with {DELIMITERS[delimiter]}, and close each quote"
        raise _fault(path, f"cannot be read ({in_short(error)}); {put}") from error
    usual = delimiter == "," or path.suffix.lower() == ".tsv"
    note = "" if usual else f"{path.name} is read with {DELIMITERS[delimiter]} between its fields"
    return {name: column.to_pylist()[1:] for name, column in zip(names, table.columns, strict=True)}, note


def _header(path: Path, text: str, wanted: Collection[str]) -> tuple[str, list[str]]:
    """The delimiter, and the names of the columns by it."""
    headers = {}
    for delimiter in DELIMITERS:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        headers[delimiter] = [name.strip() for name in next(filter(None, rows), [])]
    fitting = [delimiter for delimiter, header in headers.items() if set(wanted) <= set(header)]
    if len({tuple(headers[delimiter]) for delimiter in fitting}) > 1:
        several = " and with ".join(DELIMITERS[delimiter] for delimiter in fitting)
        raise _fault(path, f"fits task.label and the other columns with {several}; put quotes around names with signs")
    delimiter = fitting[0] if fitting else max(headers, key=lambda delimiter: len(headers[delimiter]))
    return delimiter, headers[delimiter]


def read_jsonl(path: Path, wanted: Collection[str]) -> tuple[Columns, str]:
    """The columns of a file with one JSON object a line; what a row lacks is None. pyarrow's reader would make times of
    texts that look like one.

    Raises:
        ConfigError: no text, or a line that is no object.
    """
    rows = []
    for number, line in enumerate(io.StringIO(_text(path), newline=None), 1):
        if line.strip():
            try:
                rows.append(json.loads(line, object_pairs_hook=_unlike))
            except (ValueError, RecursionError) as error:
                raise _fault(path, f"line {number} is not JSON, one object a line ({in_short(error)})") from error
            if not isinstance(rows[-1], dict):
                raise _fault(path, f'line {number} is not an object like {{"text": …, "label": …}}')
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}, ""


def _unlike(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if repeated := _repeated([name for name, _ in pairs]):
        raise ValueError(f"the key {repeated} stands twice; rename one")
    return dict(pairs)


def read_parquet(path: Path, wanted: Collection[str]) -> tuple[Columns, str]:
    """The wanted columns of a Parquet file as Python's values; of the others only the names.

    Raises:
        ConfigError: no Parquet, a damaged file, two columns of one name, values that Python has not.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        if repeated := _repeated(names):
            raise _fault(path, f"has more than one column {repeated}; rename one")
        read = file.read(columns=[name for name in names if name in wanted])
        return {name: read[name].to_pylist() if name in wanted else () for name in names}, ""
    except ConfigError:
        raise
    except (OSError, ValueError, TypeError, OverflowError, NotImplementedError, pa.ArrowException) as error:
        raise _fault(path, f"cannot be read as Parquet: {in_short(error)}") from error


def _text(path: Path) -> str:
    """The file's text, UTF-8 without a mark of its byte order.

    Raises:
        ConfigError: it is none, such as a spreadsheet, a packed file or UTF-16.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _fault(path, f"is not UTF-8 (byte {error.start}); save it as a table of text in UTF-8") from error
    if (zero := text.find("\0")) >= 0:
        line = text.count("\n", 0, zero) + 1
        raise _fault(path, f"is no text: it has a NUL byte in line {line}; save it as a table of text in UTF-8")
    return text


def _repeated(names: Sequence[str]) -> str:
    return ", ".join(printable(name) for name, count in Counter(names).items() if count > 1)


def _fault(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"task.path={path} {reason}")


READERS: dict[str, Callable[[Path, Collection[str]], tuple[Columns, str]]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}
"""How a table is read, by the end of its file's name."""
