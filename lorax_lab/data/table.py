"""A table: named columns of equal length, how its file is read, and the message for a row at fault."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lorax_lab.errors import ConfigError, cut, in_short, suggest

Columns = Mapping[str, Sequence[Any]]
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What can stand between two fields of a CSV file; the first is the usual one."""
COMPARED, LONGEST = 1000, 60
"""Among how many names of columns the nearest is looked for; characters of a name in a message."""


@dataclass(frozen=True)
class Table:
    """Named columns of equal length; `where` names the table in messages. Rows count from 1, after a header.

    Args:
        path: what `task.path` is in the message for a row; without it, `where`.
        folder: where the files lie whose paths a column has.
        rows: indices of the rows that are used; None for all.
        note: what a person should know of how the table was read.
    """

    where: str
    columns: Columns
    folder: Path = Path()
    rows: Sequence[int] | None = None
    note: str = ""
    path: str = ""

    def column(self, key: str, name: str) -> list[Any]:
        """The cells of the column that `task.<key>` names; a ConfigError names the nearest where there is no such."""
        if name not in self.columns:
            names = [printable(column) for column in islice(self.columns, COMPARED)]
            hint = cut(suggest(name, names), 300) if names else "it is empty"
            raise ConfigError(f"task.{key}={name} is not a column of {self.where}; {hint}")
        cells = list(self.columns[name][:])
        return cells if self.rows is None else [cells[row] for row in self.rows]

    def read(self, key: str, name: str, read_cell: Callable[[Any], Any]) -> list[Any]:
        """What `read_cell` makes of each cell of the column that `task.<key>` names; where it raises a ValueError, the
        row is named in a ConfigError."""
        values = []
        for index, cell in enumerate(self.column(key, name)):
            try:
                values.append(read_cell(cell))
            except ConfigError:
                raise
            except ValueError as error:
                at_fault = (
                    f"task.path={self.path or self.where}, row {self.number(index)}: task.{key}={name} is {shown(cell)}"
                )
                raise ConfigError(f"{at_fault}: {error}") from error
        return values

    def number(self, index: int) -> int:
        """The number of a used row, counted from 1 among all."""
        return 1 + (index if self.rows is None else self.rows[index])


def is_missing(cell: Any) -> bool:
    """Whether a cell holds nothing.

    >>> is_missing(None), is_missing(float("nan")), is_missing(" "), is_missing(0)
    (True, True, True, False)
    """
    return cell is None or cell != cell or (isinstance(cell, str) and is_unseen(cell))


def is_unseen(text: str) -> bool:
    r"""Whether nothing of a text is seen: it has spaces and signs of format alone, such as a byte order mark.

    >>> is_unseen(" \u200b"), is_unseen("\ufeff\u2060"), is_unseen("a\u200b")
    (True, True, False)
    """
    return all(sign.isspace() or unicodedata.category(sign) == "Cf" for sign in text)


def shown(cell: Any) -> str:
    """A cell in a message.

    >>> shown(None), shown([1])
    ('missing', "list '[1]'")
    """
    return "missing" if is_missing(cell) else f"{type(cell).__name__} {cut(cell, 40)!r}"


def printable(text: str) -> str:
    r"""A name in a message, on one line and not long: what a terminal cannot show is escaped.

    >>> printable("a\nb"), printable("é")
    ('a\\nb', 'é')
    """
    short = cut(text, LONGEST + 1)
    short = short if len(short) <= LONGEST else f"{short[: LONGEST - 1]}…"
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in short)


def read_table(path: Path, wanted: Collection[str]) -> Table:
    """The table in a file of a kind that `READERS` has, with the columns that are wanted. A file that is not what its
    name says is a ConfigError."""
    try:
        columns, note = READERS[path.suffix.lower()](path, wanted)
    except OSError as error:
        raise _fault(path, f"cannot be read: {error.strerror or error}") from error
    return Table(printable(path.name), columns, path.parent, note=note, path=str(path))


def _read_csv(path: Path, wanted: Collection[str]) -> tuple[Columns, str]:
    """Every cell is the text that it has, `NA` too. The delimiter is the one by which the first line has every wanted
    column; names have no spaces around them."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    text = _text(path)
    if not text.strip("\r\n"):
        return {}, ""
    delimiter, names = _header(path, text, wanted)
    if repeated := _repeated(filter(None, names)):
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


def _read_jsonl(path: Path, wanted: Collection[str]) -> tuple[Columns, str]:
    """One JSON object a line; what a row lacks is None. pyarrow's reader would make times of texts like one."""
    rows = []
    for number, line in enumerate(io.StringIO(_text(path), newline=None), 1):
        if line.strip():
            try:
                rows.append(json.loads(line, object_pairs_hook=_unlike))
                if not isinstance(rows[-1], dict):
                    raise ValueError('it is no object like {"text": …, "label": …}')
            except (ValueError, RecursionError) as error:
                raise _fault(path, f"line {number} is not JSON, one object a line ({in_short(error)})") from error
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}, ""


def _unlike(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if repeated := _repeated(name for name, _ in pairs):
        raise ValueError(f"the key {repeated} stands twice; rename one")
    return dict(pairs)


def _read_parquet(path: Path, wanted: Collection[str]) -> tuple[Columns, str]:
    """The wanted columns as Python's values; of the others only the names."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        if repeated := _repeated(names):
            raise ValueError(f"it has more than one column {repeated}; rename one")
        read = file.read(columns=[name for name in names if name in wanted])
        return {name: read[name].to_pylist() if name in wanted else () for name in names}, ""
    except (OSError, ValueError, TypeError, OverflowError, NotImplementedError, pa.ArrowException) as error:
        raise _fault(path, f"cannot be read as Parquet: {in_short(error)}") from error


def _text(path: Path) -> str:
    """The file's text, UTF-8 without a mark of its byte order."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _fault(path, f"is not UTF-8 (byte {error.start}); save it as a table of text in UTF-8") from error
    if (zero := text.find("\0")) >= 0:
        line = text.count("\n", 0, zero) + 1
        raise _fault(path, f"is no text: it has a NUL byte in line {line}; save it as a table of text in UTF-8")
    return text


def _repeated(names: Iterable[str]) -> str:
    return ", ".join(printable(name) for name, count in Counter(names).items() if count > 1)


def _fault(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"task.path={path} {reason}")


READERS: dict[str, Callable[[Path, Collection[str]], tuple[Columns, str]]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
"""How a table is read, by the end of its file's name: its columns, and what is to be said of it."""
