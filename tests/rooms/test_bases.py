"""The small base of the lab's own training, and the kept head: that they are models."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from experiments import bases
from experiments.heads import train_head
from lorax_lab.models import load_base
from lorax_lab.tasks import KINDS


@pytest.mark.slow
def test_the_base_is_trained_by_a_run_and_kept_as_a_models_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sizes = ["task.validation_examples=10", "task.test_examples=10", "task.train_examples=30", "train.device=cpu"]
    monkeypatch.setattr(bases, "BUDGET", [*bases.BUDGET, "train.epochs=1", *sizes])
    assert bases.main([str(tmp_path / "base")]) == 0
    assert f"the base: model={tmp_path / 'base'}" in capfd.readouterr().out
    kind = KINDS["image_classification"]
    folders = (tmp_path / "base", tmp_path / "base" / "training" / "random")
    head, classes = kind.head(["a", "b"]), (kind.model_class, kind.processor_class)
    trained, random = (load_base(str(folder), head, 0, *classes).model.state_dict() for folder in folders)
    moved = [key for key, tensor in trained.items() if not (tensor == random[key]).all()]
    assert moved
    assert not [key for key in moved if "classifier" in key]
    monkeypatch.setattr(bases, "make", lambda _: pytest.fail("made again"))
    assert bases.main([str(tmp_path / "base")]) == 0


@pytest.mark.slow
def test_the_folder_has_the_pretrained_body_and_the_trained_head(
    model_folder: Path, small_words: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    train_head(folder, tuple(word for word in small_words if word.startswith("task")), str(model_folder))
    made, base = load_file(folder / "model.safetensors"), load_file(model_folder / "model.safetensors")
    [trained] = (tmp_path / "kept-runs").glob("*/head.safetensors")
    head = load_file(trained)
    assert {name.partition(".")[0] for name in head} == {"bert", "classifier"}
    for name, tensor in head.items():
        torch.testing.assert_close(made[name], tensor, rtol=0, atol=0)
    body = [name for name in made if name not in head]
    assert len(body) > 20
    for name in body:
        torch.testing.assert_close(made[name], base[name.removeprefix("bert.")], rtol=0, atol=0)
