"""What a LoRA can hold: the numbers of a cell by hand, on the published study of memorised labels, and the fit."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.study import page
from analysis.study.comparison import seeds_of
from analysis.study.figures import FIGURES, capacity
from analysis.study.figures.capacity import BITS, COUNTING
from analysis.study.records import RECORDS, load
from experiments.capacity import SHARPER, write_base
from lorax_lab.models import load_base
from lorax_lab.study.answers import LOSSES

LAYER = 4 * (384 + 384) + 2 * (384 + 1536)
"""Numbers of rank 1 in the six matrices of a layer of MiniLM."""


@pytest.fixture(scope="module")
def held() -> pd.DataFrame:
    return capacity.table(load(RECORDS / "memorised"))


@pytest.mark.parametrize("rank", [1, 8, 64])
def test_a_cells_ratios_are_those_of_its_labels_and_matrices(held: pd.DataFrame, rank: int) -> None:
    [cell] = held[(held["texts"] == 1000) & (held["arm"] == f"LoRA r={rank}")].to_dict("records")
    assert (cell["classes"], cell["numbers"], cell["seeds"]) == (2, rank * LAYER, 5)
    assert cell[BITS] == pytest.approx(1000 / (rank * LAYER))
    assert cell[COUNTING] == pytest.approx(2000 / (rank * LAYER - 6 * rank**2))
    memorised = load(RECORDS / "memorised")
    lines = seeds_of(memorised, cell["task"], cell["arm"]).values()
    learned = [1 - np.asarray(line[LOSSES], float).mean() / math.log(2) for line in lines]
    assert (cell["value"], cell["stored"]) == pytest.approx((np.mean(learned), np.mean(learned) * cell[BITS]))
    assert cell["low"] <= cell["value"] <= cell["high"]


def test_what_is_learned_is_below_the_bits_of_the_labels_and_near_them_where_all_are_right(held: pd.DataFrame) -> None:
    assert (held["held"] == (held["right"] >= 0.99)).all()
    assert (held["stored_low"] <= held["stored"]).all()
    assert (held["stored"] <= held["stored_high"]).all()
    sure = held[held["right"] == 1]
    assert len(sure)
    assert (sure["stored"] > 0.9 * sure[BITS]).all()


def test_a_planted_constant_is_found_and_the_law_that_does_not_hold_errs_on_other_cells() -> None:
    draw = np.random.default_rng(0)
    cells = pd.DataFrame({BITS: np.exp(draw.uniform(-3, 2, 40)), "steps": 9, "classes": 2, "texts": 9})
    cells = cells.assign(**{COUNTING: np.exp(draw.uniform(-3, 2, 40))}, held=cells[BITS] <= 0.5)
    most, wrong, count = capacity.fit_on_half(cells, BITS)
    assert math.log(most / 0.5) == pytest.approx(0, abs=0.5)
    assert (wrong, count) == (pytest.approx(0, abs=1), 20)
    assert capacity.fit_on_half(cells, COUNTING)[1] > 3
    contrary = pd.DataFrame({BITS: [1.0, 2.0, 3.0, 4.0], "held": [True, False, True, False]})
    assert capacity.fit_on_half(contrary.assign(steps=9, classes=2, texts=9), BITS)[1:] == (2, 2)
    shorter = pd.concat([cells, cells.assign(steps=4, held=~cells["held"])])
    assert capacity.fit_on_half(shorter, BITS) == capacity.fit_on_half(cells, BITS)


def test_the_figure_and_the_page_say_what_was_found() -> None:
    memorised = load(RECORDS / "memorised")
    records = replace(memorised, declared=replace(memorised.declared, figures=("capacity", "trials")))
    figure, found = FIGURES["capacity"], "The rule of 2 bits a number is right in 6 of 9 cells"
    table = figure.table(records)
    assert figure.draw(table).get_suptitle().startswith(found)
    assert f"**{found}" in page.write(records)


def test_the_base_has_one_layer_without_dropout_whose_norm_is_larger(model_folder: Path, tmp_path: Path) -> None:
    write_base(tmp_path / "base", str(model_folder))
    before, body = (
        load_base(str(at), {"num_labels": 2}, 0).model.base_model for at in (model_folder, tmp_path / "base")
    )
    assert len(body.encoder.layer) == body.config.num_hidden_layers == 1 < len(before.encoder.layer)
    assert body.config.hidden_dropout_prob == body.config.attention_probs_dropout_prob == 0
    norms = [model.encoder.layer[0].output.LayerNorm for model in (before, body)]
    for old, new in zip(norms[0].parameters(), norms[1].parameters(), strict=True):
        torch.testing.assert_close(new, SHARPER * old)
