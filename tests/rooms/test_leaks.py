"""Columns that are the label under another name: refused before anything trains, by the command line."""

import json
import random
from pathlib import Path

import pytest

from lorax_lab.data import leaks
from lorax_lab.data.table import Table
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose
from lorax_lab.tasks import load_task

REFUSED = {"text_pair": ["copy", "shout", "code"], "group": ["label", "code"]}
"""Columns of the table that give the answer away, by the key that names them."""


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A table whose columns tell the label in several ways."""
    draw, rows = random.Random(0), []
    for row in range(60):
        label, other = draw.sample(["good", "bad"], 2)
        rows.append(
            {"sentence": f"the film number {row} is {draw.choice([label, label, other])}", "label": label}
            | {"copy": label, "shout": f" {label.upper()}! ", "code": {"good": 7, "bad": 3}[label]}
            | {"number": row % 7, "score": row / 8, "same": row / 8}
            | {"writer": draw.choice("abcdefghij")}
        )
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["task=local", f"task.path={path}", "task.text=sentence"]


@pytest.mark.parametrize(("key", "column"), [(key, column) for key, columns in REFUSED.items() for column in columns])
def test_a_column_that_is_the_label_is_refused(key: str, column: str, words: list[str]) -> None:
    with pytest.raises(ConfigError, match=rf"task\.{key}={column} .*60 rows"):
        load_task(compose([*words, "task.label=label", f"task.{key}={column}"]).task)


def test_a_number_that_is_read_and_asked_for_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"task\.text_pair=same "):
        load_task(compose([*words, "task.kind=regression", "task.label=score", "task.text_pair=same"]).task)


def test_other_columns_are_read(words: list[str]) -> None:
    task = load_task(compose([*words, "task.label=label", "task.text_pair=score", "task.group=writer"]).task)
    assert len(task.train) > 20


def refuse(texts: list[str], labels: list[object]) -> None:
    table = Table("t", {"text": texts, "label": labels})
    config = compose(["task=local", "task.path=t.csv", "task.text=text", "task.label=label"])
    leaks.refuse("t", {"train": table}, config.task)


@pytest.mark.parametrize("labels", [(1, 0), ("C", "C++"), ("👍", "👎")])
def test_numbers_and_signs_are_labels_as_others(labels: tuple[object, ...]) -> None:
    rows = [labels[n % 2] for n in range(60)]
    with pytest.raises(ConfigError, match=r"task\.text=text"):
        refuse(list(map(str, rows)), rows)
    refuse(["..."] * 60, ["+", "-", "neutral"] * 20)
