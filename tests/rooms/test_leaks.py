"""Columns that are the label under another name: refused before anything trains, by the command line."""

import json
import random
from pathlib import Path

import pytest

from lorax_lab.data import leaks, source_of
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


def labelled(path: Path, labels: list[object], *more: str) -> list[str]:
    """Overrides of a table with these labels, and texts that are no near duplicates."""
    draw = random.Random(1)
    texts = [" ".join("".join(draw.choices("abcdefghij", k=7)) for _ in range(9)) for _ in labels]
    rows = [json.dumps({"text": text, "label": label}) for text, label in zip(texts, labels, strict=True)]
    path.write_text("\n".join(rows))
    return ["task=local", f"task.path={path}", "task.text=text", "task.label=label", *more]


@pytest.mark.parametrize("missing", [-1, "-1", -1.0])
def test_minus_one_beside_other_classes_is_no_label_until_it_is_named(tmp_path: Path, missing: object) -> None:
    path, labels = tmp_path / "t.jsonl", [0, 1, missing] * 20
    with pytest.raises(ConfigError, match=r"-1 beside 0,1: .*type task.classes=\[-1,0,1\] .*drop_unlabeled=true"):
        load_task(compose(labelled(path, labels)).task)
    named = load_task(compose(labelled(path, labels, "task.classes=[-1,0,1]")).task)
    dropped = load_task(compose(labelled(path, labels, "task.drop_unlabeled=true")).task)
    assert (named.classes, sum(named.sizes.values())) == (("-1", "0", "1"), 60)
    assert (dropped.classes, sum(dropped.sizes.values()), dropped.dropped["unlabeled"]) == (("0", "1"), 40, 20)


@pytest.mark.parametrize("labels", [[-1, 1], [-2, -1, 0, 1]])
def test_minus_one_is_a_class_where_it_is_one_of_two_or_beside_other_negative_numbers(
    tmp_path: Path, labels: list[object]
) -> None:
    task = load_task(compose(labelled(tmp_path / "t.jsonl", labels * 20)).task)
    assert task.classes == tuple(map(str, labels))


def test_a_class_that_only_test_has_is_refused(tmp_path: Path) -> None:
    words = labelled(tmp_path / "t.jsonl", [0, 1] * 30 + [2], "task.test_examples=30")
    pools = source_of(compose(words).task).read(compose(words).task)
    (alone,) = [example for example in pools.train if example.label == 2]
    rest = [example for example in pools.train if example is not alone]
    config = compose(words).task
    leaks.require_learnable(pools, (pools.train, rest, [alone]), config)
    with pytest.raises(ConfigError, match=r"no training example has the label '2' of 1 test examples.*leave them out"):
        leaks.require_learnable(pools, (rest, [], [alone]), config)
    few = compose([*words, "task.train_examples=8"]).task
    with pytest.raises(ConfigError, match=r"type task.train_examples=null for all rows"):
        leaks.require_learnable(pools, (rest, [], [alone]), few)


def test_a_table_with_one_test_row_is_refused_and_the_least_size_is_said_and_enough(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with pytest.raises(ConfigError, match=r"has 8 rows for training, and one for test.*give it 15 rows or more"):
        load_task(compose(labelled(path, [0, 1] * 4)).task)
    assert load_task(compose(labelled(path, [0, 1] * 7 + [0])).task).sizes["test"] == 2
