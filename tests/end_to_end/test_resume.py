"""Checkpoints: what is put back is what was, to the bit; what is damaged, or of another run, is not used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import launched, ran
from safetensors.torch import load_file

from lorax_lab import console
from lorax_lab.record import provenance, read_record
from lorax_lab.record.checkpoints import STATE


@pytest.fixture
def interrupted_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Interrupt the run after so many steps of this process; gives the steps that it makes."""
    on_step = console.Steps.__call__

    def watch(last: int) -> list[int]:
        steps: list[int] = []

        def watched(self: Any, at: int, *rest: Any) -> None:
            on_step(self, at, *rest)
            steps.append(at)
            if len(steps) == last:
                raise KeyboardInterrupt

        monkeypatch.setattr(console.Steps, "__call__", watched)
        return steps

    return watch


@pytest.mark.parametrize("change", ["code", "kernel"])
def test_a_run_of_other_code_or_arithmetic_begins_anew_and_says_so(
    change: str, small_run: list[str], interrupted_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*small_run, "rank=2", "reference=false", "train.max_steps=4", "checkpoint_seconds=0"]
    before = interrupted_at(3)
    assert launched(*overrides, "train.kernel=torch").returncode == 130
    if change == "code":
        monkeypatch.setattr(provenance, "code_sha256", lambda *_: "f" * 64)
    overrides.append(f"train.kernel={'onednn' if change == 'kernel' else 'torch'}")
    steps = interrupted_at(1)
    anew = launched(*overrides)
    assert anew.returncode == 130
    assert f"is of another {change};" in " ".join(anew.stdout.split())
    ran(*overrides)
    assert (before[:3], steps) == ([1, 2, 3], [1, 2, 3, 4]), "the checkpoint of the new code or arithmetic is used"


@pytest.mark.parametrize(
    ("words", "damaged", "expected"),
    [
        (["method=full", "train.kernel=torch"], "", [1, 2, 3, 4, 5, 6]),
        (["rank=2", "train.kernel=onednn"], "state.safetensors", [1, 2, 3, 3, 4, 5, 6]),
    ],
)
def test_an_interrupted_run_ends_in_the_same_bits(
    words: list[str], damaged: str, expected: list[int], small_run: list[str], interrupted_at: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    """A checkpoint that is damaged is removed, and the one before it used."""
    overrides = [word for word in small_run if not word.startswith("runs_dir=")]
    overrides += [*words, "reference=false", "checkpoint_seconds=0", "train.max_steps=6"]
    ran(*overrides, f"runs_dir={tmp_path / 'at once'}")
    steps = interrupted_at(3)
    assert launched(*overrides, f"runs_dir={tmp_path / 'twice'}").returncode == 130
    (before_it, newest) = sorted((tmp_path / "twice").glob("*/checkpoints/step-*"))
    for checkpoint in (before_it, newest):
        state = json.loads((checkpoint / STATE).read_text())
        (checkpoint / STATE).write_text(json.dumps(state | {"seconds": 1000.0}))
    if damaged:
        (newest / damaged).write_bytes((newest / damaged).read_bytes()[:-5])
    again = ran(*overrides, f"runs_dir={tmp_path / 'twice'}")
    assert ("damaged" in again) == bool(damaged)
    assert not before_it.parent.exists()
    assert steps == expected
    folders = [next((tmp_path / name).glob("tiny-bert-*")) for name in ("at once", "twice")]
    before, after = map(read_record, folders)
    assert f"train.kernel={after.hardware['kernel']}" in words
    assert before.completed.metrics == after.completed.metrics
    assert after.completed.time.total_seconds > after.completed.time.train_seconds > 1000
    weights = [load_file(next(folder.glob("*.safetensors"))) for folder in folders]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
