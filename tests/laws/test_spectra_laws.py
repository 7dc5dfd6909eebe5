"""Laws that hold for every measure and every update."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lorax_lab import spectra
from lorax_lab.spectra import MEASURES, LowRank, singular_values
from lorax_lab.spectra.measures import EPS64

laws = settings(max_examples=60, deadline=None, derandomize=True)

Measure = Callable[[torch.Tensor], float]
ALL = MEASURES | {"numerical_rank": spectra.numerical_rank}
REAL = ("effective_rank", "energy_entropy_rank", "stable_rank", "participation_ratio")
every_measure = pytest.mark.parametrize("measure", ALL.values(), ids=ALL.keys())

positive = st.floats(1e-6, 1e6)
spectrum = st.lists(positive, min_size=1, max_size=12).map(lambda values: torch.tensor(values, dtype=torch.float64))


def gaussian(*size: int, seed: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal(n: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(gaussian(n, n, seed=seed)).Q


@every_measure
class TestEveryMeasure:
    @laws
    @given(sigma=spectrum)
    def test_bounds(self, measure: Measure, sigma: torch.Tensor) -> None:
        assert 1 - 1e-12 <= measure(sigma) <= len(sigma) * (1 + 1e-12)

    @laws
    @given(sigma=spectrum, exponent=st.integers(-1000, 1000))
    def test_scale(self, measure: Measure, sigma: torch.Tensor, exponent: int) -> None:
        assert measure(sigma * 2.0**exponent) == measure(sigma)

    @laws
    @given(sigma=spectrum, seed=st.integers(0, 99))
    def test_order(self, measure: Measure, sigma: torch.Tensor, seed: int) -> None:
        order = torch.randperm(len(sigma), generator=torch.Generator().manual_seed(seed))
        assert measure(sigma[order]) == measure(sigma)

    @laws
    @given(sigma=spectrum, zeros=st.integers(1, 9))
    def test_zeros_add_nothing(self, measure: Measure, sigma: torch.Tensor, zeros: int) -> None:
        padded = torch.cat([sigma, sigma.new_zeros(zeros)])
        assert measure(padded) == pytest.approx(measure(sigma), rel=1e-12)

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

    @pytest.mark.parametrize("change", ["transpose", "rotate", "permute", "negate"])
    @pytest.mark.parametrize("rank", [None, 3])
    def test_change_of_basis(self, measure: Measure, change: str, rank: int | None) -> None:
        x = gaussian(12, 9, seed=1) if rank is None else LowRank(gaussian(12, 3, seed=1), gaussian(3, 9, seed=2))
        W = x if isinstance(x, torch.Tensor) else x.dense()
        changed = {
            "transpose": x.T,
            "rotate": orthogonal(12, 3) @ W @ orthogonal(9, 4),
            "permute": W.flip(0).roll(2, dims=1),
            "negate": -W,
        }[change]
        assert measure(singular_values(changed)) == pytest.approx(measure(singular_values(x)), rel=1e-12)


@pytest.mark.parametrize("name", REAL)
@laws
@given(sigma=spectrum)
def test_two_copies_have_twice_the_rank(name: str, sigma: torch.Tensor) -> None:
    measure = MEASURES[name]
    assert measure(torch.cat([sigma, sigma])) == pytest.approx(2 * measure(sigma), rel=1e-12)


@laws
@given(sigma=spectrum, share=st.floats(0.01, 1.0))
def test_energy_rank_is_the_smallest_sufficient(sigma: torch.Tensor, share: float) -> None:
    energy = sigma.sort(descending=True).values.square()
    k = spectra.energy_rank(sigma, share)
    assert energy[:k].sum() >= share * energy.sum() * (1 - 1e-13)
    assert energy[: k - 1].sum() < share * energy.sum()


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
matrices = st.builds(graded, sizes, sizes, sizes, st.sampled_from([0.0, 1.0, 5.0, 11.0]), seeds)


def values(x: Tensor) -> tuple[Tensor, float]:
    """All singular values, and the most that one may be off."""
    found = spectra.spectrum(x)
    return found.sigma, float(found.error.max()) if len(found.error) else 0.0


def like(x: Tensor, seed: int, decades: float) -> Tensor:
    return graded(*x.shape, min(x.shape), decades, seed) * x.abs().max().clamp(min=1e-300)


@laws
@given(x=matrices, seed=seeds)
def test_the_basis_and_the_sign_change_nothing(x: Tensor, seed: int) -> None:
    sigma, error = values(x)
    out, into = x.shape
    generator = torch.Generator().manual_seed(seed)
    rotated = orthogonal(out, seed) @ x @ orthogonal(into, seed + 1)
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
@given(x=matrices, exponent=st.integers(-900, 900), factor=st.floats(0.1, 10))
def test_scale_comes_out(x: Tensor, exponent: int, factor: float) -> None:
    sigma, error = values(x)
    assert torch.equal(values(x * 2.0**exponent)[0], sigma * 2.0**exponent)
    scaled, scaled_error = values(factor * x)
    assert (scaled - factor * sigma).abs().max() <= factor * error + scaled_error + 4 * EPS64 * scaled[0]


@laws
@given(A=matrices, B=matrices)
def test_a_direct_sum_has_the_values_of_both(A: Tensor, B: Tensor) -> None:
    (a, a_error), (b, b_error), (both, error) = values(A), values(B), values(torch.block_diag(A, B))
    union = torch.cat([a, b]).sort(descending=True).values
    assert len(both) >= len(union)
    assert (both[: len(union)] - union).abs().max() <= a_error + b_error + error
    assert (both[len(union) :] <= error).all()


@laws
@given(A=matrices, seed=seeds, decades=st.floats(0, 6), size=st.floats(1e-6, 10))
def test_weyl(A: Tensor, seed: int, decades: float, size: float) -> None:
    """|σ_i(A + E) − σ_i(A)| ≤ ‖E‖₂ and σ_{i+j−1}(A + E) ≤ σ_i(A) + σ_j(E)."""
    E = size * like(A, seed, decades)
    (a, a_error), (e, e_error), (both, error) = values(A), values(E), values(A + E)
    slack = a_error + e_error + error + 4 * EPS64 * float(a[0] + e[0])
    assert ((both - a).abs() <= e[0] + slack).all()
    for i in range(len(a)):
        for j in range(len(a) - i):
            assert both[i + j] <= a[i] + e[j] + slack


@laws
@given(x=matrices, seed=seeds)
def test_interlacing(x: Tensor, seed: int) -> None:
    """Without one row or column, each value lies between two of the whole."""
    sigma, error = values(x)
    for whole in (x, x.T):
        keep = torch.arange(len(whole)) != seed % len(whole)
        part, part_error = values(whole[keep])
        slack = error + part_error
        assert (part <= sigma[: len(part)] + slack).all()
        below = torch.cat([sigma[1:], sigma.new_zeros(1)])[: len(part)]
        assert (part >= below - slack).all()


@laws
@given(x=matrices, seed=seeds, k=st.integers(0, 9))
def test_eckart_young(x: Tensor, seed: int, k: int) -> None:
    """What `truncate` leaves is the tail of the spectrum, and no other matrix of rank k leaves less."""
    sigma, error = values(x)
    k = min(k, len(sigma))
    kept = spectra.truncate(*spectra.svd(x), k)
    left, left_error = values(x - kept)
    rounding = 50 * EPS64 * float(sigma[0])
    slack = error + left_error + rounding
    assert (left[: len(sigma) - k] - sigma[k:]).abs().max() <= slack if k < len(sigma) else left.max() <= slack
    tail = float(sigma[k:].norm())
    assert abs(float((x - kept).norm()) - tail) <= 4 * slack
    near, far = kept + 0.1 * like(x, seed, 0.0), like(x, seed + 1, 2.0)
    for other in (near, far, x):
        rival = spectra.truncate(*spectra.svd(other), k)
        assert float((x - rival).norm()) >= tail - 4 * slack
        assert float(values(x - rival)[0][0]) >= (float(sigma[k]) if k < len(sigma) else 0.0) - slack


@laws
@given(A=matrices, seed=seeds, k=st.integers(1, 9))
def test_ky_fan(A: Tensor, seed: int, k: int) -> None:
    """σ_1 + … + σ_k is a norm, and the most that tr(Uᵀ A V) reaches with k orthonormal columns each."""
    sigma, error = values(A)
    k = min(k, len(sigma))
    B = like(A, seed, 1.0)
    (b, b_error), (both, both_error) = values(B), values(A + B)
    slack = k * (error + b_error + both_error + 20 * EPS64 * float(sigma[0] + b[0]))
    assert both[:k].sum() <= sigma[:k].sum() + b[:k].sum() + slack
    U, V = orthogonal(A.shape[0], seed)[:, :k], orthogonal(A.shape[1], seed + 1)[:, :k]
    assert (U.T @ A @ V).trace() <= sigma[:k].sum() + slack
    U, _, Vh = spectra.svd(A)
    assert abs((U[:, :k].T @ A @ Vh[:k].T).trace() - sigma[:k].sum()) <= slack


@laws
@given(x=matrices)
def test_ordering_of_the_measures_of_a_matrix(x: Tensor) -> None:
    sigma = singular_values(x)
    names = ("stable_rank", "participation_ratio", "energy_entropy_rank", "effective_rank")
    chain = [*(MEASURES[name](sigma) for name in names), spectra.numerical_rank(sigma, x.shape)]
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(chain)), chain
    assert chain[0] >= 1 - 1e-12
    assert chain[-1] <= min(x.shape)
    assert spectra.gram_participation_ratio(x) == pytest.approx(chain[1], rel=1e-11)


@laws
@given(out=sizes, rank=sizes, into=sizes, seed=seeds)
def test_the_rank_of_a_product_is_counted(out: int, rank: int, into: int, seed: int) -> None:
    x = graded(out, into, rank, 0.0, seed)
    assert spectra.numerical_rank(singular_values(x), x.shape, tolerance=1e-12) == min(out, rank, into)


@laws
@given(
    shapes=st.lists(
        st.tuples(sizes, st.integers(0, 6), sizes, st.floats(-1e9, 1e9), st.integers(-300, 300)), max_size=8
    )
)
def test_a_batch_is_one_by_one(shapes: list[tuple[int, int, int, float, int]]) -> None:
    updates = []
    for seed, (out, rank, into, scaling, exponent) in enumerate([*shapes, *shapes[:2]]):
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
@given(out=sizes, rank=sizes, into=sizes, scaling=st.floats(-100, 100), seed=st.integers(0, 999))
def test_low_rank_is_dense(out: int, rank: int, into: int, scaling: float, seed: int) -> None:
    low = LowRank(gaussian(out, rank, seed=seed), gaussian(rank, into, seed=seed + 1), scaling)
    dense = spectra.spectrum(low.dense())
    full = dense.sigma
    U, sigma, Vh = spectra.svd(low)
    bound = 35 * max(out, into, rank) * EPS64 * abs(scaling) * torch.linalg.norm(low.B) * torch.linalg.norm(low.A)
    assert len(sigma) == min(out, rank, into)
    assert low.shape == tuple(low.dense().shape)
    assert ((sigma - full[: len(sigma)]).abs() <= bound + dense.error[: len(sigma)]).all()
    assert (full[len(sigma) :] <= bound + dense.error[len(sigma) :]).all()
    assert (singular_values(low) - sigma).abs().max() <= bound
    assert ((U * sigma) @ Vh - low.dense()).abs().max() <= bound
    check_thin(U, sigma, Vh)


@laws
@given(out=sizes, into=sizes, exponent=st.integers(-900, 900), seed=st.integers(0, 999))
def test_svd_of_a_dense_update(out: int, into: int, exponent: int, seed: int) -> None:
    x = gaussian(out, into, seed=seed) * 2.0**exponent
    U, sigma, Vh = spectra.svd(x)
    assert torch.equal(singular_values(x), singular_values(x / 2.0**exponent) * 2.0**exponent)
    found = spectra.spectrum(x)
    assert ((sigma - found.sigma).abs() <= found.error).all()
    assert ((U * sigma) @ Vh - x).abs().max() <= 35 * max(out, into) * EPS64 * sigma[0]
    check_thin(U, sigma, Vh)


def check_thin(U: torch.Tensor, sigma: torch.Tensor, Vh: torch.Tensor) -> None:
    eye = torch.eye(len(sigma), dtype=torch.float64)
    assert (sigma.diff() <= 0).all()
    torch.testing.assert_close(U.T @ U, eye, rtol=0, atol=1e-13)
    torch.testing.assert_close(Vh @ Vh.T, eye, rtol=0, atol=1e-13)
