"""Amplification and intruder dimensions: known answers, planted directions, controls against draws, laws."""

import math
from dataclasses import asdict, astuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from matrices import gaussian, orthonormal, with_values

from lorax_lab.spectra import LowRank
from lorax_lab.spectra.directions import (
    Intruders,
    amplification,
    amplification_factor,
    cosines_through,
    intruder_dimensions,
    intruders,
)
from lorax_lab.spectra.subspaces import random_cosines_below, random_max_cosine

laws = settings(max_examples=40, deadline=None, derandomize=True)
sizes, power = st.integers(1, 8), st.integers(-600, 450)
BAD_SHAPE = (ValueError, TypeCheckError)


def assert_same(found: Intruders, expected: Intruders) -> None:
    for name, value in asdict(expected).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize(("out", "into", "rank"), [(24, 16, 3), (9, 30, 5)])
def test_what_random_directions_have_of_a_matrix_is_the_closed_form_within_one_per_cent(
    out: int, into: int, rank: int
) -> None:
    """The random column of Table 7: r‖W‖_F / √(mn) is the root of the mean square over directions that are drawn."""
    W, drawn = with_values([9.0, 4.0, 1.0, 0.5], out, into), 60_000
    U, V = (torch.linalg.qr(gaussian(drawn, d, rank, seed=seed)).Q for seed, d in enumerate((out, into)))
    squares = (U.mT @ W @ V).square().sum(dim=(1, 2))
    assert float(squares.std() / squares.mean()) / math.sqrt(drawn) < 0.005  # so many draws tell one per cent
    closed = amplification_factor(LowRank(U[0], V[0].T), W, rank).base_in_random
    assert float(squares.mean().sqrt()) == pytest.approx(closed, rel=0.01)


def test_amplification_of_known_directions() -> None:
    out, into = orthonormal(12, 4), orthonormal(9, 4, seed=1)
    W = out * torch.tensor([5.0, 4.0, 3.0, 2.0], dtype=torch.float64) @ into.T
    delta = LowRank(out[:, 1:3] * torch.tensor([8.0, 6.0], dtype=torch.float64), into[:, 1:3].T)
    for update in (delta, delta.dense()):
        found = amplification_factor(update, W, 2)
        assert (found.delta_norm, found.base_in_delta, found.factor) == pytest.approx((10, 5, 2))
        assert found.base_in_base == pytest.approx(math.sqrt(41))
        assert found.base_in_random == pytest.approx(2 * math.sqrt(54 / 108))
        top = amplification_factor(update, W, 1)
        assert (top.delta_norm, top.base_in_delta, top.factor, top.base_in_base) == pytest.approx((10, 4, 2.5, 5))
    own = amplification_factor(0.1 * W, W, 3)
    assert own.factor == pytest.approx(own.base_factor)


@laws
@given(out=sizes, into=sizes, rank=sizes, low=st.booleans(), powers=st.tuples(power, power), seed=st.integers(0, 999))
def test_amplification_laws(out: int, into: int, rank: int, low: bool, powers: tuple[int, int], seed: int) -> None:
    rank = min(out, into, rank)
    W, delta = gaussian(out, into, seed=seed), LowRank(gaussian(out, rank, seed=seed + 1), gaussian(rank, into, seed=7))
    update = delta if low else delta.dense()
    found = amplification_factor(update, W, rank)
    assert found.base_in_delta <= found.base_in_base * (1 + 1e-12)
    assert found.factor >= found.base_factor * (1 - 1e-12)
    assert found.base_in_base <= torch.linalg.norm(W) * (1 + 1e-12)
    Q, R = orthonormal(out, out, seed + 2), orthonormal(into, into, seed + 3)
    for x, y in ((update.T, W.T), (Q @ delta.dense() @ R, Q @ W @ R), (-delta.dense().flip(0), W.flip(0))):
        assert astuple(amplification_factor(x, y, rank)) == pytest.approx(astuple(found), rel=1e-9)
    a, b = (2.0**exponent for exponent in powers)
    far = amplification_factor(LowRank(delta.B, delta.A, a) if low else a * delta.dense(), b * W, rank)
    sides = (far.factor, far.random_factor, far.base_factor)
    assert sides == pytest.approx([a / b * each for each in (found.factor, found.random_factor, found.base_factor)])
    assert far.base_in_delta == pytest.approx(b * found.base_in_delta)


