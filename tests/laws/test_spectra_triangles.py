"""Triangles of tall factors on hostile ones: which route they take, and that no value pays for the fast one."""

import math

import mpmath
import pytest
import torch
from matrices import gaussian

from lorax_lab.spectra import LowRank, low_rank_singular_values, svd, triangles
from lorax_lab.spectra.exact import svd_error
from lorax_lab.spectra.gram import gram_error

EPS = 2.0**-52
TINY, HUGE = 1e-200, 1e200


def parallel(long: int, rank: int, angle: float) -> torch.Tensor:
    """Every column within `angle` of the first."""
    x = gaussian(long, rank)
    return x[:, :1] + angle * x


FACTORS = {
    "gaussian": (gaussian(300, 6), True),
    "fp32": (gaussian(300, 6).float(), True),
    "many blocks": (gaussian(2500, 6), True),
    "graded columns": (gaussian(300, 6) * torch.logspace(0, -12, 6, dtype=torch.float64), True),
    "graded columns 1e50 to 1e-50": (gaussian(300, 6) * torch.logspace(50, -50, 6, dtype=torch.float64), False),
    "one column": (gaussian(300, 1), True),
    "small": (TINY * gaussian(300, 6), False),
    "large": (HUGE * gaussian(300, 6), False),
    "graded rows": (gaussian(300, 6) * torch.logspace(0, -12, 300, dtype=torch.float64)[:, None], True),
    "nearly parallel 1e-7": (parallel(300, 6, 1e-7), False),
    "nearly parallel 1e-12": (parallel(300, 6, 1e-12), False),
    "equal columns": (gaussian(300, 1).expand(300, 6), False),
    "the same unit vectors twice": (torch.eye(300, 3).repeat(1, 2), False),
    "one column zero": (gaussian(300, 6) * (torch.arange(6) != 3), False),
    "one column too small": (gaussian(300, 6) * torch.where(torch.arange(6) == 3, TINY, 1.0), False),
    "zero": (torch.zeros(300, 6), False),
    "square, near the identity": (torch.eye(6) + 0.02 * gaussian(6, 6), False),
    "wide": (gaussian(4, 6), False),
}
"""Factors (long, rank), each with whether Cholesky is good enough for it."""


@pytest.fixture(autouse=True)
def few_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triangles, "FEW", 1)


@pytest.fixture
def by_qr(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many factors each QR was of."""
    counts, qr = [], torch.linalg.qr

    def counted(x: torch.Tensor, mode: str = "reduced") -> object:
        if mode == "r":
            counts.append(len(x))
        return qr(x, mode=mode)

    monkeypatch.setattr(torch.linalg, "qr", counted)
    return counts


@pytest.mark.parametrize("name", FACTORS)
def test_the_route_and_the_product(name: str, by_qr: list[int]) -> None:
    factor, fast = FACTORS[name]
    [R] = triangles.triangles([factor])
    assert by_qr == ([] if fast else [len(factor)])
    assert tuple(R.shape) == (min(factor.shape), factor.shape[1])
    size = float(factor.abs().max()) or 1.0
    R, F = R / size, factor.double() / size
    norms = F.norm(dim=0)
    bound = 1e-14 * norms[:, None] * norms  # columnwise, however they are graded
    assert ((R.T @ R - F.T @ F).abs() <= bound).all()


def test_few_columns_go_to_qr(monkeypatch: pytest.MonkeyPatch, by_qr: list[int]) -> None:
    monkeypatch.setattr(triangles, "FEW", 7)
    triangles.triangles([gaussian(300, 6), gaussian(200, 6)])
    assert by_qr == [300, 200]
    triangles.triangles([gaussian(300, 7), gaussian(200, 7)])
    assert len(by_qr) == 2


@pytest.mark.parametrize("left", FACTORS)
@pytest.mark.parametrize("right", ["graded columns", "nearly parallel 1e-7"])
def test_values_against_qr_and_exact_arithmetic(left: str, right: str) -> None:
    B = FACTORS[left][0]
    A = FACTORS[right][0][:, : B.shape[1]].T
    update = LowRank(B, A, -0.7)
    (found,), expected = low_rank_singular_values([update]), svd(update)[1]
    assert len(found) == min(*update.shape, B.shape[1])
    assert ((found - expected).abs() <= 100 * EPS * expected[:1]).all()
    true = exact_values(B, A, -0.7)[: len(found)]
    assert ((found - true).abs() <= 0.05 * svd_error(update.shape) * true[:1]).all()


def exact_values(B: torch.Tensor, A: torch.Tensor, scaling: float) -> torch.Tensor:
    """The roots of the eigenvalues of scaling² (BᵀB) (A Aᵀ), at 600 digits."""
    with mpmath.workdps(600):
        left, right = (mpmath.matrix(x.double().tolist()) for x in (B, A))
        eigenvalues, _ = mpmath.eig((left.T * left) * (right * right.T))
        roots = sorted((mpmath.sqrt(abs(mpmath.re(value))) * abs(scaling) for value in eigenvalues), reverse=True)
        return torch.tensor([float(root) for root in roots], dtype=torch.float64)


def test_the_bound_decides(by_qr: list[int]) -> None:
    """A third column with cosine c to both others, at right angles to each other: κ is (1 + 2c)² / (1 − 2c²)."""
    long = 4000
    limit = svd_error((long, 3)) / gram_error((long, 3))
    base = torch.linalg.qr(gaussian(long, 3)).Q
    for kappa, qr_calls in ((0.99 * limit, []), (1.01 * limit, [long])):
        c = (math.sqrt(4 + (4 + 2 * kappa) * (kappa - 1)) - 2) / (4 + 2 * kappa)
        assert (1 + 2 * c) ** 2 / (1 - 2 * c * c) == pytest.approx(kappa, rel=1e-9)
        third = c * (base[:, 0] + base[:, 1]) + math.sqrt(1 - 2 * c * c) * base[:, 2]
        by_qr.clear()
        triangles.triangles([torch.stack([base[:, 0], base[:, 1], 1e7 * third], dim=1)])
        assert by_qr == qr_calls, kappa
