"""The tasks: splits that share nothing, labels that are what they say, and one clear message per fault."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from published import everything

from lorax_lab.config import TaskConfig
from lorax_lab.data import Example, Pools, data_sha256, hub
from lorax_lab.data.columns import _index_in
from lorax_lab.data.source import content_key
from lorax_lab.data.splits import split
from lorax_lab.errors import ConfigError
from lorax_lab.tasks import KINDS, Task, load_task

EMPTY = ("subset", "group", "metric", "train_examples", "validation_examples", "test_examples")
BASE: dict[str, Any] = dict.fromkeys(EMPTY) | {"text": "text", "label": "label", "split_seed": 0}
BASE |= {"name": "local", "source": "local", "kind": "classification"}
ROWS = [{"text": f"sentence number {i}", "label": ["bad", "good", "good"][i % 3]} for i in range(60)]


def config(path: Path | str = "?", **changes: Any) -> TaskConfig:
    settings = BASE | {"path": str(path)} | changes
    return KINDS[settings["kind"]].config(**settings)


def example(text: str, label: int, pair: str | None = None, group: str | None = None) -> Example:
    return Example({"text": text} | ({"text_pair": pair} if pair else {}), label, group)


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "csv": lambda rows, path: rows.to_csv(path, index=False),
    "jsonl": lambda rows, path: rows.to_json(path, orient="records", lines=True),
    "parquet": lambda rows, path: rows.to_parquet(path, index=False),
}


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as a table of a kind; returns its path."""

    def write(rows: list[dict[str, Any]], ending: str = "csv") -> Path:
        path = tmp_path / f"table.{ending}"
        WRITERS[ending](pd.DataFrame(rows), path)
        return path

    return write


def texts(examples: list[Example]) -> list[str]:
    return [example.inputs["text"] for example in examples]


def pool(n: int, groups: int | None = None) -> list[Example]:
    return [example(f"text {i}", i * i % 7 % 2, group=str(i % groups) if groups else None) for i in range(n)]


def cut(examples: list[Example], sha: str = "ab" * 32, pools: Pools | None = None, **changes: Any) -> Task:
    settings = config(**changes)
    pools = pools or Pools("the table", ("a", "b") if settings.labels == "classes" else (), examples)
    splits, dropped = split(pools, settings, sha)
    return Task(settings, KINDS[settings.kind], pools.classes, "accuracy", *splits, sha, dropped)


@pytest.mark.parametrize("groups", [None, 60])
@pytest.mark.parametrize("sizes", [(None, None, None), (100, 40, 33)])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_laws_of_every_split(groups, sizes, kind):
    examples = pool(400, groups)
    keys = ("train_examples", "validation_examples", "test_examples")
    chosen = dict(zip(keys, sizes, strict=True))
    task = cut(examples, kind=kind, split_seed=1, **chosen)
    for number, rows in zip(sizes, (task.train, task.validation, task.test), strict=True):
        assert rows
        assert number is None or (len(rows) == number if groups is None else len(rows) <= number)
    seen = [content_key(e) for e in everything(task)]
    assert len(seen) == len(set(seen))
    if groups:
        train, validation, test = ({e.group for e in rows} for rows in (task.train, task.validation, task.test))
        assert not train & validation
        assert not test & (train | validation)
    if sizes == (None, None, None):
        assert sorted(texts(everything(task))) == sorted(texts(examples))
        if groups is None:
            assert (len(task.train), len(task.validation), len(task.test)) == (320, 40, 40)
    again = cut(examples, kind=kind, split_seed=1, **chosen)
    assert again == task


def test_the_number_of_training_examples_changes_nothing_else():
    small, large = (cut(pool(400), train_examples=n, test_examples=40, validation_examples=30) for n in (50, 150))
    assert small.test == large.test
    assert small.validation == large.validation
    assert small.train == large.train[:50]
    everything_left = cut(pool(400), train_examples=None, test_examples=40, validation_examples=30)
    assert everything_left.train[:150] == large.train


def test_every_split_and_every_beginning_of_train_has_the_shares_of_the_classes():
    examples = [example(f"text {i}", int(i % 10 == 0)) for i in range(1000)]
    task = cut(examples, test_examples=200, validation_examples=100)
    for rows in (task.test, task.validation, task.train, task.train[:50], task.train[:200]):
        assert abs(sum(e.label for e in rows) - len(rows) / 10) <= 1


def test_copies_are_removed_before_the_cut_and_those_that_disagree_are_left_out():
    same = [example("Same  Text", 1), example("same text", 1), example(" ｓａｍｅ text", 1)]
    pair = [example("premise", 1, "one"), example("premise", 0, "two")]
    task = cut([*pool(50), *same, *pair, example("doubtful", 1), example("Doubtful", 0), example("doubtful", 1)])
    assert [e for e in everything(task) if content_key(e) == ("same text",)] == same[:1]
    assert len(everything(task)) == 53
    assert task.dropped == {"unlabeled": 0, "blank": 0, "duplicate": 2, "conflicting": 3, "overlap": 0}


