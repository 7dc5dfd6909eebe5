"""The planted teacher: its rank, what its labels depend on, and that its head is the one that reads them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from experiments.teacher import features, plant_signs
from lorax_lab.errors import ConfigError
from lorax_lab.models import load_base, select


@pytest.fixture(scope="module")
def planted(model_folder: Path, table_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A teacher of rank 2 on the tiny BERT, and the name of its matrix."""
    folder = tmp_path_factory.mktemp("planted")
    with table_file.open(newline="") as file:
        texts = [row["sentence"] for row in csv.DictReader(file)]
    return folder, plant_signs(folder, str(model_folder), texts, 2)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "data.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def answers(folder: Path, add: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The classes that the planted model's own head gives, with ΔW or without it, and the labels."""
    base = load_base(str(folder / "model"), {"num_labels": 4}, 0)
    if add:
        t = load_file(folder / "teacher.safetensors")
        matrix = base.model.get_submodule(select(base.model, ["layer.1.output.dense"])[0])
        with torch.no_grad():
            matrix.weight += ((t["U"] * t["scale"]) @ t["V"].T).float()
    rows = rows_of(folder)
    inputs = base.processor([row["text"] for row in rows], padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = base.model.eval()(**inputs).logits.argmax(1)
    return found, torch.tensor([int(row["label"]) for row in rows])


def test_the_labels_are_the_planted_models_own_answers_and_not_the_bases(planted: tuple[Path, str]) -> None:
    answered, labels = answers(planted[0], add=True)
    assert torch.equal(answered, labels)
    assert len(labels.unique()) == 4
    assert (answers(planted[0], add=False)[0] == labels).float().mean() < 0.6


def test_the_update_has_the_rank_it_is_called_by_and_no_mean(planted: tuple[Path, str], model_folder: Path) -> None:
    t = load_file(planted[0] / "teacher.safetensors")
    torch.testing.assert_close(t["U"].T @ t["U"], torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(t["V"].T @ t["V"], torch.eye(2, dtype=torch.float64))
    assert (t["scale"] > 0).all()
    base = load_base(str(model_folder), {"num_labels": 4}, 0)
    with Path(planted[0] / "data.csv").open(newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    inputs = features(base, texts, lambda _: None).inputs
    along = inputs @ t["V"]
    assert len(select(base.model, [planted[1]])) == 1
    assert (along.mean(0).abs() < 0.6 * along.std(0)).all()  # of the clear texts alone; of all texts it is 0


def test_coordinates_that_the_norm_puts_out_are_not_read(model_folder: Path, table_file: Path, tmp_path: Path) -> None:
    """Trained encoders have gains of 1e-33: a reading through them makes infinite gradients."""
    base = load_base(str(model_folder), {"num_labels": 4}, 0)
    with torch.no_grad():
        base.model.base_model.encoder.layer[-1].output.LayerNorm.weight[:3] = 1e-33
    base.model.base_model.save_pretrained(tmp_path / "dead")
    base.processor.save_pretrained(tmp_path / "dead")
    with table_file.open(newline="") as file:
        texts = [row["sentence"] for row in csv.DictReader(file)]
    plant_signs(tmp_path, str(tmp_path / "dead"), texts, 2)
    pooler = load_file(tmp_path / "model" / "model.safetensors")["bert.pooler.dense.weight"]
    assert (pooler[:2, :3] == 0).all()
    assert pooler[:2].abs().max() < 1e6


@pytest.mark.parametrize("rank", [0, 9])
def test_an_impossible_rank_is_refused(model_folder: Path, tmp_path: Path, rank: int) -> None:
    with pytest.raises(ConfigError, match=f"rank={rank} is not possible: 1 to 8"):
        plant_signs(tmp_path, str(model_folder), ["a film"], rank)
