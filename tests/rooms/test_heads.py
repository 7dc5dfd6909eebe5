"""The head that is trained alone and kept: what the study of other heads starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from experiments.heads import train_head
from lorax_lab.errors import ConfigError

SIZES = ("task.train_examples=96", "task.validation_examples=16", "task.test_examples=16")


def local(table: Path) -> tuple[str, ...]:
    return ("task=local", f"task.path={table}", "task.text=sentence", "task.label=label", *SIZES)


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


def test_a_run_that_fails_is_named(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the run that trains the head in .*kept-runs did not end well"):
        train_head(tmp_path / "kept", local(tmp_path / "missing.csv"), str(model_folder))
