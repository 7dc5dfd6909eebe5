"""Columns that are the label under another name: refused before anything trains, by the command line."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from conftest import Lab

from lorax_lab.data import leaks
from lorax_lab.data.table import Table
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose

ROWS = 60
REFUSED = {
    "copy": "task.text_pair=copy is the label in every one of 60 rows",
    "shout": "task.text_pair=shout is the label in every one of 60 rows",
    "code": "task.text_pair=code has one value for each label in every one of 60 rows",
    "told": "task.text_pair=told says the label's name, and no other label's, in every one of 60 rows",
}
"""Columns of the table that give the answer away, and what is said of each."""


@pytest.fixture
def words(model_folder: Path, tmp_path: Path) -> list[str]:
    """Overrides of a run on a table whose columns tell the label in several ways."""
    draw, rows = random.Random(0), []
    for row in range(ROWS):
        label, other = draw.sample(["good", "bad"], 2)
        rows.append(
            {"sentence": f"the film number {row} is {draw.choice([label, label, other])}", "label": label}
            | {"copy": label, "shout": f" {label.upper()}! ", "code": {"good": 7, "bad": 3}[label]}
            | {"told": f"scene {draw.randint(0, 9)}: {label}.", "number": row % 7, "score": row / 8, "same": row / 8}
            | {"writer": draw.choice("abcdefghij")}
        )
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sizes = ["task.train_examples=24", "task.validation_examples=12", "task.test_examples=12"]
    run = [f"model={model_folder}", "task=local", f"task.path={path}", *sizes, "train.device=cpu", "rank=2"]
    return [*run, "tracking=disabled", "reference=false", f"runs_dir={tmp_path / 'runs'}", "task.text=sentence"]


def refusal(lab: Lab, words: list[str]) -> str:
    """What is said of a run that must not train."""
    result = lab(*words)
    assert result.returncode != 0, result.stdout
    runs = Path(next(word for word in words if word.startswith("runs_dir=")).removeprefix("runs_dir="))
    assert not list(runs.glob("*/record.json"))
    return " ".join((result.stdout + result.stderr).split())


@pytest.mark.parametrize("column", REFUSED)
def test_an_input_that_is_the_label_is_refused(column: str, words: list[str], lab_here: Lab) -> None:
    said = refusal(lab_here, [*words, "task.label=label", f"task.text_pair={column}"])
    assert f"{REFUSED[column]}: the answer would be read off, not learned; name another column for" in said


@pytest.mark.parametrize("column", ["label", "code"])
def test_groups_that_are_the_classes_are_refused(column: str, words: list[str], lab_here: Lab) -> None:
    said = refusal(lab_here, [*words, "task.label=label", f"task.group={column}"])
    assert f"task.group={column} has one value for each label" in said
    assert "leave task.group out" in said


def test_a_number_that_is_read_and_asked_for_is_refused(words: list[str], lab_here: Lab) -> None:
    said = refusal(lab_here, [*words, "task.kind=regression", "task.label=score", "task.text_pair=same"])
    assert "task.text_pair=same is the label in every one of 60 rows" in said


def test_other_columns_are_read(words: list[str], lab_here: Lab) -> None:
    result = lab_here(*words, "task.label=label", "task.text_pair=number,score", "task.group=writer", "-m")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ((1, 0), "{} : the film is no {n}00"),
        (("C", "C++"), "{}"),
        (("+", "-"), "{}"),
        (("👍", "👎"), "{}"),
    ],
)
def test_numbers_and_signs_are_labels_as_others(tmp_path: Path, labels: tuple[object, ...], text: str) -> None:
    path = tmp_path / "t.jsonl"
    rows = [(text.format(labels[n % 2], n=n), labels[n % 2]) for n in range(60)]
    path.write_text("\n".join(json.dumps({"text": said, "label": label}) for said, label in rows))
    words = ["task=local", f"task.path={path}", "task.text=text", "task.label=label", "task.train_examples=20"]
    config = compose([*words, "task.validation_examples=10", "task.test_examples=10"])
    table = Table(path.name, {"text": [row[0] for row in rows], "label": [row[1] for row in rows]}, tmp_path, str(path))
    with pytest.raises(ConfigError, match=r"task\.text=text"):
        leaks.refuse("t.jsonl", {"train": table}, config.task)


def test_signs_that_are_no_label_pass(tmp_path: Path) -> None:
    labels = ["+", "-", "neutral"] * 20
    table = Table("t", {"text": ["..."] * 60, "label": labels}, tmp_path, "t")
    config = compose(["task=local", "task.path=t.csv", "task.text=text", "task.label=label"])
    leaks.refuse("t", {"train": table}, config.task)
