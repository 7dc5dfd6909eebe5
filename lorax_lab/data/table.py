"""A table: named columns of equal length, how its file is read, and the message for a row at fault."""

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

from lorax_lab.errors import ConfigError, in_short, suggest

Columns = Mapping[str, Sequence[Any]]
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What can stand between two fields of a CSV file; the first is the usual one."""
COMPARED, LONGEST = 1000, 60
"""Among how many names of columns the nearest is looked for; characters of a name in a message."""


@dataclass(frozen=True)
class Table:
    """Named columns of equal length; `where` names the table in messages, `path` in those for a row. Rows count from 1,
    after a header; `rows` are the indices of those that are used, None for all. `folder` is where paths start."""

    where: str
    columns: Columns
    folder: Path = Path()
    rows: Sequence[int] | None = None
    path: str = ""

    def column(self, key: str, name: str) -> list[Any]:
        """The cells of the column that `task.<key>` names; a ConfigError names the nearest where there is no such."""
        if name not in self.columns:
            names = [printable(column) for column in islice(self.columns, COMPARED)]
            hint = suggest(name, names)[:300] if names else "it is empty"
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
                row = f"task.path={self.path or self.where}, row {self.number(index)}"
                raise ConfigError(f"{row}: task.{key}={name} is {shown(cell)}: {error}") from error
        return values

    def number(self, index: int) -> int:
        """The number of a used row, counted from 1 among all."""
        return 1 + (index if self.rows is None else self.rows[index])


def is_missing(cell: Any) -> bool:
    """Whether a cell holds nothing.

    >>> is_missing(None), is_missing(float("nan")), is_missing(" "), is_missing(0)
    (True, True, True, False)
    """
    return cell is None or cell != cell or (isinstance(cell, str) and not "".join(filter(is_seen, cell)).strip())


def is_seen(sign: str) -> bool:
    """Whether a sign is none of format, such as a byte order mark."""
    return unicodedata.category(sign) != "Cf"


def shown(cell: Any) -> str:
    """A cell in a message.

    >>> shown(None), shown([1])
    ('missing', "list '[1]'")
    """
    return "missing" if is_missing(cell) else f"{type(cell).__name__} {str(cell)[:40]!r}"


def printable(text: str) -> str:
    r"""A name in a message, on one line and not long: what a terminal cannot show is escaped.

    >>> printable("a\nb"), printable("é")
    ('a\\nb', 'é')
    """
    short = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in short)


def read_table(path: Path, wanted: Collection[str]) -> Table:
    """The table in a file of a kind that `READERS` has, with the columns that are wanted. A file that is not what its
    name says is a ConfigError."""
    try:
        columns = READERS[path.suffix.lower()](path, wanted)
    except OSError as error:
        raise _fault(path, f"cannot be read: {error.strerror or error}") from error
    except csv.Error as error:
        raise _fault(path, f"cannot be read ({in_short(error)}); close each quote") from error
    return Table(printable(path.name), columns, path.parent, path=str(path))


def _read_csv(path: Path, wanted: Collection[str]) -> Columns:
    """Every cell is the text that it has, `NA` too; names have no spaces around them."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    text = _text(path)
    if not text.strip("\r\n"):
        return {}
    delimiter, names = _header(text, wanted)
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
    return {name: column.to_pylist()[1:] for name, column in zip(names, table.columns, strict=True)}


def _header(text: str, wanted: Collection[str]) -> tuple[str, list[str]]:
    """The delimiter by which the first line has the most of the wanted columns, then the most columns; its names."""
    headers = {}
    for delimiter in DELIMITERS:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        headers[delimiter] = [name.strip() for name in next(filter(None, rows), [])]
    return max(headers.items(), key=lambda header: (len(set(wanted) & set(header[1])), len(header[1])))


def _read_jsonl(path: Path, wanted: Collection[str]) -> Columns:
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
    return {name: [row.get(name) for row in rows] for name in names}


def _unlike(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if repeated := _repeated(name for name, _ in pairs):
        raise ValueError(f"the key {repeated} stands twice; rename one")
    return dict(pairs)


def _read_parquet(path: Path, wanted: Collection[str]) -> Columns:
    """The wanted columns as Python's values; of the others only the names."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        if repeated := _repeated(names):
            raise ValueError(f"it has more than one column {repeated}; rename one")
        read = file.read(columns=[name for name in names if name in wanted])
        return {name: read[name].to_pylist() if name in wanted else () for name in names}
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


READERS: dict[str, Callable[[Path, Collection[str]], Columns]] = {
    ".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet,
}  # fmt: skip
"""How a table is read, by the end of its file's name."""
