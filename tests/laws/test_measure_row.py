"""A matrix's row of measures: what it holds, what it leaves out, and that no update makes it fail."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lorax_lab.measure.row import Storage, flatten, rounding, row_of, row_of_top
from lorax_lab.measure.rows import decompose, measure, summarise, with_nulls
from lorax_lab.spectra import NULLS, LowRank, certified, noise_ceiling, singular_values, structured_nulls
from lorax_lab.streams import generator

SHAPE = (48, 64)


def gaussian(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spiked(strength: float = 40.0) -> Tensor:
    """Three directions far above noise of standard deviation 1."""
    U, V = (torch.linalg.qr(gaussian(side, 3, seed=side)).Q for side in SHAPE)
    return strength * U @ V.T + gaussian(*SHAPE)


def test_spikes_do_not_raise_the_noise_they_stand_above() -> None:
    weak, strong = (row_of(singular_values(spiked(strength)), SHAPE, 1.0) for strength in (40.0, 4000.0))
    for row in (weak, strong):
        assert row["spikes"] == 3
        assert row["noise_std"] == pytest.approx(1, rel=0.05)
        assert row["noise_edge"] == noise_ceiling(SHAPE, row["noise_std"])
    assert strong["noise_edge"] == pytest.approx(weak["noise_edge"], rel=1e-3)


def test_rounding_decides_what_a_stored_update_can_tell() -> None:
    weight = gaussian(*SHAPE).bfloat16()
    update = weight.double() - gaussian(*SHAPE)  # rounding and nothing else
    row = row_of(singular_values(update), SHAPE, float(weight.double().norm()), storage=Storage.of(weight))
    assert row["above_rounding"] == 0
    assert row["rounding_share"] == pytest.approx(1, abs=0.1)
    assert "effective_rank" in row["untrusted"]
    exact = row_of(singular_values(update), SHAPE, float(weight.double().norm()))
    assert exact["untrusted"] == ""
    assert not {"rounding_edge", "above_rounding", "rounding_share"} & set(exact)


def test_what_rounding_could_make_grows_with_the_base_and_shrinks_with_the_update() -> None:
    assert rounding(100.0, 1.0, eps=0.5) == 50
    assert rounding(1.0, 100.0, eps=0.5) == 0.005
    assert rounding(1.0, 0.0, eps=0.5) == 0.5
    sigma = torch.tensor([1.0, 1e-2, 1e-4, 1e-6], dtype=torch.float64)
    storage = Storage(1e-6, torch.full((4,), 1e-20).double(), torch.full((4,), 1e-20).double())
    counts = [row_of(sigma, (4, 4), base, storage=storage)["numerical_rank"] for base in (1e-3, 1.0, 100.0, 1e4)]
    assert counts == [4, 3, 2, 1]  # values above 4 · eps · base


def test_the_measures_above_noise_have_their_names() -> None:
    row = row_of(singular_values(spiked()), SHAPE, 1.0)
    names = {"noise_std", "noise_edge", "spikes", "spike_energy", "signal_share", "bulk_misfit", "gavish_donoho_rank"}
    assert names <= set(row)
    assert 0 < row["signal_share"] < row["spike_energy"] < 1


def test_a_value_on_the_edge_is_not_above_it() -> None:
    nothing = Storage(1e-9, torch.zeros(4).double(), torch.zeros(4).double())
    sigma = torch.tensor([2.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    row = row_of(sigma, (4, 4), 1.0, storage=nothing)
    assert (row["rounding_edge"], row["above_rounding"], row["rounding_share"]) == (0, 2, 0)


def test_which_measures_rounding_decides_and_never_the_numerical_rank() -> None:
    sigma = torch.cat([torch.tensor([100.0]), torch.full((31,), 1.0)]).double()
    each = torch.full((32,), 1.5).double()
    row = row_of(sigma, (32, 32), 1.0, storage=Storage(1e-9, each, each))
    assert row["rounding_edge"] > 1
    assert row["untrusted"] == "effective_rank"
    assert row["above_rounding"] == 1
    assert row["rounding_share"] == pytest.approx(48 / (100**2 + 31))


def test_the_noise_that_spikes_leave_over_has_its_own_degrees_of_freedom() -> None:
    update = spiked(400.0)
    top = row_of_top(certified(update, 8, generator(0, "test")), SHAPE, 10.0, Storage.of(gaussian(*SHAPE).float()))
    sigma = singular_values(update)
    left = float(sigma[3:].square().sum())
    assert top["spikes"] == 3
    assert top["noise_std"] == pytest.approx(math.sqrt(left / (45 * 61)), rel=1e-6)
    assert top["spike_energy"] == pytest.approx(float(sigma[:3].square().sum() / sigma.square().sum()), rel=1e-9)
    assert top["noise_edge"] == noise_ceiling(SHAPE, top["noise_std"])


def test_a_product_of_factors_has_no_noise_of_its_own() -> None:
    row = row_of(singular_values(LowRank(gaussian(48, 4), gaussian(4, 64))), SHAPE, 1.0, rank=4)
    assert not {"spikes", "noise_edge", "rounding_edge"} & set(row)
    assert row["null"]["effective_rank"] < 4
    assert row["numerical_rank"] == 4


def test_the_top_of_a_spectrum_gives_the_same_names_and_counts() -> None:
    update, storage = spiked(400.0), Storage.of(gaussian(*SHAPE).float())
    whole = row_of(singular_values(update), SHAPE, 10.0, storage=storage)
    top = row_of_top(certified(update, 8, generator(0, "test")), SHAPE, 10.0, storage)
    assert {name.removesuffix(".low") for name in flatten(top)} <= set(flatten(whole))
    for name in ("spikes", "frobenius_norm", "spectral_norm", "relative_norm", "rounding_edge", "null"):
        assert top[name] == pytest.approx(whole[name]), name
    assert math.isnan(top["above_rounding"])  # all eight known values are, so the number of all is not known
    assert whole["above_rounding"] == 48


UPDATES = {
    "zero": torch.zeros(SHAPE, dtype=torch.float64),
    "one direction": torch.outer(gaussian(48), gaussian(64)),
    "zero factors": LowRank(torch.zeros(48, 4), gaussian(4, 64).float()),
    "noise": gaussian(*SHAPE),
}


@pytest.mark.parametrize("base", [torch.zeros(SHAPE), torch.ones(SHAPE)], ids=["base of zeros", "base of ones"])
@pytest.mark.parametrize("kind", UPDATES)
def test_no_update_makes_the_row_fail(kind: str, base: Tensor) -> None:
    updates = {"layer.0.query": UPDATES[kind]}
    rows = measure(updates, decompose(updates), {"layer.0.query": base})
    row = rows["layer.0.query"]
    assert math.isnan(row["relative_norm"]) == (not base.any())
    assert (row["numerical_rank"] == 0) == ("zero" in kind)
    assert "spikes" in summarise(rows) or "factors" in kind


def test_dense_updates_have_nulls_from_streams_of_their_names_and_products_have_none() -> None:
    updates = {"a": spiked(), "b": LowRank(gaussian(48, 2), gaussian(2, 64))}
    table = measure(updates, decompose(updates), {name: gaussian(*SHAPE) for name in updates})
    rows = with_nulls(table, updates, lambda name: generator(7, name))
    assert rows["a"] == table["a"] | {"nulls": structured_nulls(updates["a"], generator(7, "a"))}
    assert rows["b"] == table["b"]
    assert {f"nulls.{null}.effective_rank" for null in NULLS} <= set(flatten(rows["a"]))
    assert f"nulls.{next(iter(NULLS))}.above" in summarise({"a": rows["a"] | {"module": "q"}})
