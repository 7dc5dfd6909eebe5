"""Hostile tables: what a person, a spreadsheet or a fuzzer may hand to `task=local`, and what must come of each."""

from __future__ import annotations

import os

from hostile import (
    COUNT,
    DIGITS,
    DROP,
    LABELS,
    LANGUAGE,
    NUMBERS,
    PAIR,
    SHORT,
    TEXTS,
    Hostile,
    Reads,
    as_parquet,
    bad_utf8,
    beside,
    lazily,
    lines,
    numbered,
    table,
    twice,
    with_label,
    with_text,
    xlsx,
)

OF_LABELS: dict[str, Hostile] = {
    # ---- labels that are classes
    "a label of two minus signs": Hostile("t.csv", table(["--1", "1"] * 8), Reads()),
    "labels of 5,000 digits": Hostile("t.csv", table([DIGITS, "1"] * 8), "row 1"),
    "a label that is infinite": Hostile("t.jsonl", lines(labels=with_label(float("inf"))), "row 3"),
    "a whole number of 5,000 digits": Hostile("t.jsonl", lines('{"text": "x", "label": ' + DIGITS + "}"), "line 17"),
    "labels that are true and false": Hostile("t.jsonl", lines(labels=[True, False] * 8), Reads()),
    "a label that is true among numbers": Hostile("t.jsonl", lines(labels=[1, 0, True, *[0, 1] * 6, 0]), "row 3"),
    "the word 1 among numbers": Hostile("t.jsonl", lines(labels=[1, 0, "1", *[0, 1] * 6, 0]), "row 3"),
    "labels that differ in case": Hostile("t.csv", table(with_label("Dull")), Reads()),
    "labels that differ in spaces inside": Hostile(
        "t.csv", table(["very  dull", *["very dull", "warm"] * 7, "warm"]), ""
    ),
    "labels that differ in a hidden sign": Hostile("t.csv", table(with_label("dull\u200b")), ""),
    "one class": Hostile("t.csv", table(["warm"] * COUNT), ""),
    "as many classes as rows": Hostile("t.csv", table(range(COUNT)), ""),
    "a label that is a list": Hostile("t.jsonl", lines(labels=with_label([1])), "row 3"),
    "a label that is half a character": Hostile("t.jsonl", lines(labels=with_label("\ud800")), "row 3"),
    "an empty label": Hostile("t.csv", table(with_label("")), "row 3.*task.label"),
    "an empty label, dropped": Hostile("t.csv", table(with_label("")), Reads(COUNT - 1), DROP),
    "a fault behind a dropped row": Hostile("t.jsonl", lines(labels=["", "a", [1], *LABELS[3:]]), "row 3", DROP),
    # ---- labels that are numbers
    "regression on nan": Hostile("t.csv", table(numbered("nan")), "row 3", NUMBERS),
    "regression on 1e30": Hostile("t.csv", table(numbered("1e30")), "row 3", NUMBERS),
    "regression on 1e-320": Hostile("t.csv", table([f"{i % 2}e-320" for i in range(16)]), "", NUMBERS),
    "regression on decimal commas": Hostile("t.csv", table([f'"{i},5"' for i in range(COUNT)]), "row 1", NUMBERS),
    "regression on underscores": Hostile("t.csv", table(numbered("1_0")), "row 3", NUMBERS),
}
OF_TEXTS: dict[str, Hostile] = {
    # ---- texts
    "a text that is a list": Hostile("t.jsonl", lines(texts=with_text([1])), "row 3.*task.text"),
    "a text of hidden signs": Hostile("t.csv", table(texts=with_text(" \u200b\ufeff")), Reads(COUNT - 1)),
    "a text of a million characters": Hostile(
        "t.csv", table(texts=with_text("x" * 1_000_000 + " good" * 40)), Reads(), SHORT
    ),
    "half a character": Hostile("t.jsonl", lines(texts=with_text("a \ud83d b")), "row 3.*task.text"),
    "text and label in one column": Hostile("t.csv", table(), "task.text", ["task.text=label"]),
    "a copy of the labels as the text": Hostile(
        "t.csv", table([f"{y},{y}" for y in LABELS], header="text,label,copy"), "task.text_pair", PAIR
    ),
    "the numbers as the text": Hostile(
        "t.csv",
        table([f"{i}.50,{i}.5" for i in range(COUNT)], header="text,label,copy"),
        "task.text",
        [*NUMBERS, "task.text=copy"],
    ),
    "a code of the labels as the text": Hostile(
        "t.csv",
        table([f"{y},{len(y) * ord(y[0])}" for y in LABELS], header="text,label,copy"),
        Reads(),
        PAIR,
    ),
    "completions that are the prompts": Hostile("t.csv", table(TEXTS), Reads(), [*LANGUAGE, "task.prompt=text"]),
}
CASES: dict[str, Hostile] = {
    **OF_LABELS,
    **OF_TEXTS,
    # ---- CSV
    "an empty file": Hostile("t.csv", b"", ""),
    "a header with spaces": Hostile("t.csv", table(header="text , label"), Reads()),
    "a column that is there twice": Hostile("t.csv", table(header="label,label"), ""),
    "a row too long": Hostile("t.csv", table(extra="a,b,c\n"), "Row #18"),
    "a quote that is never closed": Hostile("t.csv", table(extra='"a,b\n'), "Row #18"),
    "quotes in a text without quotes": Hostile("t.csv", table(texts=with_text('say "no" now')), Reads()),
    "line breaks of old Macs": Hostile("t.csv", table().replace(b"\n", b"\r"), Reads()),
    "a byte order mark": Hostile("t.csv", b"\xef\xbb\xbf" + table(), Reads()),
    "NUL bytes": Hostile("t.csv", table(texts=with_text("a\0b")), Reads()),
    "semicolons": Hostile("t.csv", table().replace(b",", b";"), Reads()),
    "semicolons and commas in the texts": Hostile(
        "t.csv",
        table(texts=[f"good, {i}{' film' * i}" for i in range(16)])
        .replace(b", ", b"~")
        .replace(b",", b";")
        .replace(b"~", b", "),
        Reads(),
    ),
    "tabs": Hostile("t.csv", table().replace(b",", b"\t"), Reads()),
    "semicolons and a wrong column": Hostile("t.csv", table(header="text,lable").replace(b",", b";"), ""),
    "two delimiters that both fit": Hostile("t.csv", b"label,b;label\n" * 2, "", LANGUAGE),
    "20,000 columns": Hostile("t.csv", ",".join(f"c{i}" for i in range(20_000)).encode() + b"\n", ""),
    "a column named by an escape sequence": Hostile("t.csv", table(header="\x1b[2Jtext,label"), ""),
    "one column of texts with commas": Hostile("t.csv", b"label\na, b\n", "Row #2", LANGUAGE),
    # ---- JSON lines
    "deep JSON": Hostile("t.jsonl", lines("[" * 100_000), "line 17"),
    "a key that is there twice": Hostile("t.jsonl", lines('{"text": "x", "label": "a", "label": "b"}'), "line 17"),
    "JSON that stops": Hostile("t.jsonl", lines('{"text": "x'), "line 17"),
    "keys that are half a character": Hostile("t.jsonl", b'{"\\ud800": 1}\n', ""),
    "a .json file": Hostile("t.json", lines(), ""),
    # ---- Parquet
    "Parquet columns that are there twice": Hostile("t.parquet", twice, ""),
    "a text that is a struct": Hostile("t.parquet", lazily(text=([{"a": 1}] * 16, "struct")), "row 1.*task.text"),
    "a label that is a time": Hostile("t.parquet", lazily(label=([2**62 + 1] * 16, "time")), "task.label"),
    "a label that is bytes": Hostile("t.parquet", lazily(label=([b"a", b"b"] * 8, "bytes")), "row 1"),
    "labels that are nothing": Hostile("t.parquet", lazily(label=([None] * 16, "none")), "row 1.*task.label"),
    "labels of a dictionary": Hostile("t.parquet", lazily(label=(LABELS, "words")), Reads()),
    "labels that are Parquet's true and false": Hostile(
        "t.parquet", lazily(label=([True, False] * 8, "bool")), Reads()
    ),
    "another column that Python has no value for": Hostile(
        "t.parquet", lazily(when=([2**62 + 1] * 16, "time")), Reads()
    ),
    "strings that are no UTF-8": Hostile("t.parquet", bad_utf8, ""),
    "Parquet in .csv": Hostile("t.csv", as_parquet("t.parquet"), ""),
    # ---- files that are no tables
    "a spreadsheet named .csv": Hostile("t.csv", xlsx(), ""),
    "a folder": Hostile("t.csv", lambda path: path.mkdir(), ""),
    "a pipe": Hostile("t.csv", os.mkfifo, ""),
    "a missing file": Hostile("tabel.csv", beside("table.csv"), ""),
    "a name of 300 letters": Hostile("t" * 300 + ".csv", lambda path: None, ""),
}
"""Every hostile table by what is wrong with it."""