def test_amplification_at_the_extremes() -> None:
    W, zero, none = gaussian(5, 4), torch.zeros(5, 4), LowRank(torch.zeros(5, 2), torch.ones(2, 4))
    for nothing in (zero, none):
        found = amplification_factor(nothing, W, 2)
        assert all(math.isnan(value) for value in (found.factor, found.base_in_delta))
        assert (found.delta_norm, found.random_factor, found.base_factor) == (0, 0, 0)
    found = amplification_factor(W, zero, 2)
    assert (found.factor, found.random_factor, found.base_factor) == (math.inf,) * 3
    found = amplification_factor(zero, zero, 2)
    assert all(math.isnan(factor) for factor in (found.factor, found.random_factor, found.base_factor))
    row = amplification_factor(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]]), 1)
    assert (row.base_in_delta, row.base_in_random, row.base_in_base) == pytest.approx((0.6, 1 / math.sqrt(2), 1))


def test_amplification_refuses() -> None:
    W, delta, two = gaussian(5, 4), LowRank(gaussian(5, 2), gaussian(2, 4)), torch.eye(2)
    for rank, update in ((0, delta), (-1, delta), (3, delta), (3, delta.dense())):
        with pytest.raises(ValueError, match=f"rank is {rank}; delta_weight .* pass 1 to 2"):
            amplification_factor(update, W, rank)
    with pytest.raises(ValueError, match=r"delta_weight is \(4, 5\), base_weight \(5, 4\)"):
        amplification_factor(delta.T, W, 1)
    with pytest.raises(ValueError, match="base_weight has 1 non-finite"):
        amplification_factor(torch.ones(1, 1), torch.tensor([[math.nan]]), 1)
    for projected in (torch.eye(3), torch.ones(2, 1), torch.zeros(0, 0)):
        with pytest.raises(BAD_SHAPE, match=r"projected has shape .* r in 1\.\.2|Type-check"):
            amplification(1.0, projected, 1.0, torch.ones(3), (2, 9))
    with pytest.raises(ValueError, match="base_sigma has 1 values; expected at least r = 2"):
        amplification(1.0, two, 1.0, torch.ones(1), (2, 2))
    for delta_norm, base_norm, name in ((-1.0, 1.0, "delta_norm"), (1.0, math.inf, "base_norm")):
        with pytest.raises(ValueError, match=name):
            amplification(delta_norm, two, base_norm, torch.ones(2), (2, 2))


@pytest.mark.parametrize(("theta", "place"), [(9.0, 0), (4.5, 2), (0.5, None)])
def test_a_planted_intruder(theta: float, place: int | None) -> None:
    base = [6.0, 5.0, 4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.2, 1.1, 1.0, 0.9]
    out, into = orthonormal(64, 13), orthonormal(48, 13, seed=1)
    W_0 = out[:, :12] * torch.tensor(base, dtype=torch.float64) @ into[:, :12].T
    sides = intruder_dimensions(W_0, W_0 + theta * torch.outer(out[:, 12], into[:, 12]))
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


@laws
@given(out=st.integers(2, 9), into=st.integers(2, 9), k=st.integers(1, 12), seed=st.integers(0, 999))
def test_intruder_laws(out: int, into: int, k: int, seed: int) -> None:
    W_0, W = gaussian(out, into, seed=seed), gaussian(out, into, seed=seed + 1)
    left, right = intruder_dimensions(W_0, W, k, epsilon=0.7)
    assert left.k == right.k == min(k, out, into)
    assert left.count == len(left.indices) == sum(cosine < 0.7 for cosine in left.max_cosines)
    Q, R = orthonormal(out, out, seed + 2), orthonormal(into, into, seed + 3)
    order = torch.randperm(out, generator=torch.Generator().manual_seed(seed))
    turned, moved, resized = (Q @ W_0 @ R, Q @ W @ R), (W_0[order], W[order]), (2.0**-700 * W_0, -(2.0**400) * W)
    others = [intruder_dimensions(*pair, k, epsilon=0.7) for pair in (turned, moved, resized)]
    for other in (*others, intruder_dimensions(W_0.T, W.T, k, epsilon=0.7)[::-1]):
        assert_same(other[0], left)
        assert_same(other[1], right)


