"""Subspace similarity and shares against hand-made and random subspaces."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError

from lorax_lab import spectra
from lorax_lab.spectra import LowRank


def gaussian(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(d: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.linalg.qr(gaussian(d, k, seed=seed)).Q


def test_subspace_similarity() -> None:
    U = orthonormal(30, 8)
    assert spectra.subspace_similarity(U, U[:, :3]) == pytest.approx(1.0)
    assert spectra.subspace_similarity(U[:, :4], U[:, 4:]) == pytest.approx(0.0, abs=1e-15)
    assert spectra.subspace_similarity(U[:, :4], U[:, 2:].float()) == pytest.approx(0.5)
    assert math.isnan(spectra.subspace_similarity(U, U[:, :0]))
    pairs = [(orthonormal(40, 5, seed=s), orthonormal(40, 8, seed=1000 + s)) for s in range(200)]
    mean = sum(spectra.subspace_similarity(*pair) for pair in pairs) / 200
    assert mean == pytest.approx(spectra.random_similarity(5, 8, 40), rel=0.03)


def test_subspace_similarity_refuses() -> None:
    U = orthonormal(30, 4)
    with pytest.raises(ValueError, match=r"U_b .* not orthonormal"):
        spectra.subspace_similarity(U, 1.01 * U)
    with pytest.raises(ValueError, match=r"U_a .* not orthonormal"):
        spectra.subspace_similarity(gaussian(30, 2), U)
    with pytest.raises((ValueError, TypeCheckError)):
        spectra.subspace_similarity(U, orthonormal(20, 4))
    with pytest.raises(ValueError, match="U_a has 1 non-finite"):
        spectra.subspace_similarity(torch.tensor([[math.nan]]), torch.ones(1, 1))
    for sizes in ((0, 1, 4), (1, 5, 4)):
        with pytest.raises(ValueError, match="expected 1 to d"):
            spectra.random_similarity(*sizes)


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


def test_random_shares() -> None:
    W = torch.diag(torch.arange(1.0, 21.0))[:, :15] + 0.1
    others = [LowRank(gaussian(20, 3, seed=s), gaussian(3, 15, seed=1000 + s)) for s in range(300)]
    column = sum(spectra.column_share(W, other) for other in others) / 300
    row = sum(spectra.row_share(W, other) for other in others) / 300
    assert column == pytest.approx(spectra.random_share(3, 20), rel=0.04)
    assert row == pytest.approx(spectra.random_share(3, 15), rel=0.04)
    for rank, features in ((-1, 4), (5, 4), (0, 0)):
        with pytest.raises(ValueError, match="features"):
            spectra.random_share(rank, features)
