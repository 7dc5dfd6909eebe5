"""Training inputs that are all alike to the model are refused before anything trains; where many are, it is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import GOOD, PLAIN, Lab, tiny_config

LANGUAGE = ["task.kind=language_modeling", "task.prompt=text"]
CLASSES = ["task.text=text"]
UNKNOWN = [f"nobody{i} knows{i}" + f" this{i}" * (i % 3) for i in range(40)]
CUT = [f"the film is a story of {' '.join([GOOD[i % 8], PLAIN[i % 14]])} number {i}" for i in range(40)]
SAME = [f"the film number {i}" for i in range(40)]
LONG = "the film is a story of and the film is a story of and " * 5
MANY = [*SAME[:25], *(f"the film {'very ' * i}good" for i in range(15))]


@pytest.fixture(scope="module")
def causal(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("causal")
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.eos_token = "[SEP]"
    tokenizer.save_pretrained(folder)
    AutoModelForCausalLM.from_config(tiny_config("gpt2")).save_pretrained(folder)
    return folder


def words(tmp_path: Path, texts: list[str], of_kind: list[str]) -> list[str]:
    path = tmp_path / "t.csv"
    path.write_text("text,label\n" + "".join(f"{text},{('dull', 'warm')[i % 2]}\n" for i, text in enumerate(texts)))
    return ["task=local", f"task.path={path}", "task.label=label", *of_kind, "reference=false", "--dry-run"]


@pytest.mark.parametrize(
    ("texts", "more", "expected"),
    [
        (
            UNKNOWN,
            CLASSES,
            "have no token that the tokenizer knows, and there is nothing to learn; name another model, or",
        ),
        (
            SAME,
            CLASSES,
            "are the same tokens to the model, and there is nothing to learn; name another column in task.text",
        ),
        (CUT, [*CLASSES, "task.max_length=8"], "they are cut at task.max_length=8; type task.max_length=32"),
        (CUT, [*CLASSES, "task.max_length=6"], "they are cut at task.max_length=6; type task.max_length=24"),
        ([f"{LONG}{i}" for i in range(40)], [*CLASSES, "task.max_length=64"], "all that the model reads: put what"),
        (UNKNOWN, LANGUAGE, "have no token that the tokenizer knows, and there is nothing to learn"),
        (SAME, LANGUAGE, "are the same tokens to the model"),
    ],
)
def test_inputs_that_are_all_alike_are_refused(
    texts: list[str], more: list[str], expected: str, model_folder: Path, causal: Path, tmp_path: Path, lab_here: Lab
) -> None:
    model = causal if more is LANGUAGE else model_folder
    done = lab_here(f"model={model}", f"runs_dir={tmp_path / 'runs'}", *words(tmp_path, texts, more))
    assert done.returncode == 2, done.stdout
    (message,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert message.startswith("error: all 32 training inputs of task=local ")
    assert expected in message


def test_many_that_are_alike_are_counted(model_folder: Path, tmp_path: Path, lab_here: Lab) -> None:
    done = lab_here(f"model={model_folder}", f"runs_dir={tmp_path / 'runs'}", *words(tmp_path, MANY, CLASSES))
    assert done.returncode == 0, done.stdout
    (note,) = [line for line in done.stdout.splitlines() if "training inputs" in line]
    assert note.startswith("note: task=local: ")
    assert " of 32 training inputs (" in note
    assert "such as 'the film number " in note


@pytest.mark.parametrize("kind", [CLASSES, ["task.kind=language_modeling", "task.label=text"]])
def test_others_are_passed_over_in_silence(
    kind: list[str], model_folder: Path, causal: Path, tmp_path: Path, lab_here: Lab
) -> None:
    """Texts of their own, and plain texts, which have no prompt."""
    texts = [*SAME[:15], *(f"the film {'very ' * i}good" for i in range(25))]
    model = model_folder if kind is CLASSES else causal
    done = lab_here(f"model={model}", f"runs_dir={tmp_path / 'runs'}", *words(tmp_path, texts, kind))
    assert done.returncode == 0, done.stdout
    assert "training inputs" not in done.stdout
