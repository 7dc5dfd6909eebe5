"""Subspace similarity and shares against hand-made and random subspaces."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from matrices import gaussian, orthonormal

from lorax_lab import spectra
from lorax_lab.spectra import LowRank
from lorax_lab.spectra.subspaces import subspace_similarities

sizes = st.integers(1, 7)


def test_similarities_refuse() -> None:
    U = orthonormal(30, 4)
    with pytest.raises(ValueError, match=r"U_b .* not orthonormal"):
        subspace_similarities(U, 1.01 * U)
    with pytest.raises(ValueError, match=r"U_a .* not orthonormal"):
        subspace_similarities(gaussian(30, 2), U)
    with pytest.raises((ValueError, TypeCheckError)):
        subspace_similarities(U, orthonormal(20, 4))
    with pytest.raises(ValueError, match="U_a has 1 non-finite"):
        subspace_similarities(torch.tensor([[math.nan]]), torch.ones(1, 1))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(i=sizes, j=sizes, extra=st.integers(0, 5), seed=st.integers(0, 999))
def test_similarity_grid(i: int, j: int, extra: int, seed: int) -> None:
    d = max(i, j) + extra
    U_a, U_b = orthonormal(d, i, seed), orthonormal(d, j, seed + 1)
    grid = subspace_similarities(U_a, U_b)
    assert grid.shape == (i, j)
    for a in range(1, i + 1):
        for b in range(1, j + 1):
            by_hand = torch.linalg.svdvals(U_a[:, :a].T @ U_b[:, :b]).square().mean().item()
            assert grid[a - 1, b - 1].item() == pytest.approx(by_hand, abs=1e-14)
    Q, sign = orthonormal(d, d, seed + 2), torch.tensor([(-1.0) ** n for n in range(i)], dtype=torch.float64)
    torch.testing.assert_close(subspace_similarities(Q @ U_a * sign, Q @ U_b), grid, rtol=0, atol=1e-13)
    torch.testing.assert_close(subspace_similarities(U_b, U_a), grid.T, rtol=0, atol=1e-14)


def test_the_similarity_with_nothing_is_empty() -> None:
    U = orthonormal(30, 8)
    assert subspace_similarities(U, U[:, :0]).shape == (8, 0)


@pytest.mark.parametrize("size", [1.0, 1e-200, 1e200])
def test_shares_of_a_known_update(size: float) -> None:
    out, into = orthonormal(12, 3), orthonormal(9, 3, seed=1)
    W = size * (out * torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)) @ into.T
    other = LowRank(out[:, :2] @ gaussian(2, 2), gaussian(2, 2, seed=1) @ into[:, 1:].T)
    for delta_weight in (W, LowRank(W, torch.eye(9, dtype=torch.float64))):
        assert spectra.column_share(delta_weight, other) == pytest.approx(13 / 14)
        assert spectra.row_share(delta_weight, other) == pytest.approx(5 / 14)


def test_shares_at_the_extremes() -> None:
    W, zero = gaussian(6, 4), LowRank(torch.zeros(6, 2), gaussian(2, 4))
    doubled = LowRank(gaussian(6, 1).repeat(1, 2), gaussian(1, 4).repeat(2, 1))
    single = LowRank(doubled.B[:, :1], doubled.A[:1])
    for share in (spectra.column_share, spectra.row_share):
        assert share(W, zero) == 0.0
        assert math.isnan(share(torch.zeros(6, 4), doubled))
        assert math.isnan(share(zero, doubled))
        assert share(doubled.dense(), doubled) == pytest.approx(1.0)
        assert share(W, doubled) == pytest.approx(share(W, single))
        with pytest.raises(ValueError, match="same matrix"):
            share(W.T, doubled)
