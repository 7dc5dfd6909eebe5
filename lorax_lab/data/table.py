"""A table: named columns of equal length, and the message for a row at fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorax_lab.errors import ConfigError, suggest


@dataclass(frozen=True)
class Table:
    """Named columns of equal length; `where` names the table in messages. Rows count from 1, after a header.

    `folder` is where the files lie whose paths a column has.
    """

    where: str
    columns: Mapping[str, Sequence[Any]]
    folder: Path = Path()

    def column(self, key: str, name: str) -> list[Any]:
        """The values of the column that `task.<key>` names.

        Raises:
            ConfigError: no such column; the nearest names come first.
        """
        if not self.columns:
            raise ConfigError(f"{self.where} is empty: it has no columns")
        if name not in self.columns:
            hint = suggest(name, tuple(self.columns)).replace("allowed:", "its columns:")
            raise ConfigError(f"task.{key}={name} is not a column of {self.where}; {hint}")
        return list(self.columns[name][:])

    def fault(self, row: int, reason: str) -> ConfigError:
        """The error for the row of index `row`, counted from 1 in the message."""
        return ConfigError(f"{self.where}, row {row + 1}: {reason}")


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing.

    >>> is_missing(None), is_missing(float("nan")), is_missing(" "), is_missing(0)
    (True, True, True, False)
    """
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def shown(value: Any) -> str:
    """A cell in a message.

    >>> shown(None), shown([1])
    ('missing', "list '[1]'")
    """
    return "missing" if value is None or value != value else f"{type(value).__name__} {str(value)[:40]!r}"
