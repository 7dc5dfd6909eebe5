"""The small bases of the lab's own training: their recordings, and that they are models as any other."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import soundfile

from experiments import base, vit_base, whisper_base
from experiments.tones import EVERY, OTHER_RATE, RATE, Voice, record
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


def test_the_base_has_every_letter_and_no_word_of_the_task() -> None:
    assert set("".join(whisper_base.DIGITS)) <= set("".join(whisper_base.ALPHABET))
    assert not set(whisper_base.DIGITS) & set(whisper_base.ALPHABET)


def short(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    small = [word for word in module.BUDGET if not word.startswith(("task.validation", "task.test", "train.epochs"))]
    sizes = ["task.validation_examples=10", "task.test_examples=10", "task.train_examples=30", "train.device=cpu"]
    monkeypatch.setattr(module, "BUDGET", [*small, *sizes])
    for name in {"BASE", "TASK"} & set(vars(module)):
        monkeypatch.setattr(module, name, 60)


@pytest.mark.slow
@pytest.mark.parametrize(("module", "kind"), [(vit_base, "image_classification"), (whisper_base, "speech_recognition")])
def test_a_base_is_trained_by_a_run_and_kept_as_a_models_folder(
    module: ModuleType,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    short(module, monkeypatch)
    assert base.main(module.WHAT, module.__name__, module.make, [str(tmp_path / "base")]) == 0
    assert f"the base: model={tmp_path / 'base'}" in capfd.readouterr().out
    of: Callable[[str], dict] = lambda place: load_base(  # noqa: E731
        str(tmp_path / "base" / place),
        KINDS[kind].head(["a", "b"]),
        0,
        KINDS[kind].model_class,
        KINDS[kind].processor_class,
    ).model.state_dict()
    trained, random = of("."), of("training/random")
    moved = [name for name, tensor in trained.items() if not (tensor == random[name]).all()]
    assert moved
    assert not [name for name in moved if "classifier" in name]
    assert base.main(module.WHAT, module.__name__, lambda _: pytest.fail("made again"), [str(tmp_path / "base")]) == 0


def test_a_file_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert base.main("what", "experiments.vit_base", vit_base.make, [str(tmp_path / "file")]) == 2
    assert "file is a file; name a folder" in capsys.readouterr().err
