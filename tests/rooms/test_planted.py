"""Planted updates: their rank, that labels are the planted model's own answers, what cuts and estimators find of them,
and the published tables."""

import csv
import math
from itertools import permutations
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import BAD, GOOD, PLAIN
from safetensors.torch import load_file
from torch import Tensor

from analysis import planted
from analysis.__main__ import main
from experiments import planted_everywhere as made
from experiments.teacher import MATRIX, Level, batches, bert, labelled, plant_largest, plant_signs, redrawn, threshold
from lorax_lab.models import load_base, select
from lorax_lab.spectra import singular_values
from lorax_lab.streams import generator

ROOT = Path(__file__).parents[2]
DOCS, RECORDS = ROOT / "docs", ROOT / "experiments" / "records"
LEVELS = {"two": Level(2), "six": Level(6), "noisy": Level(6, 0.3)}
LAST = MATRIX.format(layer=1)
"""The tiny BERT's matrix that is planted."""


def column(path: Path, name: str) -> list[str]:
    with path.open(newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def accuracy(model: Path, data: Path, update: Tensor | None) -> float:
    """Of the planted model's own head, with the update in its matrix."""
    labels = torch.tensor([int(label) for label in column(data, "label")])
    base = load_base(str(model), {"num_labels": int(labels.max()) + 1}, 0)
    if update is not None:
        with torch.no_grad():
            base.model.get_submodule(select(base.model, [LAST])[0]).weight += update.float()
    inputs = base.processor(column(data, "text"), padding=True, return_tensors="pt")
    with torch.inference_mode():
        answers = base.model.eval()(**inputs).logits.argmax(1)
    return float((answers == labels).float().mean())


def test_signs_are_the_planted_models_own_answers_and_unknown_without_the_update(
    model_folder: Path, table_file: Path, tmp_path: Path
) -> None:
    plant_signs(tmp_path, str(model_folder), column(table_file, "sentence"), 2)
    teacher = load_file(tmp_path / "teacher.safetensors")
    update = (teacher["U"] * teacher["scale"]) @ teacher["V"].T
    assert torch.linalg.matrix_rank(update) == 2
    assert accuracy(tmp_path / "model", tmp_path / "data.csv", update) == 1
    assert accuracy(tmp_path / "model", tmp_path / "data.csv", None) < 0.6
    assert len(set(column(tmp_path / "data.csv", "label"))) == 4


def test_coordinates_that_the_norm_puts_out_are_not_read(model_folder: Path, table_file: Path, tmp_path: Path) -> None:
    """Trained encoders have gains of 1e-33: a reading through them makes infinite gradients."""
    base = load_base(str(model_folder), {"num_labels": 4}, 0)
    with torch.no_grad():
        base.model.base_model.encoder.layer[-1].output.LayerNorm.weight[:3] = 1e-33
    base.model.base_model.save_pretrained(tmp_path / "dead")
    base.processor.save_pretrained(tmp_path / "dead")
    plant_signs(tmp_path, str(tmp_path / "dead"), column(table_file, "sentence"), 2)
    pooler = load_file(tmp_path / "model" / "model.safetensors")["bert.pooler.dense.weight"]
    assert (pooler[:2, :3] == 0).all()
    assert pooler[:2].abs().max() < 1e6


def of_largest(folder: Path, name: str, k: int | None) -> float:
    """Its accuracy, with the update cut to its k largest directions; None keeps it whole."""
    teacher = load_file(folder / f"{name}.safetensors")
    U, sigma, Vh = torch.linalg.svd(teacher["left"] @ teacher["right"].T, full_matrices=False)
    assert int((sigma > 1e-9 * sigma[0]).sum()) == LEVELS[name].rank
    return accuracy(folder / name, folder / f"{name}.csv", (U[:, :k] * sigma[:k]) @ Vh[:k])


def test_labels_are_those_of_the_whole_update_and_fewer_directions_or_noise_lose_them(
    model_folder: Path, table_file: Path, tmp_path: Path
) -> None:
    """The label is the largest coordinate. Of six directions the last is not needed, so the cut is at four."""
    plant_largest(tmp_path, str(model_folder), column(table_file, "sentence"), LEVELS)
    by_k = {k: of_largest(tmp_path, "six", k) for k in (0, 3, 4, 6, None)}
    assert by_k[6] == by_k[None] == 1
    assert by_k[4] < 0.9
    assert by_k[3] < 0.8
    assert by_k[0] < 0.4
    assert of_largest(tmp_path, "two", None) == 1
    assert of_largest(tmp_path, "noisy", None) == pytest.approx(1 - 0.3 * 6 / 7, abs=0.1)


def test_noise_draws_a_share_of_the_labels_anew() -> None:
    labels = torch.arange(10_000) % 5
    drawn = redrawn(labels, 5, 0.1)
    assert float((drawn != labels).float().mean()) == pytest.approx(0.1 * 4 / 5, abs=0.01)
    assert torch.equal(drawn, redrawn(labels, 5, 0.1))
    assert torch.equal(redrawn(labels, 5, 0), labels)


@pytest.mark.parametrize("rank", [1, 5, 64])
def test_the_first_class_has_its_share_of_the_clear_texts(rank: int) -> None:
    standard = torch.randn(20_000, rank, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
    labels, clear = labelled(standard, threshold(standard))
    shares = labels[clear].bincount(minlength=rank + 1) / clear.sum()
    assert float(shares[0]) == pytest.approx(1 / (rank + 1), rel=0.02)
    assert float(shares.max()) < 1.4 / (rank + 1)


# ---- a rank that is planted in every matrix at once

TEXTS = [" ".join(words) for words in permutations([*GOOD[:2], *BAD[:2], *PLAIN[:1]], 3)]


def test_a_signal_has_its_rank_its_norm_and_even_singular_values() -> None:
    weight = torch.randn(24, 48)
    sigma = torch.linalg.svdvals(made.signal(weight, 4, generator(0, "test")))
    assert sigma[:4] / sigma[0] == pytest.approx([1, 5 / 6, 4 / 6, 0.5])
    assert float(sigma[4]) < 1e-12 * float(sigma[0])
    assert float(sigma.norm()) == pytest.approx(made.NORM * float(weight.norm()))


def test_without_noise_a_cut_at_the_planted_rank_gives_every_label(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of rank 1 and 4 in every matrix of a small model, whose own weights are so small that .3 of them does nothing."""
    base = bert(str(model_folder), made.CLASSES)
    model, inputs = base.model.eval(), [batch for _, batch in batches(base, TEXTS)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setattr(made, "NORM", 30.0)
    rows = pd.DataFrame(row for draw in (0, 1) for rank in (1, 4) for row in made.planted(model, inputs, rank, draw))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    right = rows[(rows["quantity"] == "right") & (rows["ratio"] == math.inf)]
    assert set(right["k"]) == set(made.CUT)
    assert set(right.loc[right["k"] >= right["rank"], "value"]) == {1.0}
    assert right.loc[right["k"] == 0, "value"].max() < 1
    noisy = rows[(rows["quantity"] == "right") & (rows["ratio"] == made.RATIOS[1])]
    assert not noisy["value"].isna().any()
    assert list(noisy["value"]) != list(right["value"])


# ---- what each estimator says of a known rank in known noise


@pytest.mark.parametrize("noise", planted.NOISES)
@pytest.mark.parametrize("ratio", planted.RATIOS)
def test_the_signal_has_its_rank_and_its_share(noise: str, ratio: float) -> None:
    strong, _ = planted.planted(noise, 1e8 * ratio, 5, 0, side=48)
    assert int((singular_values(strong) > 1e-3 * float(strong.norm())).sum()) == 5
    update, _ = planted.planted(noise, ratio, 5, 0, side=48)
    assert float(update.square().sum()) == pytest.approx(ratio**2 + 1, rel=0.15)  # chance leaves them nearly orthogonal
    assert torch.equal(planted.planted(noise, ratio, 5, 0, side=48)[0], update)
    assert not torch.equal(planted.planted(noise, ratio, 5, 1, side=48)[0], update)


def test_the_command_draws_what_there_are_records_of_and_names_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = planted.table(draws=2, ranks=(1, 4, 64), side=64)
    monkeypatch.setattr(planted, "table", lambda draws: noise)
    every = {"planted_ranks", "planted_everywhere"}
    for folder, drawn in ((RECORDS, every), (tmp_path, {"planted_ranks"})):
        out = tmp_path / folder.name / "out"
        assert main(["planted", "--out", str(out), "--records", str(folder)]) == 0
        assert {path.stem for path in out.iterdir()} == drawn
        assert ("experiments.planted_everywhere" in capsys.readouterr().out) == (folder == tmp_path)


def test_the_published_tables_are_what_the_program_makes() -> None:
    published = pd.read_csv(DOCS / "planted_ranks.csv")
    place = {"noise": "rows", "ratio": 3.0, "rank": 8}
    estimates = [planted.estimates(*planted.planted("rows", 3.0, 8, draw)) for draw in range(planted.DRAWS)]
    cell = published[(published[list(place)] == pd.Series(place)).all(axis=1)].set_index("estimator")
    assert set(cell.index) == set(estimates[0])
    for name in estimates[0]:
        spread = planted.spread([one[name] for one in estimates], 8)
        assert cell.loc[name, list(spread)].astype(float).to_dict() == pytest.approx(spread, rel=1e-6, nan_ok=True)
    every = planted.everywhere_table(pd.read_csv(RECORDS / "planted_everywhere.csv"))
    pd.testing.assert_frame_equal(pd.read_csv(DOCS / "planted_everywhere.csv"), every, check_dtype=False)
