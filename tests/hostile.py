"""How hostile tables are made, and what must come of one.

A case is the file's name, what is in it, the words of the command line, and what is expected: a part of the one line
that refuses it (the row, the key), or `Reads`, the number of rows that are read.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COUNT = 16
TEXTS = [f"good story number {i}{' film' * i}" for i in range(COUNT)]
LABELS = ["dull", "warm"] * (COUNT // 2)
NUMBERS = ["task.kind=regression"]
LANGUAGE = ["task.kind=language_modeling"]
DIGITS = "7" * 5000
DROP = ["task.drop_unlabeled=true"]
PAIR = ["task.text_pair=copy"]
SHORT = ["task.max_length=32"]
Make = Callable[[Path], None]


@dataclass(frozen=True)
class Reads:
    """A table that is read: how many examples its splits have together."""

    rows: int = COUNT


@dataclass(frozen=True)
class Hostile:
    """A table: its file's name, its content or what makes it, more words, what is expected."""

    file: str
    content: bytes | Make
    expected: str | Reads
    words: Sequence[str] = ()

    def write(self, folder: Path) -> Path:
        """The path of the table, which is there unless it is to be missing."""
        path = folder / self.file
        if callable(self.content):
            self.content(path)
        else:
            path.write_bytes(self.content)
        return path


def table(
    labels: Sequence[Any] = LABELS, texts: Sequence[Any] = TEXTS, extra: str = "", header: str = "text,label"
) -> bytes:
    """A CSV table whose cells are taken as they stand, with further lines behind it."""
    rows = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
    return ("\n".join([header, *rows]) + "\n" + extra).encode()


def lines(*extra: str, labels: Sequence[Any] = LABELS, texts: Sequence[Any] = TEXTS) -> bytes:
    """A table of JSON lines, and further lines as they stand."""
    rows = [json.dumps({"text": t, "label": y}) for t, y in zip(texts, labels, strict=True)]
    return ("\n".join([*rows, *extra]) + "\n").encode()


def parquet(**columns: Any) -> Make:
    """A Parquet table of these columns beside `text` and `label`; a column may be an Arrow array."""

    def make(path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table({"text": TEXTS, "label": LABELS} | columns), path)

    return make


def twice(path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    arrays = [pa.array(TEXTS), pa.array(LABELS), pa.array(LABELS[::-1])]
    parquet.write_table(pa.Table.from_arrays(arrays, ["text", "label", "label"]), path)


def arrow(values: Sequence[Any], kind: str) -> Any:
    import pyarrow as pa

    kinds = {
        "time": pa.timestamp("ns"), "bytes": pa.binary(), "struct": pa.struct({"a": pa.int64()}),
        "words": pa.dictionary(pa.int8(), pa.string()), "none": pa.null(), "bool": pa.bool_(),
    }  # fmt: skip
    return pa.array(list(values), kinds[kind])


def lazily(**columns: tuple[Sequence[Any], str]) -> Make:
    return lambda path: parquet(**{name: arrow(*of) for name, of in columns.items()})(path)


def bad_utf8(path: Path) -> None:
    """A column of strings that are none."""
    import pyarrow as pa

    cells = pa.array([b"caf\xe9"] * COUNT, pa.binary())
    parquet(text=pa.Array.from_buffers(pa.string(), COUNT, cells.buffers()))(path)


def xlsx() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return content.getvalue()


def as_parquet(name: str) -> Make:
    def make(path: Path) -> None:
        parquet()(path.with_name(name))
        path.with_name(name).rename(path)

    return make


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere.csv"))


def beside(name: str) -> Make:
    return lambda path: (path.with_name(name).write_bytes(table()), None)[1]


def with_label(label: Any, at: int = 2) -> list[Any]:
    return [*LABELS[:at], label, *LABELS[at + 1 :]]


def with_text(text: Any, at: int = 2) -> list[Any]:
    return [*TEXTS[:at], text, *TEXTS[at + 1 :]]


def numbered(number: Any) -> list[Any]:
    return [i / 2 if i != 2 else number for i in range(COUNT)]
