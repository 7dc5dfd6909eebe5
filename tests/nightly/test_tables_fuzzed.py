"""Tables by chance: each is read as an independent reader reads it, or refused in one line that names a key.

The bytes of the hostile corpus are cut, joined and changed.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
import tempfile
import time
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hostile_tables import CASES

from lorax_lab.config import TaskConfig
from lorax_lab.data import Pools, source_of
from lorax_lab.errors import ConfigError
from lorax_lab.tasks import KINDS, load_task

SECONDS = 15.0
"""How long bytes are changed."""
KINDS_OF_TEXT = ("classification", "regression", "language_modeling")
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
DELIMITERS = ",;\t|"
SIGNS = [*"\",;\t|\n\r\0\ufeff\u2028\ud800'\\{}[]:", "\r\n"]
UNSEEN = re.compile(f"[{''.join(chr(i) for i in range(0x110000) if unicodedata.category(chr(i)) == 'Cf')}]")


def config(path: Path, kind: str = "classification", **changes: Any) -> TaskConfig:
    given = {"name": "local", "source": "local", "path": str(path), "subset": None, "label": "label", "group": None}
    inputs = {"prompt": "text"} if kind == "language_modeling" else {"text": "text"}
    sizes = dict.fromkeys(("train_examples", "validation_examples", "test_examples"))
    return KINDS[kind].config(**given, **inputs, **sizes, kind=kind, metric=None, split_seed=0, **changes)


def read(settings: TaskConfig) -> Pools | None:
    """The rows, or None where the table is refused in one line that names a key; nothing else may come of it."""
    try:
        pools = source_of(settings).read(settings)
        load_task(settings)
    except ConfigError as error:
        message = str(error)
        assert re.search(r"task\.\w+", message), message
        assert len(message) < 3000, message[:200]
        assert "\n" not in message, message
        assert message.encode("utf-8", "strict")
        try:
            return source_of(settings).read(settings)
        except ConfigError:
            return None
    return pools


def rows_of(pools: Pools) -> list[tuple[str, Any]]:
    names = pools.classes
    return [(next(iter(e.inputs.values())), names[int(e.label)] if names else e.label) for e in pools.train]


def expected_rows(rows: list[tuple[Any, Any]], kind: str) -> list[tuple[str, Any]]:
    """Rows of another reader as examples: those with a text of which something is seen."""
    of_label = {"classification": _as_class, "regression": float, "language_modeling": str}[kind]
    return [(str(text), of_label(label)) for text, label in rows if UNSEEN.sub("", str(text)).strip()]


def _as_class(label: Any) -> str:
    return str(int(label)) if isinstance(label, float) else str(label).strip()


def another_reader(path: Path) -> list[list[tuple[Any, Any]]]:
    """What the file may hold, read another way: with each delimiter for a table of text, by the standard library."""
    if path.suffix == ".parquet":
        import pandas as pd

        frame = pd.read_parquet(path, columns=["text", "label"])
        return [list(zip(frame["text"], frame["label"], strict=True))]
    text = path.read_bytes().decode("utf-8-sig")
    if path.suffix == ".jsonl":
        parsed = [json.loads(line) for line in re.split("\r\n|\r|\n", text) if line.strip()]
        return [[(row.get("text"), row.get("label")) for row in parsed]]
    readings = []
    for delimiter in DELIMITERS:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
        names = [name.strip() for name in rows[0]]
        if {"text", "label"} <= set(names):
            places = names.index("text"), names.index("label")
            readings.append([(row[places[0]], row[places[1]]) for row in rows[1:]])
    return readings


def check(path: Path, kind: str) -> None:
    pools = read(config(path, kind))
    if pools is not None:
        assert all(text.encode() or not text for text, _ in rows_of(pools))
        readings = [expected_rows(rows, kind) for rows in another_reader(path)]
        assert rows_of(pools) in readings, (rows_of(pools), readings)


@cache
def corpus() -> list[tuple[str, bytes]]:
    """Ending and bytes of every hostile table that is a file."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, case) in enumerate(CASES.items()):
            place = Path(folder) / str(number)
            place.mkdir()
            if "pipe" in name or "name of 300" in name:
                continue
            path = case.write(place)
            if not path.is_symlink() and path.is_file() and path.stat().st_size < 150_000:
                found.append((path.suffix, path.read_bytes()))
    assert len(found) > 40
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t"


@pytest.mark.slow
def test_changed_bytes_of_hostile_tables(path: Path, fuzz_chance: random.Random) -> None:
    """Cut, doubled, replaced and joined: as many as the time allows."""
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        ending, content = fuzz_chance.choice(corpus())
        data = bytearray(content)
        for _ in range(fuzz_chance.randint(1, 2)):
            at = fuzz_chance.randrange(len(data) + 1)
            how = fuzz_chance.randrange(5)
            if how == 0:
                data[at : at + fuzz_chance.randint(1, 40)] = b""
            elif how == 1:
                data[at:at] = fuzz_chance.choice(SIGNS).encode("utf-8", "surrogatepass")
            elif how == 2 and at < len(data):
                data[at] = fuzz_chance.randrange(256)
            elif how == 3:
                data[at:at] = data[at : at + fuzz_chance.randint(1, 200)] * fuzz_chance.randint(1, 3)
            else:
                other = fuzz_chance.choice(corpus())[1]
                start = fuzz_chance.randrange(len(other) + 1)
                data[at:at] = other[start : start + fuzz_chance.randint(1, 100)]
        if ending == ".parquet" and fuzz_chance.random() < 0.5:
            ending = fuzz_chance.choice(ENDINGS)
        file = path.with_suffix(ending)
        file.write_bytes(bytes(data))
        check(file, fuzz_chance.choice(KINDS_OF_TEXT))
