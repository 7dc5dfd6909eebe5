"""A rank that is planted in every matrix at once: what is planted, what the cuts find, and what the figure says."""

from __future__ import annotations

import math
from itertools import permutations
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import BAD, GOOD, PLAIN

from experiments import planted_everywhere as made
from experiments.teacher import batches, bert
from lorax_lab.streams import generator

TEXTS = [" ".join(words) for words in permutations([*GOOD[:2], *BAD[:2], *PLAIN[:1]], 3)]


def test_a_signal_has_its_rank_its_norm_and_even_singular_values() -> None:
    weight = torch.randn(24, 48)
    sigma = torch.linalg.svdvals(made.signal(weight, 4, generator(0, "test")))
    assert sigma[:4] / sigma[0] == pytest.approx([1, 5 / 6, 4 / 6, 0.5])
    assert float(sigma[4]) < 1e-12 * float(sigma[0])
    assert float(sigma.norm()) == pytest.approx(made.NORM * float(weight.norm()))


@pytest.fixture(scope="module")
def rows(model_folder: Path) -> pd.DataFrame:
    """Of rank 1 and 4 in every matrix of a small model, whose own weights are so small that .3 of them does nothing."""
    base = bert(str(model_folder), made.CLASSES)
    model, inputs = base.model.eval(), [batch for _, batch in batches(base, TEXTS)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "NORM", 30.0)
        found = [row for draw in (0, 1) for rank in (1, 4) for row in made.planted(model, inputs, rank, draw)]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return pd.DataFrame(found)


def test_without_noise_a_cut_at_the_planted_rank_gives_every_label(rows: pd.DataFrame) -> None:
    right = rows[(rows["quantity"] == "right") & (rows["ratio"] == math.inf)]
    assert set(right["k"]) == set(made.CUT)
    assert set(right.loc[right["k"] >= right["rank"], "value"]) == {1.0}
    assert right.loc[right["k"] == 0, "value"].max() < 1
    noisy = rows[(rows["quantity"] == "right") & (rows["ratio"] == made.RATIOS[1])]
    assert not noisy["value"].isna().any()
    assert list(noisy["value"]) != list(right["value"])