def test_own_splits_are_used_and_lose_what_a_later_one_holds():
    own = Pools(
        "the set",
        ("a", "b"),
        train=[example(f"train {i}", i % 2) for i in range(30)] + [example("shared", 0), example("both", 1)],
        validation=[example("valid 1", 0), example("valid 2", 1), example("Both", 1)],
        test=[example("Shared", 1), example("both", 1), example("test 3", 0)],
    )
    task = cut([], pools=own)
    assert sorted(texts(task.test)) == ["Shared", "both", "test 3"]
    assert sorted(texts(task.validation)) == ["valid 1", "valid 2"]
    assert len(task.train) == 30
    assert task.dropped["overlap"] == 3
    assert len(cut([], pools=own, test_examples=2).test) == 2
    with pytest.raises(ConfigError, match=r"the set has 3 rows for test.*task\.test_examples=null"):
        cut([], pools=own, test_examples=4)


def test_too_few_rows_and_too_large_groups():
    with pytest.raises(ConfigError, match=r"400 rows.*task\.test_examples=100"):
        cut([*pool(400), example("text 1", 1)], validation_examples=301, test_examples=100)
    with pytest.raises(ConfigError, match=r"task\.group=document"):
        cut(pool(100, groups=2), group="document")


@pytest.mark.parametrize("ending", list(WRITERS))
def test_a_table_of_each_kind(table, ending):
    path = table(ROWS, ending)
    task = load_task(config(path))
    assert (len(task.train), len(task.validation), len(task.test)) == (48, 6, 6)
    assert (task.classes, task.metric, task.head["num_labels"]) == (("bad", "good"), "accuracy", 2)
    assert sorted(texts(everything(task))) == sorted(row["text"] for row in ROWS)
    labels = {row["text"]: row["label"] for row in ROWS}
    assert all(task.classes[int(e.label)] == labels[e.inputs["text"]] for e in everything(task))
    assert task.data_sha256 == data_sha256(config(path))
    assert load_task(config(path)) == task


