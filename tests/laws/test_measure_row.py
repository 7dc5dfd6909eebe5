"""A matrix's row of measures: what it holds, what it leaves out, and that no update makes it fail."""

import json
import math

import pytest
import torch
from matrices import gaussian, structured_nulls
from torch import Tensor

from lorax_lab.config.defaults import flat
from lorax_lab.measure.rows import decompose, measure, structured, to_save, with_stand_ins
from lorax_lab.record.measures import rows_of, summarise
from lorax_lab.spectra import MEASURES, NULLS, LowRank, Rounding, row_of, singular_values
from lorax_lab.streams import generator

SHAPE = (48, 64)


def spiked() -> Tensor:
    """Three directions far above noise of standard deviation 1."""
    U, V = (torch.linalg.qr(gaussian(side, 3, seed=side)).Q for side in SHAPE)
    return 40 * U @ V.T + gaussian(*SHAPE)


def test_what_rounding_could_make_grows_with_the_base_and_shrinks_with_the_update() -> None:
    sigma = torch.tensor([1.0, 1e-2, 1e-4, 1e-6], dtype=torch.float64)
    floor = Rounding(eps=1e-6, edge=1e-9, energy=4e-20)
    counts = [row_of(sigma, (4, 4), base, rounding=floor)["numerical_rank"] for base in (1e-3, 1.0, 100.0, 1e4)]
    assert counts == [4, 3, 2, 1]  # values above 4 · eps · base


def test_a_value_on_the_edge_is_not_above_it() -> None:
    nothing = Rounding.of_sums(1e-9, torch.zeros(4).double(), torch.zeros(4).double())
    sigma = torch.tensor([2.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    row = row_of(sigma, (4, 4), 1.0, rounding=nothing)
    assert (row["rounding_edge"], row["above_rounding"], row["rounding_share"]) == (0, 2, 0)


def test_which_measures_rounding_decides_and_never_the_numerical_rank() -> None:
    sigma = torch.cat([torch.tensor([100.0]), torch.full((31,), 1.0)]).double()
    each = torch.full((32,), 1.5).double()
    row = row_of(sigma, (32, 32), 1.0, rounding=Rounding.of_sums(1e-9, each, each))
    assert row["rounding_edge"] > 1
    flagged = row["untrusted"].split()
    assert "effective_rank" in flagged
    assert not {"stable_rank", "numerical_rank"} & set(flagged)
    assert row["above_rounding"] == 1
    assert row["rounding_share"] == pytest.approx(48 / (100**2 + 31))


def test_a_product_of_factors_has_no_noise_of_its_own() -> None:
    row = row_of(singular_values(LowRank(gaussian(48, 4), gaussian(4, 64))), SHAPE, 1.0, rank=4)
    assert not {"spikes", "noise_edge", "rounding_edge"} & set(row)
    assert row["null"]["effective_rank"] < 4
    assert row["numerical_rank"] == 4


UPDATES = {
    "zero": torch.zeros(SHAPE, dtype=torch.float64),
    "one direction": torch.outer(gaussian(48), gaussian(64)),
    "zero factors": LowRank(torch.zeros(48, 4), gaussian(4, 64).float()),
    "noise": gaussian(*SHAPE),
}


@pytest.mark.parametrize("base", [torch.zeros(SHAPE), torch.ones(SHAPE)], ids=["base of zeros", "base of ones"])
@pytest.mark.parametrize("kind", UPDATES)
def test_no_update_makes_the_row_fail_and_the_record_has_it_whole(kind: str, base: Tensor) -> None:
    """From the weights by way of the record: the same as `row_of` gives, None for NaN."""
    updates, decomposed = {"layer.0.query": UPDATES[kind]}, decompose({"layer.0.query": UPDATES[kind]})
    matrices = measure(updates, {"layer.0.query": base})
    (row,), (matrix,), update = rows_of(matrices, to_save(decomposed)).values(), matrices.values(), UPDATES[kind]
    assert (row["layer"], row["module"], row["shape"]) == (0, "query", list(SHAPE))
    assert (row["relative_norm"] is None) == (not base.any())
    assert (row["numerical_rank"] == 0) == ("zero" in kind)
    assert ("spikes" in row) == isinstance(update, Tensor) == (matrix.rounding is not None) == (matrix.rank is None)
    rounding = Rounding.of_weight((base.double() + update).float()) if isinstance(update, Tensor) else None
    direct = row_of(
        decomposed["layer.0.query"].sigma, SHAPE, float(base.double().norm()), rank=matrix.rank, rounding=rounding
    )
    wanted = {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in direct.items()}
    assert {key: row[key] for key in wanted if key != "null"} == {k: v for k, v in wanted.items() if k != "null"}
    assert set(MEASURES) <= set(row["null"])


def test_dense_updates_have_nulls_from_streams_of_their_names_and_products_have_none() -> None:
    updates = {"a": spiked(), "b": LowRank(gaussian(48, 2), gaussian(2, 64))}
    base = {name: gaussian(*SHAPE) for name in updates}
    drawn = structured(updates, lambda name: generator(7, name))
    rows = rows_of(measure(updates, base), to_save(decompose(updates), nulls=drawn))
    assert rows["a"]["nulls"] == structured_nulls(updates["a"], generator(7, "a"))
    assert "nulls" not in rows["b"]
    assert {f"nulls.{null}.effective_rank" for null in NULLS} <= set(flat(rows["a"]))
    assert f"nulls.{next(iter(NULLS))}.above" in summarise({"a": rows["a"]})


def test_a_stand_in_is_measured_as_its_update_is() -> None:
    updates, base, noise = {"a": spiked()}, {"a": gaussian(*SHAPE)}, {"a": gaussian(*SHAPE, seed=1)}
    (matrix,) = with_stand_ins(measure(updates, base), noise, base).values()
    assert matrix.stand_in == measure(noise, base)["a"].rounding
    assert matrix.rounding == measure(updates, base)["a"].rounding


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (8, 1), (2, 3)])
def test_the_smallest_matrices_have_their_measures(shape: tuple[int, int]) -> None:
    for sigma in (torch.ones(min(shape), dtype=torch.float64), torch.zeros(min(shape), dtype=torch.float64)):
        row = row_of(sigma, shape, 0.0)
        assert set(MEASURES) <= set(row)
        for name in ("effective_rank", "energy_entropy_rank", "stable_rank", "participation_ratio"):
            assert math.isnan(row[name]) == (not sigma.any())
        assert "W0 is zero" in row["undefined"]
        json.dumps(flat(row))


def test_a_product_of_factors_is_recorded_with_the_rank_of_its_null() -> None:
    updates = {"b": LowRank(gaussian(48, 2), gaussian(2, 64)), "wide": LowRank(gaussian(3, 8), gaussian(8, 64))}
    bases = {"b": torch.zeros(48, 64), "wide": torch.zeros(3, 64)}
    made = measure(updates, bases, None, torch.float32)
    assert {name: matrix.rank for name, matrix in made.items()} == {"b": 2, "wide": 3}
