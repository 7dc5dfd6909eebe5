"""Amplification: known answers, controls against draws, laws."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError
from matrices import gaussian, orthonormal

from lorax_lab.spectra import Amplification, LowRank, Update, amplification, singular_values, svd


def amplified(update: Update, W: torch.Tensor, rank: int) -> Amplification:
    """From the pieces that whole decompositions give."""
    (U, sigma, Vh), base_sigma = svd(update), singular_values(W)
    projected = U[:, :rank].T @ W.double() @ Vh[:rank].T
    return amplification(float(sigma.norm()), projected, float(base_sigma.norm()), base_sigma, tuple(W.shape))


def test_amplification_of_known_directions() -> None:
    out, into = orthonormal(12, 4), orthonormal(9, 4, seed=1)
    W = out * torch.tensor([5.0, 4.0, 3.0, 2.0], dtype=torch.float64) @ into.T
    delta = LowRank(out[:, 1:3] * torch.tensor([8.0, 6.0], dtype=torch.float64), into[:, 1:3].T)
    for update in (delta, delta.dense()):
        found = amplified(update, W, 2)
        assert (found.delta_norm, found.base_in_delta, found.factor) == pytest.approx((10, 5, 2))
        assert found.base_in_base == pytest.approx(math.sqrt(41))
        assert found.base_in_random == pytest.approx(2 * math.sqrt(54 / 108))
        top = amplified(update, W, 1)
        assert (top.delta_norm, top.base_in_delta, top.factor, top.base_in_base) == pytest.approx((10, 4, 2.5, 5))
    own = amplified(0.1 * W, W, 3)
    assert own.factor == pytest.approx(own.base_factor)


@pytest.mark.parametrize(("of_update", "of_base"), [(0, -600), (0, 600), (450, -500), (-600, 300)])
def test_the_scales_of_update_and_base_come_out_of_the_factors(of_update: int, of_base: int) -> None:
    a, b = 2.0**of_update, 2.0**of_base
    projected, sigma = gaussian(3, 3), torch.tensor([9.0, 8.0, 7.0, 1.0], dtype=torch.float64)
    norm = float(sigma.norm())
    near = amplification(2.0, projected, norm, sigma, (5, 4))
    far = amplification(a * 2.0, b * projected, b * norm, b * sigma, (5, 4))
    assert near.base_factor < near.factor
    for side in ("factor", "random_factor", "base_factor"):
        assert getattr(far, side) == pytest.approx(a / b * getattr(near, side))
    assert far.base_in_delta == pytest.approx(b * near.base_in_delta)


def test_amplification_at_the_extremes() -> None:
    two, zero, ones, none = torch.eye(2), torch.zeros(2, 2), torch.ones(2), torch.zeros(2)
    found = amplification(0.0, two, 1.0, ones, (5, 4))
    assert all(math.isnan(value) for value in (found.factor, found.base_in_delta))
    assert (found.delta_norm, found.random_factor, found.base_factor) == (0, 0, 0)
    found = amplification(1.0, zero, 0.0, none, (5, 4))
    assert (found.factor, found.random_factor, found.base_factor) == (math.inf,) * 3
    found = amplification(0.0, zero, 0.0, none, (5, 4))
    assert all(math.isnan(factor) for factor in (found.factor, found.random_factor, found.base_factor))
    row = amplified(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]]), 1)
    assert (row.base_in_delta, row.base_in_random, row.base_in_base) == pytest.approx((0.6, 1 / math.sqrt(2), 1))


def test_amplification_refuses() -> None:
    two = torch.eye(2)
    for projected in (torch.eye(3), torch.ones(2, 1), torch.zeros(0, 0)):
        with pytest.raises((ValueError, TypeCheckError), match=r"projected has shape .* r in 1\.\.2|Type-check"):
            amplification(1.0, projected, 1.0, torch.ones(3), (2, 9))
    for name, bad in (("projected", (two / 0, torch.ones(2))), ("base_sigma", (two, torch.ones(2) / 0))):
        with pytest.raises(ValueError, match=f"{name} has . non-finite"):
            amplification(1.0, bad[0], 1.0, bad[1], (2, 2))
