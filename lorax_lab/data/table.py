"""A table: named columns of equal length, and the message for a row at fault."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from lorax_lab.errors import ConfigError, cut, suggest

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
