"""The small bases of the lab's own training, and the kept head: their recordings, and that they are models."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors.torch import load_file

from experiments import bases
from experiments.bases import EVERY, OTHER_RATE, RATE, Voice, record
from experiments.heads import train_head
from lorax_lab.models import load_base
from lorax_lab.tasks import KINDS


def test_recordings_are_the_same_each_time_and_a_quarter_has_another_rate(tmp_path: Path) -> None:
    phrases = [["one"], ["one", "two"], ["one"], ["zulu"], ["two"]]
    first, second = (record(tmp_path / name, phrases, Voice(), 3) for name in ("a", "b"))
    files = sorted(path.name for path in first.parent.iterdir())
    assert files == sorted(path.name for path in second.parent.iterdir())
    assert all((first.parent / name).read_bytes() == (second.parent / name).read_bytes() for name in files)
    with first.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [" ".join(words) for words in phrases]
    infos = [soundfile.info(str(first.parent / row["file_name"])) for row in rows]
    assert [info.samplerate for info in infos] == [RATE if i % EVERY else OTHER_RATE for i in range(5)]
    assert infos[1].duration > infos[2].duration
    assert (first.parent / "0000.wav").read_bytes() != (first.parent / "0002.wav").read_bytes()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = ["task.validation_examples=10", "task.test_examples=10", "task.train_examples=30", "train.device=cpu"]
    for name in ("VIT_BUDGET", "WHISPER_BUDGET"):
        monkeypatch.setattr(bases, name, [*getattr(bases, name), "train.epochs=1", *sizes])
    for name in ("BASE", "TASK"):
        monkeypatch.setattr(bases, name, 60)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("name", "kind"), [("vit", "image_classification"), ("whisper", "speech_recognition")])
def test_a_base_is_trained_by_a_run_and_kept_as_a_models_folder(
    name: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert bases.main([name, str(tmp_path / "base")]) == 0
    assert f"the base: model={tmp_path / 'base'}" in capfd.readouterr().out
    classes = (KINDS[kind].model_class, KINDS[kind].processor_class)
    folders = (tmp_path / "base", tmp_path / "base" / "training" / "random")
    bodies = [load_base(str(folder), KINDS[kind].head(["a", "b"]), 0, *classes).model for folder in folders]
    trained, random = (body.state_dict() for body in bodies)
    moved = [key for key, tensor in trained.items() if not (tensor == random[key]).all()]
    assert moved
    assert not [key for key in moved if "classifier" in key]
    monkeypatch.setitem(bases.BASES, name, lambda _: pytest.fail("made again"))
    assert bases.main([name, str(tmp_path / "base")]) == 0


# ---- a head that is trained alone and kept

SIZES = ("task.train_examples=96", "task.validation_examples=16", "task.test_examples=16")


def local(table: Path) -> tuple[str, ...]:
    return ("task=local", f"task.path={table}", "task.text=sentence", "task.label=label", *SIZES)


@pytest.mark.slow
def test_the_folder_has_the_pretrained_body_and_the_trained_head(
    model_folder: Path, table_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    train_head(folder, local(table_file), str(model_folder))
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
