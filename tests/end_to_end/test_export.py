"""Runs as folders of Hugging Face: pipelines and PEFT give the run's own answers, the card says what is recorded."""

import re
import shlex
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from bases import save_base
from conftest import ran
from language import save_causal, words_of, write_table

from lorax_lab.config.identity import run_id
from lorax_lab.export.__main__ import main
from lorax_lab.launch.compose import compose, typed
from lorax_lab.methods import METHODS
from lorax_lab.methods.adapters import WEIGHTS
from lorax_lab.record.folder import OUTPUTS, load_arrays
from lorax_lab.record.record import Record, read_record
from lorax_lab.tasks import Task, load_task
from lorax_lab.tasks.split import Split

READ = {
    "lora": True, "full": True, "norms_and_biases": True, "subspace": True, "peft/dora": True, "peft/pissa": True,
    "peft/vera": False,
}  # fmt: skip
"""Methods, and whether a pipeline reads what they leave."""
CLOSE = 2e-6
"""What another order of sums may change of a probability or an output."""


def trained(store: Path, *words: str) -> Path:
    """The folder of the one run of these overrides, in fp32, as the exported model is asked."""
    fixed = ("reference=false", "train.precision=fp32", "train.epochs=10", "train.learning_rate=0.003")
    ran(*fixed, *words, f"runs_dir={store}")
    return next(store.glob("*/record.json")).parent


