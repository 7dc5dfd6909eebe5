"""Amplification and intruder dimensions: known answers, planted directions, controls against draws, laws."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError
from matrices import gaussian, orthonormal, with_values

from lorax_lab.spectra import (
    Amplification,
    Intruders,
    LowRank,
    Update,
    amplification,
    cosines_through,
    intruders,
    numerical_rank,
    singular_values,
    svd,
)
from lorax_lab.spectra.subspaces import random_cosines_below, random_max_cosine

BAD_SHAPE = (ValueError, TypeCheckError)


def amplified(update: Update, W: torch.Tensor, rank: int) -> Amplification:
    """From the pieces that whole decompositions give."""
    (U, sigma, Vh), base_sigma = svd(update), singular_values(W)
    projected = U[:, :rank].T @ W.double() @ Vh[:rank].T
    return amplification(float(sigma.norm()), projected, float(base_sigma.norm()), base_sigma, tuple(W.shape))


def sides_of(W_0: torch.Tensor, W: torch.Tensor, k: int = 10) -> tuple[Intruders, Intruders]:
    """The intruders among the left and the right singular vectors, from whole decompositions."""
    (U_0, sigma_0, Vh_0), (U, sigma, Vh), norm = svd(W_0), svd(W), float(torch.linalg.norm(W.double()))
    p, k = numerical_rank(sigma_0, W.shape), min(k, numerical_rank(sigma, W.shape))
    left = intruders(U_0[:, :p].T @ U[:, :k], sigma[:k], norm, W.shape[0])
    return left, intruders(Vh_0[:p] @ Vh[:k].T, sigma[:k], norm, W.shape[1])


@pytest.mark.parametrize(("out", "into", "rank"), [(24, 16, 3), (9, 30, 5)])
def test_what_random_directions_have_of_a_matrix_is_the_closed_form_within_one_per_cent(
    out: int, into: int, rank: int
) -> None:
    """The random column of Table 7: r‖W‖_F / √(mn) is the root of the mean square over directions that are drawn."""
    W, drawn = with_values([9.0, 4.0, 1.0, 0.5], out, into), 60_000
    U, V = (torch.linalg.qr(gaussian(drawn, d, rank, seed=seed)).Q for seed, d in enumerate((out, into)))
    squares = (U.mT @ W @ V).square().sum(dim=(1, 2))
    assert float(squares.std() / squares.mean()) / math.sqrt(drawn) < 0.005  # so many draws tell one per cent
    closed = amplified(LowRank(U[0], V[0].T), W, rank).base_in_random
    assert float(squares.mean().sqrt()) == pytest.approx(closed, rel=0.01)


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
        with pytest.raises(BAD_SHAPE, match=r"projected has shape .* r in 1\.\.2|Type-check"):
            amplification(1.0, projected, 1.0, torch.ones(3), (2, 9))
    with pytest.raises(ValueError, match="base_sigma has 1 values; expected at least r = 2"):
        amplification(1.0, two, 1.0, torch.ones(1), (2, 2))
    for delta_norm, base_norm, name in ((-1.0, 1.0, "delta_norm"), (1.0, math.inf, "base_norm")):
        with pytest.raises(ValueError, match=name):
            amplification(delta_norm, two, base_norm, torch.ones(2), (2, 2))
    for name, bad in (("projected", (two / 0, torch.ones(2))), ("base_sigma", (two, torch.ones(2) / 0))):
        with pytest.raises(ValueError, match=f"{name} has . non-finite"):
            amplification(1.0, bad[0], 1.0, bad[1], (2, 2))


@pytest.mark.parametrize(("theta", "place"), [(9.0, 0), (4.5, 2), (0.5, None)])
def test_a_planted_intruder(theta: float, place: int | None) -> None:
    base = [6.0, 5.0, 4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.2, 1.1, 1.0, 0.9]
    out, into = orthonormal(64, 13), orthonormal(48, 13, seed=1)
    W_0 = out[:, :12] * torch.tensor(base, dtype=torch.float64) @ into[:, :12].T
    sides = sides_of(W_0, W_0 + theta * torch.outer(out[:, 12], into[:, 12]))
    energy = sum(value**2 for value in base) + theta**2
    top = sorted([*base, theta], reverse=True)[:10]
    for side, d in zip(sides, (64, 48), strict=True):
        assert side.indices == (() if place is None else (place,))
        assert (side.count, side.k, side.base_directions) == (len(side.indices), 10, 12)
        assert side.energy_share == pytest.approx(0 if place is None else theta**2 / energy)
        assert side.max_cosines == pytest.approx([float(index != place) for index in range(10)], abs=1e-12)
        chance = random_cosines_below(0.5, 12, d)
        assert (side.random_count, side.random_max_cosine) == (10 * chance, random_max_cosine(12, d))
        assert side.random_energy_share == pytest.approx(sum(value**2 for value in top) / energy * chance)


@pytest.mark.parametrize(("out", "into"), [(8, 8), (12, 8)])
def test_random_counts_against_draws(out: int, into: int) -> None:
    W_0, draws = with_values([float(9 - i) for i in range(8)], out, into), 600
    found = [sides_of(W_0, with_values([3, 2, 1], out, into, 10 + 2 * s), 2) for s in range(draws)]
    for sides in zip(*found, strict=True):
        chance = sides[0].random_count / 2
        error = 4 * math.sqrt(chance * (1 - chance) / draws)
        assert sum(side.count for side in sides) / (2 * draws) == pytest.approx(chance, abs=error)
        assert sides[0].random_energy_share == pytest.approx(13 / 14 * chance)
        assert sum(side.energy_share for side in sides) / draws == pytest.approx(13 / 14 * chance, abs=error)
        mean = sum(sum(side.max_cosines) for side in sides) / (2 * draws)
        assert mean == pytest.approx(sides[0].random_max_cosine, abs=0.02)


def test_intruders_at_the_extremes() -> None:
    W, zero = gaussian(5, 4), torch.zeros(5, 4)
    for side in sides_of(zero, W):
        assert (side.count, side.k, side.base_directions, side.random_count) == (4, 4, 0, 4.0)
        assert (side.max_cosines, side.random_max_cosine) == ((0.0,) * 4, 0.0)
        assert (side.energy_share, side.random_energy_share) == pytest.approx((1, 1))
    for side in sides_of(W, zero):
        assert (side.count, side.k, side.indices, side.max_cosines, side.random_count) == (0, 0, (), (), 0.0)
        assert all(math.isnan(value) for value in (side.energy_share, side.random_energy_share))
    left, right = sides_of(torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[0, 0, 2.0, 0]]))
    assert (left.count, left.k, left.random_count, right.count, right.k) == (0, 1, 0.0, 1, 1)
    assert intruders(torch.tensor([[0.5]]), torch.ones(1), 1.0, features=4).count == 0  # it is not below
    deficient = with_values([2.0, 1.0], 5, 4)
    for side in sides_of(W, deficient):
        assert (side.k, side.base_directions) == (2, 4)


def test_intruders_refuse() -> None:
    cosines, ones = torch.zeros(3, 2), torch.ones(2)
    with pytest.raises(ValueError, match="cosines has 6 non-finite"):
        intruders(cosines / 0, ones, 2.0, features=4)
    with pytest.raises(BAD_SHAPE, match=r"sigma has 3 values and cosines 2 columns|Type-check"):
        intruders(cosines, torch.ones(3), 2.0, features=4)
    with pytest.raises(ValueError, match="p is 3 and d is 2"):
        intruders(cosines, ones, 2.0, features=2)
    with pytest.raises(ValueError, match="norm is -1"):
        intruders(cosines, ones, -1.0, features=4)


def test_cosines_through_a_gram_matrix() -> None:
    values = torch.logspace(0, -10.1, 41, dtype=torch.float64)
    V = orthonormal(90, 41, seed=1)
    W_0 = orthonormal(41, 41) * values @ V.T
    squares, U = torch.linalg.eigh(W_0 @ W_0.T)
    x = torch.cat([V[:, :9], orthonormal(90, 3, seed=2)], dim=1)
    found = cosines_through(U, squares.clamp(min=0).sqrt(), W_0 @ x)
    assert found.shape == (24, 12)
    torch.testing.assert_close(found.flip(0), (V[:, :24].T @ x).abs(), rtol=0, atol=1e-3)
    U, sigma, _ = torch.linalg.svd(W_0)
    by_svd = cosines_through(U, sigma, W_0 @ x)
    torch.testing.assert_close(by_svd, (V[:, :24].T @ x).abs(), rtol=0, atol=3e-7)
    for size in (2.0**-660, 2.0**660):
        assert torch.equal(cosines_through(U, size * sigma, size * (W_0 @ x)), by_svd)
    assert cosines_through(U, 0 * sigma, 0 * W_0 @ x).shape == (0, 12)
    assert cosines_through(U[:, :0], sigma[:0], W_0 @ x).shape == (0, 12)


def test_cosines_through_refuses() -> None:
    U, sigma, image = torch.eye(3)[:, :2], torch.ones(2), torch.ones(3, 4)
    for arguments in ((U, sigma[:1], image), (U, sigma, image[:2])):
        with pytest.raises(BAD_SHAPE, match=r"U is .* must fit|Type-check"):
            cosines_through(*arguments)
    with pytest.raises(ValueError, match="1 of sigma are negative"):
        cosines_through(U, torch.tensor([1.0, -1.0]), image)
