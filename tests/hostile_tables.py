"""Hostile tables: what a person, a spreadsheet or a fuzzer may hand to `task=local`, and what must come of each."""

from __future__ import annotations

import gzip
import json
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
    dangling,
    lazily,
    lines,
    loop,
    numbered,
    table,
    twice,
    with_label,
    with_text,
    xlsx,
)

ROW = "task.path=.*, row 3: "
LINE = "task.path=.*, line "
OF_LABELS: dict[str, Hostile] = {
    # ---- labels that are classes
    "a label of two minus signs": Hostile("t.csv", table(["--1", "1"] * 8), Reads()),
    "a label that is a minus sign": Hostile("t.csv", table(["-", "1"] * 8), Reads()),
    "labels of 5,000 digits": Hostile("t.csv", table([DIGITS, "1"] * 8), "row 1: the label has 5,000 characters"),
    "labels of Arabic digits": Hostile("t.csv", table(["٣", "1"] * 8), Reads()),
    "a label that is infinite": Hostile("t.jsonl", lines(labels=with_label(float("inf"))), ROW + "the label inf"),
    "a label that is NaN": Hostile(
        "t.jsonl", lines(labels=with_label(float("nan"))), ROW + "task.label=label is empty"
    ),
    "a label of 1e400": Hostile("t.jsonl", lines('{"text": "x", "label": 1e400}'), "row 17: the label inf"),
    "a label of 1e300": Hostile("t.jsonl", lines(labels=with_label(1e300)), ROW + "the label has 301 characters"),
    "a whole number of 5,000 digits": Hostile(
        "t.jsonl", lines('{"text": "x", "label": ' + DIGITS + "}"), LINE + "17: a number of 5,000 digits"
    ),
    "labels that are true and false": Hostile("t.jsonl", lines(labels=[True, False] * 8), Reads()),
    "a label that is true among numbers": Hostile(
        "t.jsonl", lines(labels=[1, 0, True, *[0, 1] * 6, 0]), ROW + ".*True"
    ),
    "a number among words": Hostile("t.jsonl", lines(labels=with_label(1)), Reads(says="no row of 1")),
    "the word 1 among numbers": Hostile("t.jsonl", lines(labels=[1, 0, "1", *[0, 1] * 6, 0]), ROW + ".*'1'.*number"),
    "labels that differ in case": Hostile("t.csv", table(with_label("Dull")), Reads(says="differ in case alone")),
    "labels that differ in spaces around": Hostile("t.csv", table(with_label(" dull ")), Reads()),
    "labels that differ in spaces inside": Hostile(
        "t.csv", table(["very  dull", *["very dull", "warm"] * 7, "warm"]), "look alike"
    ),
    "labels that differ in a hidden sign": Hostile("t.csv", table(with_label("dull\u200b")), "look alike"),
    "labels in two forms of Unicode": Hostile("t.csv", table(["é", "e\u0301"] * 8), "look alike"),
    "one class": Hostile("t.csv", table(["warm"] * COUNT), "one label only"),
    "as many classes as rows": Hostile("t.csv", table(range(COUNT)), "too many for classes"),
    "a class of one row": Hostile("t.csv", table(with_label("rare")), Reads(says="rare")),
    "a label that is a list": Hostile("t.jsonl", lines(labels=with_label([1])), ROW + "the label is list"),
    "a label that is an object": Hostile("t.jsonl", lines(labels=with_label({"a": 1})), ROW + "the label is dict"),
    "a label that is half a character": Hostile("t.jsonl", lines(labels=with_label("\ud800")), ROW + ".*surrogate"),
    "an empty label": Hostile("t.csv", table(with_label("")), ROW + "task.label=label is empty.*type task.drop_unla"),
    "a label of hidden signs": Hostile(
        "t.csv", table(with_label("\u200b\u2060")), ROW + "task.label=label is empty.*type task.drop_unlabeled=true"
    ),
    "labels of hidden signs, dropped": Hostile(
        "t.jsonl", lines(labels=["\ufeff", " \u200e ", *LABELS[2:]]), Reads(COUNT - 2, "2 unlabeled"), DROP
    ),
    "a completion of hidden signs": Hostile(
        "t.csv", table(with_label("\u200b")), ROW + "task.label=label is empty", LANGUAGE
    ),
    "an empty label, dropped": Hostile("t.csv", table(with_label("")), Reads(COUNT - 1, "1 unlabeled"), DROP),
    "a missing label, dropped": Hostile("t.jsonl", lines('{"text": "x"}'), Reads(COUNT, "1 unlabeled"), DROP),
    "a fault behind a dropped row": Hostile(
        "t.jsonl", lines(labels=["", "a", [1], *LABELS[3:]]), ROW + "the label is list", DROP
    ),
    "no label at all, dropped": Hostile("t.csv", table([""] * COUNT), "no row has a label", DROP),
    "a label with a line break": Hostile("t.csv", table(with_label('"dull\nred"')), Reads(COUNT)),
    # ---- labels that are numbers
    "regression on words": Hostile("t.csv", table(), "row 1: the label str 'dull' is not a finite number", NUMBERS),
    "regression on infinity": Hostile("t.csv", table(numbered("inf")), ROW + ".*not a finite number", NUMBERS),
    "regression on nan": Hostile("t.csv", table(numbered("nan")), ROW + ".*not a finite number", NUMBERS),
    "regression on 1e39": Hostile("t.csv", table(numbered("1e39")), ROW + ".*too large", NUMBERS),
    "regression on 1e30": Hostile("t.csv", table(numbered("1e30")), ROW + ".*too large", NUMBERS),
    "regression on 1e-320": Hostile("t.csv", table([f"{i % 2}e-320" for i in range(16)]), "no difference", NUMBERS),
    "regression on 5,000 digits": Hostile("t.csv", table(numbered(DIGITS)), ROW + ".*not a finite number", NUMBERS),
    "regression on a long whole number": Hostile(
        "t.jsonl", lines(labels=numbered(10**400)), ROW + ".*not a finite number", NUMBERS
    ),
    "regression on decimal commas": Hostile(
        "t.csv", table([f'"{i},5"' for i in range(COUNT)]), "row 1: .*not a finite number.*point", NUMBERS
    ),
    "regression on true": Hostile("t.jsonl", lines(labels=numbered(True)), ROW + ".*not a finite number", NUMBERS),
    "regression on one value": Hostile("t.csv", table([3] * COUNT), "one label only", NUMBERS),
    "regression, one label dropped": Hostile("t.csv", table(numbered("")), Reads(15, "1 unlabeled"), [*NUMBERS, *DROP]),
    "regression on underscores": Hostile("t.csv", table(numbered("1_0")), ROW + ".*not a finite number", NUMBERS),
}
OF_TEXTS: dict[str, Hostile] = {
    # ---- texts
    "texts that are numbers": Hostile("t.jsonl", lines(texts=[*range(6), *TEXTS[6:]]), Reads()),
    "texts that are unknown": Hostile("t.jsonl", lines(texts=list(range(COUNT))), "have no token .*in task.text"),
    "a text that is a long whole number": Hostile("t.jsonl", lines(texts=with_text(10**400)), Reads()),
    "a text that is NaN": Hostile("t.jsonl", lines(texts=with_text(float("nan"))), ROW + "task.text=text is missing"),
    "a text that is null": Hostile("t.jsonl", lines(texts=with_text(None)), ROW + "task.text=text is missing"),
    "a text that is a list": Hostile("t.jsonl", lines(texts=with_text([1])), ROW + "task.text=text is list"),
    "a text of spaces": Hostile("t.csv", table(texts=with_text("   ")), Reads(COUNT - 1, "1 blank")),
    "a text of hidden signs": Hostile("t.csv", table(texts=with_text(" \u200b\ufeff")), Reads(COUNT - 1, "1 blank")),
    "only empty texts": Hostile("t.csv", table(texts=[""] * COUNT), "no rows with text"),
    "a text of a million characters": Hostile(
        "t.csv", table(texts=with_text("x" * 1_000_000 + " good" * 40)), Reads(says="cut"), SHORT
    ),
    "a text longer than the model": Hostile(
        "t.csv", table(texts=with_text("good " * 100)), "type task.max_length=64", ["task.max_length=100"]
    ),
    "half a character": Hostile("t.jsonl", lines(texts=with_text("a \ud83d b")), ROW + "task.text=text.*surrogate"),
    "a NUL in JSON": Hostile("t.jsonl", lines(texts=with_text("a\u0000b")), Reads()),
    "an escape sequence": Hostile("t.csv", table(texts=with_text("\x1b[2J\x1b]0;x\x07")), Reads()),
    "the same text in every row": Hostile("t.csv", table(texts=["good"] * COUNT), "0 rows after 16"),
    "each row twice": Hostile("t.csv", table(LABELS * 2, TEXTS * 2), Reads(COUNT, "16 duplicate")),
    "text and label in one column": Hostile("t.csv", table(), "task.text=label is the column", ["task.text=label"]),
    "a copy of the labels as the text": Hostile(
        "t.csv", table([f"{y},{y}" for y in LABELS], header="text,label,copy"), "task.text_pair=copy", PAIR
    ),
    "the labels in capitals as the text": Hostile(
        "t.csv", table([f"{y}, {y.upper()}" for y in LABELS], header="text,label,copy"), "task.text_pair=copy", PAIR
    ),
    "the numbers as the text": Hostile(
        "t.csv",
        table([f"{i}.50,{i}.5" for i in range(COUNT)], header="text,label,copy"),
        "task.text=copy",
        [*NUMBERS, "task.text=copy"],
    ),
    "a code of the labels as the text": Hostile(
        "t.csv",
        table([f"{y},{len(y) * ord(y[0])}" for y in LABELS], header="text,label,copy"),
        Reads(says="tells the label"),
        PAIR,
    ),
    "completions that are the prompts": Hostile(
        "t.csv", table(TEXTS), Reads(says="is its completion"), [*LANGUAGE, "task.prompt=text"]
    ),
}
CASES: dict[str, Hostile] = {
    **OF_LABELS,
    **OF_TEXTS,
    # ---- CSV
    "an empty file": Hostile("t.csv", b"", "is empty: it has no columns"),
    "line breaks alone": Hostile("t.csv", b"\n\n\n", "is empty: it has no columns"),
    "a header alone": Hostile("t.csv", b"text,label\n", "has no rows"),
    "one row": Hostile("t.csv", b"text,label\na,b\n", "one label only"),
    "two rows": Hostile("t.csv", b"text,label\na,b\nc,d\n", "has 2 rows, too few"),
    "no header": Hostile("t.csv", table(header="good,warm"), "is not a column of t.csv; its columns: good, warm"),
    "a header with spaces": Hostile("t.csv", table(header="text , label"), Reads()),
    "a column that is there twice": Hostile("t.csv", table(header="label,label"), "more than one column label"),
    "columns without names": Hostile("t.csv", table([f"{y},," for y in LABELS], header="text,label,,"), Reads()),
    "a row too long": Hostile("t.csv", table(extra="a,b,c\n"), LINE + "18: 3 fields and the header has 2"),
    "a row too short": Hostile("t.csv", table(extra="a\n"), LINE + "18: 1 fields and the header has 2"),
    "a quote that is never closed": Hostile("t.csv", table(extra='"a,b\n'), LINE + "18: a quote.*never closed"),
    "a quote inside a field": Hostile("t.csv", table(extra='"a" b,c\n'), LINE + "18: .*quote"),
    "quotes in a text without quotes": Hostile("t.csv", table(texts=with_text('say "no" now')), Reads()),
    "line breaks of Windows": Hostile("t.csv", table().replace(b"\n", b"\r\n"), Reads()),
    "line breaks of old Macs": Hostile("t.csv", table().replace(b"\n", b"\r"), Reads()),
    "a byte order mark": Hostile("t.csv", b"\xef\xbb\xbf" + table(), Reads()),
    "two byte order marks": Hostile("t.csv", b"\xef\xbb\xbf" * 2 + table(), "is not a column"),
    "UTF-16": Hostile("t.csv", table().decode().encode("utf-16"), "is not UTF-8.*UTF-16"),
    "UTF-16 without a mark": Hostile("t.csv", table().decode().encode("utf-16-le"), "UTF-16"),
    "UTF-32": Hostile("t.csv", table().decode().encode("utf-32"), "UTF-32"),
    "Latin-1": Hostile(
        "t.csv", table(with_label("caf\xe9")).decode().encode("latin-1"), "is not UTF-8.*save it as UTF-8"
    ),
    "NUL bytes": Hostile("t.csv", table(texts=with_text("a\0b")), LINE + "4: .*NUL"),
    "zeros alone": Hostile("t.csv", bytes(500), "NUL"),
    "semicolons": Hostile("t.csv", table().replace(b",", b";"), Reads(says="semicolon")),
    "semicolons and commas in the texts": Hostile(
        "t.csv",
        table(texts=[f"good, {i}{' film' * i}" for i in range(16)])
        .replace(b", ", b"~")
        .replace(b",", b";")
        .replace(b"~", b", "),
        Reads(says="semicolon"),
    ),
    "tabs": Hostile("t.csv", table().replace(b",", b"\t"), Reads(says="tab")),
    "tabs in a .tsv": Hostile("t.tsv", table().replace(b",", b"\t"), Reads()),
    "bars": Hostile("t.csv", table().replace(b",", b"|"), Reads(says="bar")),
    "semicolons and a wrong column": Hostile(
        "t.csv", table(header="text,lable").replace(b",", b";"), "did you mean 'lable'"
    ),
    "two delimiters that both fit": Hostile("t.csv", b"label,b;label\n" * 2, "fits.*commas.*semicolons", LANGUAGE),
    "20,000 columns": Hostile("t.csv", ",".join(f"c{i}" for i in range(20_000)).encode() + b"\n", "is not a column"),
    "a column named by an escape sequence": Hostile("t.csv", table(header="\x1b[2Jtext,label"), "is not a column"),
    "one column of texts with commas": Hostile("t.csv", b"label\na, b\n", LINE + "2: 2 fields", LANGUAGE),
    # ---- JSON lines
    "deep JSON": Hostile("t.jsonl", lines("[" * 100_000), LINE + "17: .*deep"),
    "deep objects": Hostile("t.jsonl", lines('{"a":' * 100_000), LINE + "17: .*deep"),
    "a list in a line": Hostile("t.jsonl", lines("[1, 2]"), LINE + "17: not an object"),
    "a number in a line": Hostile("t.jsonl", lines("7"), LINE + "17: not an object"),
    "null in a line": Hostile("t.jsonl", lines("null"), LINE + "17: not an object"),
    "an empty object": Hostile("t.jsonl", lines("{}"), "row 17: task.label=label is empty"),
    "a key that is there twice": Hostile(
        "t.jsonl", lines('{"text": "x", "label": "a", "label": "b"}'), LINE + "17: .*label.*twice"
    ),
    "JSON that stops": Hostile("t.jsonl", lines('{"text": "x'), LINE + "17: not JSON"),
    "JSON over several lines": Hostile(
        "t.jsonl", json.dumps([{"text": "x", "label": 1}], indent=1).encode(), LINE + "1: not JSON"
    ),
    "JSON in .csv": Hostile("t.csv", lines(), "is not a column|fields"),
    "CSV in .jsonl": Hostile("t.jsonl", table(), LINE + "1: not JSON"),
    "keys that are half a character": Hostile("t.jsonl", b'{"\\ud800": 1}\n', "is not a column"),
    "JSON lines in UTF-16": Hostile("t.jsonl", lines().decode().encode("utf-16"), "is not UTF-8.*UTF-16"),
    "a .json file": Hostile("t.json", lines(), r"its name ends in .*\.jsonl"),
    # ---- Parquet
    "Parquet columns that are there twice": Hostile("t.parquet", twice, "more than one column label"),
    "a text that is a struct": Hostile(
        "t.parquet", lazily(text=([{"a": 1}] * 16, "struct")), "row 1: task.text=text is dict"
    ),
    "a text that is a list in Parquet": Hostile(
        "t.parquet", lazily(text=([[1]] * 16, "list")), "row 1: task.text=text is list"
    ),
    "a text that is a map": Hostile(
        "t.parquet", lazily(text=([[("a", 1)]] * 16, "map")), "row 1: task.text=text is list"
    ),
    "a label that is a time": Hostile(
        "t.parquet", lazily(label=([2**62 + 1] * 16, "time")), "task.label=label|the label"
    ),
    "a label that is bytes": Hostile(
        "t.parquet", lazily(label=([b"a", b"b"] * 8, "bytes")), "row 1: the label is bytes"
    ),
    "a label that is a decimal": Hostile(
        "t.parquet", lazily(label=([1, 2] * 8, "decimal")), "row 1: the label is Decimal"
    ),
    "labels that are nothing": Hostile(
        "t.parquet", lazily(label=([None] * 16, "none")), "row 1: task.label=label is empty"
    ),
    "labels of a dictionary": Hostile("t.parquet", lazily(label=(LABELS, "words")), Reads()),
    "labels that are Parquet's true and false": Hostile(
        "t.parquet", lazily(label=([True, False] * 8, "bool")), Reads()
    ),
    "another column that Python has no value for": Hostile(
        "t.parquet", lazily(when=([2**62 + 1] * 16, "time")), Reads()
    ),
    "strings that are no UTF-8": Hostile("t.parquet", bad_utf8, "task.path=.*UTF-8"),
    "no Parquet": Hostile("t.parquet", table(), "no Parquet"),
    "half a Parquet file": Hostile("t.parquet", b"PAR1" + bytes(100), "cannot be read|no Parquet"),
    "Parquet in .csv": Hostile("t.csv", as_parquet("t.parquet"), "Parquet.*t.parquet"),
    # ---- files that are no tables
    "a spreadsheet": Hostile("t.xlsx", xlsx(), "its name ends in .*save it as"),
    "a spreadsheet named .csv": Hostile("t.csv", xlsx(), "zip archive or a spreadsheet"),
    "a packed table": Hostile("t.csv.gz", gzip.compress(table()), "its name ends in .*unpack"),
    "a packed table named .csv": Hostile("t.csv", gzip.compress(table()), "gzip.*unpack"),
    "a folder": Hostile("t.csv", lambda path: path.mkdir(), "is a folder"),
    "a pipe": Hostile("t.csv", os.mkfifo, "no regular file"),
    "a link to itself": Hostile("t.csv", loop, "a link"),
    "a link to nowhere": Hostile("t.csv", dangling, "a link"),
    "a missing file": Hostile("tabel.csv", beside("table.csv"), "did you mean 'table.csv'"),
    "a name of 300 letters": Hostile("t" * 300 + ".csv", lambda path: None, "task.path=.*255 bytes"),
}
"""Every hostile table by what is wrong with it."""