@pytest.mark.parametrize(("out", "into"), [(8, 8), (12, 8)])
def test_random_counts_against_draws(out: int, into: int) -> None:
    W_0, draws = with_values([float(9 - i) for i in range(8)], out, into), 600
    found = [intruder_dimensions(W_0, with_values([3, 2, 1], out, into, 10 + 2 * s), 2) for s in range(draws)]
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
    for side in intruder_dimensions(zero, W):
        assert (side.count, side.k, side.base_directions, side.random_count) == (4, 4, 0, 4.0)
        assert (side.max_cosines, side.random_max_cosine) == ((0.0,) * 4, 0.0)
        assert (side.energy_share, side.random_energy_share) == pytest.approx((1, 1))
    for side in intruder_dimensions(W, zero):
        assert (side.count, side.k, side.indices, side.max_cosines, side.random_count) == (0, 0, (), (), 0.0)
        assert all(math.isnan(value) for value in (side.energy_share, side.random_energy_share))
    left, right = intruder_dimensions(torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[0, 0, 2.0, 0]]))
    assert (left.count, left.k, left.random_count, right.count, right.k) == (0, 1, 0.0, 1, 1)
    assert intruders(torch.tensor([[0.5]]), torch.ones(1), 1.0, features=4, epsilon=0.5).count == 0  # it is not below
    deficient = with_values([2.0, 1.0], 5, 4)
    for side in intruder_dimensions(W, deficient):
        assert (side.k, side.base_directions) == (2, 4)


def test_intruders_refuse() -> None:
    W, cosines = gaussian(5, 4), torch.zeros(3, 2)
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"k is {k}; expected"):
            intruder_dimensions(W, W, k)
    for epsilon in (0.0, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"epsilon is .* in \(0, 1\]"):
            intruder_dimensions(W, W, 2, epsilon)
    with pytest.raises(BAD_SHAPE, match=r"tuned_weight is \(4, 5\), base_weight \(5, 4\)|Type-check"):
        intruder_dimensions(W, W.T)
    for name, pair in (("base_weight", (W / 0, W)), ("tuned_weight", (W, W / 0))):
        with pytest.raises(ValueError, match=f"{name} has 20 non-finite"):
            intruder_dimensions(*pair)
    with pytest.raises(BAD_SHAPE, match=r"sigma has 3 values and cosines 2 columns|Type-check"):
        intruders(cosines, torch.ones(3), 2.0, features=4)
    with pytest.raises(ValueError, match="p is 3 and d is 2"):
        intruders(cosines, torch.ones(2), 2.0, features=2)
    with pytest.raises(ValueError, match="norm is -1"):
        intruders(cosines, torch.ones(2), -1.0, features=4)


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
    assert len(cosines_through(U, sigma, W_0 @ x, tolerance=0.0)) == 41
    by_svd = cosines_through(U, sigma, W_0 @ x, tolerance=1e-9)
    torch.testing.assert_close(by_svd, (V[:, : len(by_svd)].T @ x).abs(), rtol=0, atol=3e-7)
    assert cosines_through(U, 0 * sigma, 0 * W_0 @ x).shape == (0, 12)
    assert cosines_through(U[:, :0], sigma[:0], W_0 @ x).shape == (0, 12)


@pytest.mark.parametrize("size", [1.0, 1e-200, 1e200])
def test_intruders_from_pieces(size: float) -> None:
    W_0 = size * with_values([5.0, 4.0, 2.0, 1.0], 12, 20)
    W = W_0 + size * torch.outer(orthonormal(12, 1, 5)[:, 0], orthonormal(20, 1, 6)[:, 0]) * 6
    (U_0, sigma_0, _), (U, sigma, Vh) = (torch.linalg.svd(x, full_matrices=False) for x in (W_0 / size, W / size))
    through = cosines_through(U_0, size * sigma_0, W_0 @ Vh[:3].T)
    norm = size * torch.linalg.norm(W / size).item()
    left, right = intruder_dimensions(W_0, W, k=3)
    for side, cosines, d in ((left, U_0[:, :4].T @ U[:, :3], 12), (right, through, 20)):
        again = intruders(cosines, size * sigma[:3], norm, features=d)
        assert_same(again, side)


def test_cosines_through_refuses() -> None:
    U, sigma, image = torch.eye(3)[:, :2], torch.ones(2), torch.ones(3, 4)
    for arguments in ((U, sigma[:1], image), (U, sigma, image[:2])):
        with pytest.raises(BAD_SHAPE, match=r"U is .* must fit|Type-check"):
            cosines_through(*arguments)
    for bad in (-1e-9, math.nan):
        with pytest.raises(ValueError, match="tolerance"):
            cosines_through(U, sigma, image, tolerance=bad)
    with pytest.raises(ValueError, match="1 of sigma are negative"):
        cosines_through(U, torch.tensor([1.0, -1.0]), image)