@pytest.fixture(scope="module")
def run_of(small_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains a run of a method, once."""

    @cache
    def run(name: str) -> Path:
        sizes = ["task.max_length=8", *(["rank=2"] if METHODS[name].has_rank else [])]
        return trained(tmp_path_factory.mktemp("run") / "runs", *small_words, f"method={name}", *sizes)

    return run


def exported(run: Path, folder: Path, *more: str) -> Path:
    assert main([str(run), str(folder), *more]) == 0
    return folder


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main([str(word) for word in words]) == 2
    return capsys.readouterr().err


def recorded(run: Path) -> tuple[Record, Task, np.ndarray]:
    """The record, the task and the outputs of the test split."""
    record = read_record(run)
    return record, load_task(typed(record.config).task), load_arrays(run, OUTPUTS)["test"]["outputs"]


def probabilities(answers: list[list[dict[str, Any]]], classes: tuple[str, ...]) -> np.ndarray:
    by_label = [{answer["label"]: answer["score"] for answer in row} for row in answers]
    return np.array([[row[name] for name in classes] for row in by_label])


def softmax(outputs: np.ndarray) -> np.ndarray:
    return torch.from_numpy(outputs).double().softmax(-1).numpy()


@pytest.mark.parametrize(("name", "is_read"), READ.items())
def test_texts_get_the_run_s_own_answers(
    name: str, is_read: bool, run_of: Callable[..., Path], model_folder: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    run = run_of(name)
    folder = exported(run, tmp_path / "exported")
    _, task, outputs = recorded(run)
    texts = [example.inputs["text"] for example in task.test]
    assert np.ptp(outputs[:, 0]) > 100 * CLOSE
    assert (folder / "config.json").exists() == is_read
    if is_read:
        ask = transformers.pipeline("text-classification", str(folder), truncation=True, top_k=None)
        np.testing.assert_allclose(probabilities(ask(texts), task.classes), softmax(outputs), atol=CLOSE)
    else:
        assert "pipelines of transformers do not read" in (folder / "README.md").read_text()
    if METHODS[name].weights == WEIGHTS:
        base = transformers.AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=2)
        model = PeftModel.from_pretrained(base, folder).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        batch = tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
        with torch.no_grad():
            np.testing.assert_allclose(model(**batch).logits, outputs, atol=CLOSE)


def test_a_language_model_s_adapter_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import PeftModel, PeftModelForCausalLM

    base, table = save_causal(tmp_path / "tiny-llama"), write_table(tmp_path / "answers.csv")
    run = trained(tmp_path / "runs", *words_of(base, table), "rank=2")
    folder = exported(run, tmp_path / "exported")
    assert {path.name for path in folder.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    assert not (folder / "model.safetensors").exists()
    _, of_run, outputs = recorded(run)
    test = Split.encoded(of_run, of_run.test, transformers.AutoTokenizer.from_pretrained(folder))
    model: Any = PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base), folder)
    assert isinstance(model, PeftModelForCausalLM)
    np.testing.assert_allclose(test.outputs(model.eval()), outputs, rtol=1e-5)
    monkeypatch.chdir(tmp_path)  # where the base's name leads to it, as the hub's names do
    written = transformers.pipeline("text-generation", str(folder))("the film", max_new_tokens=3)
    assert written[0]["generated_text"].startswith("the film")


def test_images_get_the_run_s_own_answers(model_folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from PIL import Image

    base = save_base("image_classification", model_folder, tmp_path / "tiny-vit")
    sizes = ["task.train_examples=48", "task.validation_examples=20", "task.test_examples=20", "train.device=cpu"]
    run = trained(tmp_path / "runs", f"model={base}", "task=digits", *sizes, "tracking=disabled", "rank=2")
    _, task, outputs = recorded(run)
    folder = exported(run, tmp_path / "exported")
    images = [Image.fromarray(example.inputs["image"]) for example in task.test]
    ask = transformers.pipeline("image-classification", str(folder), top_k=len(task.classes))
    np.testing.assert_allclose(probabilities(ask(images), task.classes), softmax(outputs), atol=CLOSE)
    labels = len(task.classes)
    bare = transformers.AutoModelForImageClassification.from_pretrained(base, num_labels=labels)
    pixels = transformers.AutoImageProcessor.from_pretrained(folder)(images, return_tensors="pt")
    with torch.no_grad():
        np.testing.assert_allclose(PeftModel.from_pretrained(bare, folder).eval()(**pixels).logits, outputs, atol=CLOSE)


def test_the_card_says_what_was_trained_on_what_and_how_well(
    run_of: Callable[..., Path], table_file: Path, tmp_path: Path
) -> None:
    run = run_of("full")
    card = (exported(run, tmp_path / "exported") / "README.md").read_text()
    record = read_record(run)
    inputs = record.completed.inputs
    assert record.completed.metrics["test/accuracy"] > 0.9  # it has learned
    score = f"{record.completed.score('test'):.4f}"
    assert all(fact in card for fact in (inputs.model_sha256, inputs.data_sha256, score, "negative, positive"))
    assert str(table_file.parent) not in card
    assert not re.search("^license:", card, re.M)
    (command,) = re.findall(r"^python -m lorax_lab.run (.*)$", card, re.M)
    here = command.replace("model=tiny-bert", f"model={record.config['model']}")
    words = shlex.split(here.replace(f"path={table_file.name}", f"path={table_file}"))
    assert run_id(compose(words), inputs.model_sha256, inputs.data_sha256) == record.run_id
    rank_facts = card.partition("## Rank")[2].partition("##")[0]
    cuts = [row for row in record.completed.truncation or [] if row["part"] == "cut"]
    assert f"| k | {' | '.join(str(row['k']) for row in cuts)} |" in rank_facts


def test_what_cannot_be_exported_is_refused_with_what_to_type(
    run_of: Callable[..., Path], small_words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert "runs/RUN" in refused(capsys, tmp_path, out)
    for word, allowed in (("task.pooling=mean", "task.pooling=own"), ("measure=trial", "measure=k90")):
        run = trained(tmp_path / allowed.partition("=")[0], *small_words, "rank=2", "train.max_steps=1", word)
        assert allowed in refused(capsys, run, out)
    run = tmp_path / run_of("lora").name
    shutil.copytree(run_of("lora"), run)
    assert "name a new folder" in refused(capsys, run, tmp_path)
    weights = run / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "its hash differs" in refused(capsys, run, out)
    assert not out.exists()


def test_a_folder_is_pushed_to_the_hub(
    run_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import HTTPError

    asked: list[dict[str, Any]] = []

    class Api:
        def create_repo(self, name: str, exist_ok: bool) -> SimpleNamespace:
            if name == "taken/name":
                raise HTTPError("no network")
            return SimpleNamespace(repo_id=f"me/{name}")

        def upload_folder(self, **given: Any) -> None:
            asked.append(given)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    run, other = run_of("lora"), tmp_path / "other"
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "hf auth login" in refused(capsys, run, other, "--push-to-hub", "tweets")
    assert not other.exists()
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "token")
    folder = exported(run, tmp_path / "folder", "--push-to-hub", "tweets")
    assert [(push["repo_id"], push["folder_path"]) for push in asked] == [("me/tweets", folder)]
    assert "pushed to me/tweets" in capsys.readouterr().out
    offline = refused(capsys, run, other, "--push-to-hub", "taken/name")
    assert f"hf upload taken/name {other}" in offline
    assert "login" not in offline
