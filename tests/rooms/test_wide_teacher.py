"""The teacher of up to 64 directions: its labels need all of them, and its head is the one that reads them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from experiments.teacher import Level, labelled, plant_largest, redrawn, threshold
from lorax_lab.models import load_base, select

LEVELS = {"two": Level(2), "six": Level(6), "noisy": Level(6, 0.3)}


@pytest.fixture(scope="module")
def planted(model_folder: Path, table_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Teachers of ranks 2 and 6 on the tiny BERT, and the name of their matrix."""
    folder = tmp_path_factory.mktemp("wide")
    with table_file.open(newline="") as file:
        texts = [row["sentence"] for row in csv.DictReader(file)]
    return folder, plant_largest(folder, str(model_folder), texts, LEVELS)


def accuracy(folder: Path, name: str, matrix: str, k: int | None) -> float:
    """Of the planted model's own head, with ΔW cut to its k largest directions; None keeps it whole."""
    base = load_base(str(folder / name), {"num_labels": LEVELS[name].rank + 1}, 0)
    teacher = load_file(folder / f"{name}.safetensors")
    U, sigma, Vh = torch.linalg.svd(teacher["left"] @ teacher["right"].T, full_matrices=False)
    module = base.model.get_submodule(select(base.model, [matrix])[0])
    with torch.no_grad():
        module.weight += ((U[:, :k] * sigma[:k]) @ Vh[:k]).float()
    with (folder / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    inputs = base.processor([row["text"] for row in rows], padding=True, return_tensors="pt")
    with torch.inference_mode():
        answers = base.model.eval()(**inputs).logits.argmax(1)
    return float((answers == torch.tensor([int(row["label"]) for row in rows])).float().mean())


def test_the_labels_are_those_of_the_whole_update_and_fewer_directions_lose_them(planted: tuple[Path, str]) -> None:
    """Of the tiny model's six directions the last is not needed, so the cut is at four."""
    by_k = {k: accuracy(planted[0], "six", planted[1], k) for k in (0, 3, 4, 6, None)}
    assert by_k[6] == by_k[None] == 1
    assert by_k[4] < 0.9
    assert by_k[3] < 0.8
    assert by_k[0] < 0.4
    assert accuracy(planted[0], "two", planted[1], None) == 1


def test_the_models_have_no_dropout(planted: tuple[Path, str]) -> None:
    model = load_base(str(planted[0] / "six"), {"num_labels": 7}, 0).model
    rates = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    assert rates
    assert set(rates) == {0.0}


def test_noise_draws_a_share_of_the_labels_anew(planted: tuple[Path, str]) -> None:
    assert accuracy(planted[0], "noisy", planted[1], None) == pytest.approx(1 - 0.3 * 6 / 7, abs=0.1)
    labels = torch.arange(10_000) % 5
    drawn = redrawn(labels, 5, 0.1)
    assert float((drawn != labels).float().mean()) == pytest.approx(0.1 * 4 / 5, abs=0.01)
    assert torch.equal(drawn, redrawn(labels, 5, 0.1))
    assert torch.equal(redrawn(labels, 5, 0), labels)


def test_the_update_has_the_rank_it_is_called_by(planted: tuple[Path, str]) -> None:
    for name, level in LEVELS.items():
        teacher = load_file(planted[0] / f"{name}.safetensors")
        sigma = torch.linalg.svdvals(teacher["left"] @ teacher["right"].T)
        assert int((sigma > 1e-9 * sigma[0]).sum()) == level.rank


@pytest.mark.parametrize("rank", [1, 5, 64])
def test_the_first_class_has_its_share_of_the_clear_texts(rank: int) -> None:
    standard = torch.randn(20_000, rank, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
    labels, clear = labelled(standard, threshold(standard))
    shares = labels[clear].bincount(minlength=rank + 1) / clear.sum()
    assert float(shares[0]) == pytest.approx(1 / (rank + 1), rel=0.02)
    assert float(shares.max()) < 1.4 / (rank + 1)
