"""Hostile tables: what a person, a spreadsheet or a fuzzer may hand to `task=local`, and what must come of each.

A case is the file's name, what is in it, the words of the command line, and what is expected: a part of the one line
that refuses it (the row, the key), or how many rows are read.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.parquet import write_table

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
class Hostile:
    """A table: its file's name, its content or what makes it, more words, what is expected."""

    file: str
    content: bytes | Make
    expected: str | int
    words: Sequence[str] = ()

    def write(self, folder: Path) -> Path:
        """The path of the table."""
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
    return lambda path: write_table(pa.table({"text": TEXTS, "label": LABELS} | columns), path)


TIMES = pa.array([2**62 + 1] * COUNT, pa.timestamp("ns"))
TWICE = pa.Table.from_arrays([pa.array(cells) for cells in (TEXTS, LABELS, LABELS[::-1])], ["text", "label", "label"])
NO_UTF8 = pa.Array.from_buffers(pa.string(), COUNT, pa.array([b"caf\xe9"] * COUNT, pa.binary()).buffers())


def with_label(label: Any) -> list[Any]:
    return [*LABELS[:2], label, *LABELS[3:]]


def with_text(text: Any) -> list[Any]:
    return [*TEXTS[:2], text, *TEXTS[3:]]


def numbered(number: Any) -> list[Any]:
    return [i / 2 if i != 2 else number for i in range(COUNT)]


CASES: dict[str, Hostile] = {
    # ---- labels that are classes
    "labels of 5,000 digits": Hostile("t.csv", table([DIGITS, "1"] * 8), "row 1"),
    "a label that is infinite": Hostile("t.jsonl", lines(labels=with_label(float("inf"))), "row 3"),
    "a whole number of 5,000 digits": Hostile("t.jsonl", lines('{"text": "x", "label": ' + DIGITS + "}"), "line 17"),
    "the word 1 among numbers": Hostile("t.jsonl", lines(labels=[1, 0, "1", *[0, 1] * 6, 0]), COUNT),
    "as many classes as rows": Hostile("t.csv", table(range(COUNT)), ""),
    "a label that is a list": Hostile("t.jsonl", lines(labels=with_label([1])), r"task\.path=/.*t\.jsonl, row 3"),
    "a label that is half a character": Hostile("t.jsonl", lines(labels=with_label("\ud800")), "row 3"),
    "a quote that stays open": Hostile("t.csv", b'"text,label\n' + b"x" * 200_000, "close each quote"),
    "an empty label, dropped": Hostile("t.csv", table(with_label("")), COUNT - 1, DROP),
    "no label at all, dropped": Hostile("t.csv", table([""] * COUNT), "task.label=label: no row has a label", DROP),
    "a fault behind a dropped row": Hostile("t.jsonl", lines(labels=["", "a", [1], *LABELS[3:]]), "row 3", DROP),
    # ---- labels that are numbers
    "regression on nan": Hostile("t.csv", table(numbered("nan")), "row 3", NUMBERS),
    "regression on 1e-320": Hostile("t.csv", table([f"{i % 2}e-320" for i in range(16)]), "", NUMBERS),
    # ---- texts
    "a text of hidden signs": Hostile("t.csv", table(texts=with_text(" \u200b\ufeff")), COUNT - 1),
    "a text of a million characters": Hostile(
        "t.csv", table(texts=with_text("x" * 1_000_000 + " good" * 40)), COUNT, SHORT
    ),
    "half a character": Hostile("t.jsonl", lines(texts=with_text("a \ud83d b")), "row 3.*task.text"),
    "a code of the labels as the text": Hostile(
        "t.csv", table([f"{y},{len(y) * ord(y[0])}" for y in LABELS], header="text,label,copy"), COUNT, PAIR
    ),
    "completions that are the prompts": Hostile("t.csv", table(TEXTS), COUNT, [*LANGUAGE, "task.prompt=text"]),
    # ---- CSV
    "an empty file": Hostile("t.csv", b"", ""),
    "a column that is there twice": Hostile("t.csv", table(header="label,label"), ""),
    "a row too long": Hostile("t.csv", table(extra="a,b,c\n"), "Row #18"),
    "NUL bytes": Hostile("t.csv", table(texts=with_text("a\0b")), "line 4"),
    "UTF-16 without its mark": Hostile("t.csv", table().decode().encode("utf-16-le"), "NUL byte in line 1"),
    "line breaks of old Macs": Hostile("t.csv", table().replace(b"\n", b"\r"), COUNT),
    "semicolons": Hostile("t.csv", table().replace(b",", b";"), COUNT),
    "tabs": Hostile("t.csv", table().replace(b",", b"\t"), COUNT),
    "two keys of one column": Hostile("t.csv", table(), "column of task.text;", ["task.text_pair=text"]),
    "semicolons and a wrong column": Hostile("t.csv", table(header="text,lable").replace(b",", b";"), ""),
    "20,000 columns": Hostile("t.csv", ",".join(f"c{i}" for i in range(20_000)).encode() + b"\n", ""),
    "a column named by an escape sequence": Hostile("t.csv", table(header="\x1b[2Jtext,label"), ""),
    # ---- JSON lines
    "deep JSON": Hostile("t.jsonl", lines("[" * 100_000), "line 17"),
    "a key that is there twice": Hostile("t.jsonl", lines('{"text": "x", "label": "a", "label": "b"}'), "line 17"),
    "keys that are half a character": Hostile("t.jsonl", b'{"\\ud800": 1}\n', ""),
    "a .json file": Hostile("t.json", lines(), ""),
    # ---- Parquet
    "Parquet columns that are there twice": Hostile("t.parquet", lambda path: write_table(TWICE, path), ""),
    "a label that is a time": Hostile("t.parquet", parquet(label=TIMES), "task.label"),
    "labels of a dictionary": Hostile("t.parquet", parquet(label=pa.array(LABELS).dictionary_encode()), COUNT),
    "another column that Python has no value for": Hostile("t.parquet", parquet(when=TIMES), COUNT),
    "strings that are no UTF-8": Hostile("t.parquet", parquet(text=NO_UTF8), ""),
    # ---- files that are no tables
    "Latin-1": Hostile("t.csv", table(texts=with_text("caf\u00e9")).decode().encode("latin-1"), "is not UTF-8"),
    "a pipe": Hostile("t.csv", os.mkfifo, "is not there"),
}
"""Every hostile table by what is wrong with it."""
