"""Laws that hold for every measure and every update."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import gaussian, orthonormal
from torch import Tensor

from lorax_lab import spectra
from lorax_lab.spectra import MEASURES, LowRank, singular_values
from lorax_lab.spectra.measures import EPS64

laws = settings(max_examples=40, deadline=None, derandomize=True)

Measure = Callable[[torch.Tensor], float]
ALL = MEASURES | {"numerical_rank": partial(spectra.numerical_rank, shape=(12, 12))}
every_measure = pytest.mark.parametrize("measure", ALL.values(), ids=ALL.keys())

positive = st.floats(1e-6, 1e6)
spectrum = st.lists(positive, min_size=1, max_size=12).map(lambda values: torch.tensor(values, dtype=torch.float64))


@every_measure
class TestEveryMeasure:
    @laws
    @given(sigma=spectrum)
    def test_bounds(self, measure: Measure, sigma: torch.Tensor) -> None:
        assert 1 - 1e-12 <= measure(sigma) <= len(sigma) * (1 + 1e-12)

    @laws
    @given(sigma=spectrum, exponent=st.integers(-1000, 1000), zeros=st.integers(1, 9), seed=st.integers(0, 99))
    def test_scale_order_and_zeros_change_nothing(
        self, measure: Measure, sigma: torch.Tensor, exponent: int, zeros: int, seed: int
    ) -> None:
        order = torch.randperm(len(sigma), generator=torch.Generator().manual_seed(seed))
        assert measure(sigma * 2.0**exponent) == measure(sigma[order]) == measure(sigma)
        assert measure(torch.cat([sigma, sigma.new_zeros(zeros)])) == pytest.approx(measure(sigma), rel=1e-12)

    @pytest.mark.parametrize("k", [1, 2, 3, 10, 20, 100, 768, 1000])
    @pytest.mark.parametrize("size", [1.0, 0.1, 1e-300, 1e300])
    def test_k_equal_values(self, measure: Measure, k: int, size: float) -> None:
        share = getattr(measure, "keywords", {}).get("share", 1.0)
        expected = -(-round(100 * share) * k // 100)
        assert measure(torch.full((k,), size, dtype=torch.float64)) == expected

    @pytest.mark.parametrize("bad", [-1e-9, math.nan, math.inf])
    def test_bad_values_are_refused(self, measure: Measure, bad: float) -> None:
        with pytest.raises(ValueError, match="negative, nan or infinite"):
            measure(torch.tensor([2.0, bad, 1.0]))

    def test_one_dimension_only(self, measure: Measure) -> None:
        with pytest.raises((ValueError, TypeError), match=r"one dimension|Type-check"):
            measure(torch.ones(2, 2))

    @pytest.mark.parametrize("x", [torch.zeros(0), torch.zeros(5)])
    def test_nothing(self, measure: Measure, x: torch.Tensor) -> None:
        value = measure(x)
        assert value == 0 if isinstance(value, int) else math.isnan(value)


def test_energy_rank_of_an_exact_tie() -> None:
    assert [spectra.energy_rank(torch.ones(100), i / 100) for i in range(1, 101)] == list(range(1, 101))


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, math.nan])
def test_energy_rank_refuses_a_share_outside(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        spectra.energy_rank(torch.ones(3), share)


sizes = st.integers(1, 9)


def graded(out: int, into: int, rank: int, decades: float, seed: int) -> Tensor:
    """Of rank `rank` at most, its columns falling by so many powers of ten."""
    falling = torch.logspace(0, -decades, into, dtype=torch.float64)
    return gaussian(out, rank, seed=seed) @ gaussian(rank, into, seed=seed + 5000) * falling


seeds = st.integers(0, 999)
ordinary = st.floats(-100, 100).filter(lambda x: x == 0 or abs(x) > 1e-200)
matrices = st.builds(graded, sizes, sizes, sizes, st.sampled_from([0.0, 1.0, 5.0, 11.0]), seeds)


def values(x: Tensor) -> tuple[Tensor, float]:
    """All singular values, and the most that one may be off."""
    found = spectra.spectrum(x)
    return found.sigma, float(found.error.max()) if len(found.error) else 0.0


@laws
@given(x=matrices, seed=seeds)
def test_the_basis_and_the_sign_change_nothing(x: Tensor, seed: int) -> None:
    sigma, error = values(x)
    out, into = x.shape
    generator = torch.Generator().manual_seed(seed)
    rotated = orthonormal(out, out, seed) @ x @ orthonormal(into, into, seed + 1)
    rounding = 10 * (out + into) * EPS64 * float(sigma[0])
    for changed, more in (
        (x.T, 0.0),
        (-x, 0.0),
        (x[torch.randperm(out, generator=generator)], 0.0),
        (x[:, torch.randperm(into, generator=generator)], 0.0),
        (rotated, rounding),
    ):
        other, other_error = values(changed)
        assert (other - sigma).abs().max() <= error + other_error + more


@laws
@given(x=matrices)
def test_ordering_of_the_measures_of_a_matrix(x: Tensor) -> None:
    sigma = singular_values(x)
    names = ("stable_rank", "participation_ratio", "energy_entropy_rank", "effective_rank")
    chain = [*(MEASURES[name](sigma) for name in names), spectra.numerical_rank(sigma, x.shape)]
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(chain)), chain
    assert chain[0] >= 1 - 1e-12
    assert chain[-1] <= min(x.shape)


@laws
@given(
    out=sizes, rank=st.integers(0, 6), into=sizes,
    scales=st.lists(st.tuples(st.floats(-1e9, 1e9), st.integers(-300, 300)), min_size=1, max_size=8),
)  # fmt: skip
def test_a_batch_is_one_by_one(out: int, rank: int, into: int, scales: list[tuple[float, int]]) -> None:
    updates = []
    for seed, (scaling, exponent) in enumerate(scales):
        B, A = gaussian(out, rank, seed=seed) * 2.0**exponent, gaussian(rank, into, seed=seed + 50).float()
        updates.append(LowRank(B, A, scaling))
    batch = spectra.low_rank_singular_values(updates)
    assert len(batch) == len(updates)
    for update, sigma in zip(updates, batch, strict=True):
        alone = spectra.svd(update)[1]
        assert len(sigma) == min(*update.shape, update.B.shape[1])
        torch.testing.assert_close(sigma, singular_values(update), rtol=1e-12, atol=0)
        assert ((sigma - alone).abs() <= 100 * EPS64 * sigma[:1]).all()
        assert (sigma.diff() <= 0).all()


@laws
@given(out=sizes, rank=sizes, into=sizes, scaling=ordinary, seed=st.integers(0, 999))
def test_low_rank_is_dense(out: int, rank: int, into: int, scaling: float, seed: int) -> None:
    low = LowRank(gaussian(out, rank, seed=seed), gaussian(rank, into, seed=seed + 1), scaling)
    dense = spectra.spectrum(low.dense())
    full = dense.sigma
    U, sigma, Vh = spectra.svd(low)
    bound = 35 * max(out, into, rank) * EPS64 * abs(scaling) * torch.linalg.norm(low.B) * torch.linalg.norm(low.A)
    assert len(sigma) == min(out, rank, into)
    assert low.shape == tuple(low.dense().shape) == low.T.shape[::-1]
    torch.testing.assert_close(low.T.dense(), low.dense().T)
    assert ((sigma - full[: len(sigma)]).abs() <= bound + dense.error[: len(sigma)]).all()
    assert (full[len(sigma) :] <= bound + dense.error[len(sigma) :]).all()
    assert (singular_values(low) - sigma).abs().max() <= bound
    assert ((U * sigma) @ Vh - low.dense()).abs().max() <= bound
    assert (sigma.diff() <= 0).all()
    for vectors in (U.T, Vh):
        torch.testing.assert_close(vectors @ vectors.T, torch.eye(len(sigma)).double(), rtol=0, atol=1e-13)
