"""Spectra and measures against answers known beforehand: exact spectra, extremes, refusals."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError
from matrices import gaussian, orthonormal, with_values

from lorax_lab import spectra
from lorax_lab.spectra import LowRank, singular_values, summary

BAD_SHAPE = (ValueError, TypeCheckError)
"""With jaxtyping's import hook on, a wrong number of dimensions is refused before our own check sees it."""


def entropy(*weights: float) -> float:
    total = sum(weights)
    return math.exp(-sum(w / total * math.log(w / total) for w in weights))


def entropy_of_powers(q: float) -> float:
    return math.exp(-math.log(1 - q) - q * math.log(q) / (1 - q))


def equal(k: int) -> tuple[float, ...]:
    return k, k, k, k, -(-9 * k // 10), -(-99 * k // 100)


# effective, energy entropy, stable, participation, k90, k99; None where there is no closed form
EXACT = {
    **{f"orthogonal {n}": (orthonormal(n, n), *equal(n)) for n in (1, 2, 9, 10, 11, 100, 101)},
    "4 equal of 10": (with_values(4 * [1.0], 10, 12), *equal(4)),
    **{
        f"ratio {q}": (
            torch.diag(q ** torch.arange(400, dtype=torch.float64)),
            entropy_of_powers(q),
            entropy_of_powers(q * q),
            1 / (1 - q * q),
            (1 + q * q) / (1 - q * q),
            math.ceil(math.log(0.1) / math.log(q * q)),
            math.ceil(math.log(0.01) / math.log(q * q)),
        )
        for q in (0.1, 0.5, 0.75, 0.95)
    },
    "diag(3, 4)": (torch.diag(torch.tensor([3.0, 4.0])), entropy(3, 4), entropy(9, 16), 25 / 16, 625 / 337, 2, 2),
    "shear": (torch.tensor([[1.0, 1.0], [0.0, 1.0]]), None, None, 1.145898, 9 / 7, 2, 2),
    **{f"{size:g} I": (size * torch.eye(10).double(), *equal(10)) for size in (5e-324, 1e-200, 1e30, 1e300)},
    "1e30 I fp32": (1e30 * torch.eye(10), *equal(10)),
    "1 x 1": (torch.tensor([[-2.0]]), *equal(1)),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_spectra(name: str) -> None:
    x, *expected = EXACT[name]
    ranks = summary(singular_values(x), x.shape)
    names = ("effective_rank", "energy_entropy_rank", "stable_rank", "participation_ratio")
    for measure, value in zip((*names, "energy_rank_90", "energy_rank_99"), expected, strict=True):
        assert value is None or ranks[measure] == pytest.approx(value, rel=1e-6), measure


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_entries_are_named(bad: float) -> None:
    x = gaussian(6, 4)
    x[2, 3] = bad
    for decompose in (singular_values, spectra.svd):
        for name, update in (("the matrix", x), ("B", LowRank(x, gaussian(4, 5))), ("A", LowRank(gaussian(5, 6), x))):
            with pytest.raises(ValueError, match=rf"^{name} has 1 non-finite entries, the first {bad} at \(2, 3\)"):
                decompose(update)
    with pytest.raises(ValueError, match="scaling"):
        LowRank(gaussian(5, 6), gaussian(6, 4), scaling=bad)


def test_wrong_matrices_are_refused() -> None:
    with pytest.raises(ValueError, match="two dimensions"):
        singular_values(torch.ones(3))
    with pytest.raises(ValueError, match="complex"):
        singular_values(torch.ones(2, 2, dtype=torch.complex64))
    with pytest.raises(ValueError, match="largest fp64"):
        singular_values(torch.full((4, 4), 1e308, dtype=torch.float64))
    with pytest.raises(BAD_SHAPE):
        LowRank(torch.ones(2, 3), torch.ones(2, 3))
    with pytest.raises(BAD_SHAPE):
        LowRank(torch.ones(3), torch.ones(3, 1))


def test_a_broken_solver_of_low_rank_updates_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    low = LowRank(gaussian(5, 2), gaussian(2, 7), 0.5)
    monkeypatch.setattr(torch.linalg, "svdvals", lambda y: torch.ones(y.shape[:-1], dtype=y.dtype))
    with pytest.raises(ArithmeticError, match=r"the SVD of a \(2, 2\) matrix on cpu is wrong: Σσ² = 2.0"):
        singular_values(low)
    monkeypatch.setattr(torch.linalg, "svd", lambda y, **_: (y, torch.ones(2, dtype=y.dtype), y))
    for x in (low, low.dense()):
        with pytest.raises(ArithmeticError, match=r"the SVD of a .* is wrong"):
            spectra.svd(x)


def test_numerical_rank_knows_where_the_numbers_come_from() -> None:
    W = gaussian(60, 40).float()
    tuned = W + (gaussian(60, 3, seed=1) @ gaussian(3, 40, seed=2)).float()
    sigma = singular_values(tuned - W)
    assert spectra.numerical_rank(sigma, (60, 40)) == 40
    assert spectra.numerical_rank(sigma, (60, 40), eps=torch.finfo(torch.float32).eps) == 3
    assert summary(sigma, (60, 40), eps=torch.finfo(torch.float32).eps)["numerical_rank"] == 3
    edge = torch.tensor([1.0, 500 * torch.finfo(torch.float64).eps], dtype=torch.float64)
    assert [spectra.numerical_rank(edge, shape) for shape in ((9, 499), (501, 9))] == [2, 1]