def test_csv_is_taken_literally(table):
    odd = ["NA", "null", "1.50", 'say "no"', "two\nlines", "a,b", "ünïcödé\u2028…"]
    path = table([{"text": text, "label": "xy"[i % 2]} for i, text in enumerate(odd)] + ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert set(odd) <= set(texts(everything(load_task(config(path)))))


def test_a_declared_class_is_found_by_the_name_that_it_has():
    """A Persian word with a joiner that nobody sees, and spaces around a name."""
    index_of = _index_in(("\u0645\u06cc\u200c\u0631\u0648\u0645", " b "))
    assert [index_of(cell) for cell in ("\u0645\u06cc\u200c\u0631\u0648\u0645", " b ")] == [0, 1]


def test_a_missing_column_names_the_nearest(table):
    rows = [row | {"sentence": "x", "target": "y"} for row in ROWS]
    with pytest.raises(ConfigError, match=r"task\.text_pair=sentense .*'sentence'.*text, label"):
        load_task(config(table(rows), text_pair="sentense"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Any connection is a failure of the test; the data sets' own cache is empty."""
    import datasets

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub-cache")
    hub._tables.cache_clear()
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def save(folder: Path, splits: dict[str, dict[str, list[Any]]], names: list[str] | None = None) -> Path:
    """A folder of Parquet files, one for each split, as `datasets` writes them."""
    from datasets import ClassLabel, Dataset

    folder.mkdir(exist_ok=True)
    for name, columns in splits.items():
        data = Dataset.from_dict(columns)
        if names:
            data = data.cast_column("label", ClassLabel(names=names))
        data.to_parquet(str(folder / f"{name}-00000.parquet"))
    return folder


def columns(name: str, n: int, labels: list[Any] | None = None) -> dict[str, list[Any]]:
    return {"text": [f"{name} {i}" for i in range(n)], "label": labels or [i % 2 for i in range(n)]}


def hub_config(path: Path | str, **changes: Any) -> TaskConfig:
    return config(path, **({"name": "hub", "source": "hub"} | changes))


def origins(task: Task) -> list[set[str]]:
    return [{text.split()[0] for text in texts(rows)} for rows in (task.train, task.validation, task.test)]


def test_own_splits_with_labels_are_used(no_network, tmp_path):
    splits = {"train": columns("t", 40), "validation": columns("v", 10), "test": columns("x", 12)}
    task = load_task(hub_config(save(tmp_path / "set", splits)))
    assert origins(task) == [{"t"}, {"v"}, {"x"}]
    assert task.sizes == {"train": 40, "validation": 10, "test": 12}
    hidden = splits | {"test": columns("x", 12, [-1] * 12)}
    task = load_task(hub_config(save(tmp_path / "hidden", hidden, names=["no", "yes"]), validation_examples=8))
    assert origins(task) == [{"t"}, {"t"}, {"v"}]
    assert task.sizes == {"train": 32, "validation": 8, "test": 10}
    assert task.classes == ("no", "yes")


def test_a_hidden_label_in_train_is_numbered_and_can_be_dropped(no_network, tmp_path):
    labels = [0, 1, -1, *([0, 1] * 10)]
    folder = save(tmp_path / "set", {"train": columns("t", 23, labels)}, names=["no", "yes"])
    with pytest.raises(ConfigError, match=r"task\.path=.*\(train\), row 3: task\.label=label"):
        load_task(hub_config(folder))
    task = load_task(hub_config(folder, drop_unlabeled=True))
    assert task.dropped["unlabeled"] == 1
    assert "t 2" not in texts(everything(task))
    assert len(everything(task)) == 22


def test_the_hub_hash_is_of_the_content(no_network, tmp_path):
    first = save(tmp_path / "one", {"train": columns("t", 20)})
    second = save(tmp_path / "two", {"train": columns("t", 20) | {"unused": list(range(20))}})
    third = save(tmp_path / "three", {"train": columns("t", 20, [1 - i % 2 for i in range(20)])})
    named = save(tmp_path / "four", {"train": columns("t", 20)}, names=["no", "yes"])
    turned = {"train": columns("t", 20, [1 - i % 2 for i in range(20)])}
    turned_names = save(tmp_path / "five", turned, names=["yes", "no"])
    hashes = [data_sha256(hub_config(folder)) for folder in (first, second, third, named, turned_names)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4


def test_without_a_network(no_network, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(ConfigError, match=r"task\.path=org/name .*task=movie_reviews"):
        data_sha256(hub_config("org/name"))


def scored(outputs: list[Any], labels: list[Any], kind: str = "classification", metric: str = "accuracy") -> Any:
    names = tuple("abc"[: len(outputs[0])]) if KINDS[kind].config.labels == "classes" else ()
    task = Task(config(kind=kind), KINDS[kind], names, metric, [], [], [], "")
    return task.score(np.array(outputs, np.float32), np.array(labels))


def one_hot(classes: list[int]) -> list[list[float]]:
    return [[float(c == i) for i in range(2)] for c in classes]


def test_scores_worked_out_by_hand_and_a_constant_prediction_scores_zero():
    predicted, labels = one_hot([1, 1, 1, 0, 0]), [1, 1, 0, 1, 0]  # tp 2, fp 1, fn 1, tn 1
    always = {"accuracy": 3 / 5, "log_loss": np.log1p(np.exp(-1)) + 2 / 5}
    assert scored(predicted, labels) == pytest.approx(always)
    assert scored(predicted, labels, metric="f1") == pytest.approx({"f1": 4 / 6} | always)
    assert scored(predicted, labels, metric="matthews") == pytest.approx({"matthews": 1 / 6} | always)
    assert scored([[1], [2], [4]], [1.0, 2.0, 3.0], "regression", "spearman") == pytest.approx(
        {"spearman": 1.0, "pearson": 3 / np.sqrt(28 / 3)}
    )
    for metric in ("f1", "matthews"):
        assert scored(one_hot([0] * 4), [0, 1, 0, 1], metric=metric)[metric] == 0.0
    for metric in ("pearson", "spearman"):
        assert scored([[0.25]] * 4, [0.0, 1.0, 2.0, 3.0], "regression", metric)[metric] == 0.0


def test_a_metric_of_the_other_kind(table):
    with pytest.raises(ConfigError, match=r"task\.metric=pearson .*task\.kind=classification.*accuracy"):
        load_task(config(table(ROWS), metric="pearson"))
    assert load_task(config(table(ROWS), metric="matthews")).metric == "matthews"


@pytest.mark.parametrize(("n", "batch_size"), [(1, 16), (16, 16), (17, 16), (2345, 16), (100, 1)])
def test_every_index_once_in_batches_of_one_size(n, batch_size):
    import torch

    from lorax_lab.tasks.split import length_bucketed_batches

    lengths = np.random.default_rng(n).integers(3, 90, n).tolist()
    state = torch.random.get_rng_state()
    batches = length_bucketed_batches(lengths, batch_size, torch.Generator().manual_seed(0), 50)
    assert (torch.random.get_rng_state() == state).all()
    assert sorted(i for batch in batches for i in batch) == list(range(n))
    assert sum(len(batch) != batch_size for batch in batches) == (n % batch_size > 0)
    assert batches == length_bucketed_batches(lengths, batch_size, torch.Generator().manual_seed(0), 50)
    if n > 100:
        assert batches != length_bucketed_batches(lengths, batch_size, torch.Generator().manual_seed(1), 50)


def test_inputs_that_are_the_same_tokens_are_refused(model_folder):
    from transformers import AutoTokenizer

    from lorax_lab.tasks.split import Split, check_unlike

    tokenizer = AutoTokenizer.from_pretrained(model_folder)

    def check(*inputs: str) -> None:
        examples = [example(text, i % 2) for i, text in enumerate(inputs)]
        task = Task(config(max_length=4), KINDS["classification"], ("a", "b"), "accuracy", examples, [], [], "")
        check_unlike(Split.encoded(task, examples, tokenizer))

    with pytest.raises(ConfigError, match=r"all 2 .* type a larger task\.max_length"):
        check("the film good", "the film bad")
    with pytest.raises(ConfigError, match=r"no token.*task\.text"):
        check("x y", "z")
    check("film", "film", "good")
