"""Training inputs that are all alike to the model are refused; where many are, it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import GOOD, PLAIN
from language import word_tokenizer
from transformers import AutoTokenizer

from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose
from lorax_lab.tasks import load_task
from lorax_lab.tasks.split import Split, alike

LANGUAGE = ["task.kind=language_modeling", "task.prompt=text"]
CLASSES = ["task.text=text"]
UNKNOWN = [f"nobody{i} knows{i}" + f" this{i}" * (i % 3) for i in range(40)]
CUT = [f"the film is a story of {' '.join([GOOD[i % 8], PLAIN[i % 14]])} number {i}" for i in range(40)]
SAME = [f"the film number {i}" for i in range(40)]
LONG = ["the film is a story of and the film is a story of and " * 5 + str(i) for i in range(40)]


def alike_of(texts: list[str], kind: list[str], folder: Path, tmp_path: Path) -> list[str]:
    path = tmp_path / "t.csv"
    path.write_text("text,label\n" + "".join(f"{text},{('dull', 'warm')[i % 2]}\n" for i, text in enumerate(texts)))
    task = load_task(compose(["task=local", f"task.path={path}", "task.label=label", *kind]).task)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder) if CLASSES[0] in kind else word_tokenizer(pad="[UNK]")
    return alike(Split.of(task, task.train, tokenizer), 64)


@pytest.mark.parametrize(
    ("texts", "kind", "typed"),
    [
        (UNKNOWN, CLASSES, "task.text"),
        (SAME, CLASSES, "task.text"),
        (CUT, [*CLASSES, "task.max_length=8"], "task.max_length=32"),
        (LONG, [*CLASSES, "task.max_length=64"], "task.max_length=64"),
        (UNKNOWN, LANGUAGE, "task.prompt"),
        (SAME, LANGUAGE, "task.prompt"),
    ],
)
def test_inputs_that_are_all_alike_are_refused(
    texts: list[str], kind: list[str], typed: str, model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=typed):
        alike_of(texts, kind, model_folder, tmp_path)


@pytest.mark.parametrize(("count", "said"), [(25, 1), (15, 0)])
def test_many_that_are_alike_are_said(count: int, said: int, model_folder: Path, tmp_path: Path) -> None:
    texts = [*SAME[:count], *(f"the film {'very ' * i}good" for i in range(40 - count))]
    assert len(alike_of(texts, CLASSES, model_folder, tmp_path)) == said
