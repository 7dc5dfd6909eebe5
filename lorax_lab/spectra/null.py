"""What the measures read on pure noise: the null that a rank must be compared with.

Half of the singular values of a square Gaussian matrix carry 90 % of its energy, and its effective rank is
80 % of its size. A measured rank says something about an update only where it differs from these numbers.

Everywhere `shape` is (out, in), m ≤ n are its sides in order, and `std` is that of the entries; a ValueError
names a negative one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lorax_lab.spectra.matrix import LowRank
from lorax_lab.spectra.measures import MEASURES, numerical_rank
from lorax_lab.spectra.values import low_rank_singular_values

if TYPE_CHECKING:
    from jaxtyping import Float64

DRAWS = 16
"""Products drawn for the low-rank null: a standard error of 1.3 % for the stable rank, .3 % for the rest."""

TRACY_WIDOM_999 = 3.2724
"""The .999 quantile of the Tracy–Widom law F_1, as tabulated (Patterson, Price & Reich 2006); 3.2722 computed."""


def gaussian_singular_values(shape: Sequence[int]) -> Float64[Tensor, " m"]:
    """Singular values of an iid Gaussian matrix with entries of std 1, in the Marchenko–Pastur limit.

    With m ≤ n the two sides and β = m/n, σ/√n lies in [1 − √β, 1 + √β], and σ_i is the quantile at
    (i − ½)/m from the top (Marchenko & Pastur 1967). The angle θ in [0, π] of σ² = n (1 + β + 2√β cos θ)
    makes the integral elementary: the share of singular values above σ(θ) is

        (θ − sin θ / √β + (1 − β) ψ / β) / π,   ψ = arg(1 + √β e^{iθ}).

    Multiply by the std of the entries. Against the mean of simulated matrices the middle is right to O(1/m),
    the largest value 1 % low at 16² and .2 % at 768², the smallest of a square matrix 30 % high.

    >>> sigma = gaussian_singular_values((50, 200))
    >>> round(sigma.square().sum().item() / (50 * 200), 2)  # E‖A‖²_F = out · in
    1.0
    """
    _check(shape)
    return _quantiles(min(shape), max(shape)).clone()


@lru_cache(maxsize=256)  # an audit asks for the same few shapes, matrix after matrix
def gaussian_draw(shape: tuple[int, int], index: int = 0) -> Float64[Tensor, " m"]:
    """Singular values of one iid Gaussian matrix with entries of std 1, drawn in O(m²) without the matrix.

    Householder reflections from both sides make it bidiagonal, with independent entries: χ of n, n − 1, …, n − m + 1
    degrees of freedom on the diagonal and of m − 1, …, 1 beside it (Dumitriu & Edelman 2002, eq. 2.4). The same
    arguments always give the same numbers, from a generator of their own.

    Args:
        shape: sides ≥ 1.
        index: which of the draws, ≥ 0.

    >>> sigma = gaussian_draw((300, 200))
    >>> round(sigma.square().sum().item() / (300 * 200), 1)
    1.0
    """
    from scipy.linalg import eigvalsh_tridiagonal

    m, n = min(shape), max(shape)
    generator = np.random.default_rng((index, m, n))
    diagonal, off_diagonal = generator.chisquare(n - np.arange(m)), generator.chisquare(np.arange(m - 1, 0, -1))
    energies = diagonal + np.append(0.0, off_diagonal)
    eigenvalues = eigvalsh_tridiagonal(energies, np.sqrt(diagonal[:-1] * off_diagonal)) if m > 1 else energies
    return torch.from_numpy(eigenvalues[::-1].clip(min=0)).sqrt()


@lru_cache(maxsize=4096)  # reading a folder of runs asks for the same few shapes, less some spikes, again and again
def _quantiles(m: int, n: int) -> Float64[Tensor, " m"]:
    return gaussian_quantile((torch.arange(m, dtype=torch.float64) + 0.5) / max(m, 1), (m, n))


@lru_cache(maxsize=1024)
def gaussian_median(m: int, n: int) -> float:
    """The median singular value of an iid Gaussian matrix with sides m ≤ n and entries of std 1, ½ from the top."""
    return gaussian_quantile(torch.tensor([0.5], dtype=torch.float64), (m, n)).item()


def gaussian_quantile(above: Float64[Tensor, " k"], shape: Sequence[int]) -> Float64[Tensor, " k"]:
    """The value that a share `above` of the singular values of `gaussian_singular_values` exceeds.

    At a share of 0 the upper edge √n + √m, at 1 the lower one √n − √m, at ½ the median. By bisection of θ,
    exact to rounding.

    >>> gaussian_quantile(torch.tensor([0.0, 1.0], dtype=torch.float64), (16, 9)).round(decimals=6).tolist()
    [7.0, 1.0]
    """
    m, n = min(shape), max(shape)
    low, high = torch.zeros_like(above), torch.full_like(above, math.pi)
    if not len(above):
        return above
    for _ in range(52):
        theta = (low + high) / 2
        too_few = _share_above(theta, m / n) < above
        low, high = torch.where(too_few, theta, low), torch.where(too_few, high, theta)
    return (n + m + 2 * math.sqrt(n * m) * theta.cos()).clamp(min=0).sqrt()


def gaussian_share_above(values: Float64[Tensor, " k"], shape: Sequence[int]) -> Float64[Tensor, " k"]:
    """Share of the singular values of `gaussian_singular_values` above each value: inverse of `gaussian_quantile`.

    1 at and below √n − √m, 0 at and above √n + √m.

    >>> gaussian_share_above(torch.tensor([7.5, 0.5], dtype=torch.float64), (16, 9)).tolist()
    [0.0, 1.0]
    """
    m, n = min(shape), max(shape)
    cosine = (values.square() - n - m) / (2 * math.sqrt(n * m))
    return _share_above(cosine.clamp(-1, 1).acos(), m / n).clamp(0, 1)


def noise_edge(shape: Sequence[int], std: float) -> float:
    """Largest singular value that noise reaches, std (√out + √in) (Marchenko & Pastur 1967).

    The limit for iid entries of the given std and large sides. About one finite matrix in eight
    goes above it, on average by 2 % at 32² and .6 % at 256². 0 for std 0.

    >>> noise_edge((16, 9), std=0.5)
    3.5
    """
    _check(shape, std)
    return std * (math.sqrt(shape[0]) + math.sqrt(shape[1]))


def noise_ceiling(shape: Sequence[int], std: float) -> float:
    """Singular value that the largest of finite Gaussian noise exceeds once in about 1,000 matrices.

    The limit of σ_1² is std² (μ + s t) with μ = (a + b)², s = (a + b)(1/a + 1/b)^⅓ and t of the Tracy–Widom law F_1
    (Johnstone 2001); t is its .999 quantile here. a² = out − ½ and b² = in − ½, in place of his n − 1 and p, are Ma's
    (2012): the error of the law falls from O(m^-⅓) to O(m^-⅔), and a transpose changes nothing. Of 10⁶ simulated
    matrices 1.7 in 1,000 went above it at 4², 1.2 at 32², 1.1 at 64², 1.3 at 4 × 16. It is above `noise_edge` by 9 % at
    32², 2.4 % at 256², 1.2 % at 768²; 0 for std 0 or a side of 0.

    >>> round(noise_ceiling((768, 768), 1.0) / noise_edge((768, 768), 1.0), 3)
    1.012
    """
    _check(shape, std)
    if min(shape) == 0:
        return 0.0
    a, b = math.sqrt(shape[0] - 0.5), math.sqrt(shape[1] - 0.5)
    return std * math.sqrt((a + b) ** 2 + TRACY_WIDOM_999 * (a + b) * (1 / a + 1 / b) ** (1 / 3))


def gaussian_null(shape: Sequence[int], rank: int | None = None) -> dict[str, float]:
    """The rank measures of `summary` on noise of a given shape: Gaussian entries, or Gaussian factors.

    Without a rank it reads the quantiles of `gaussian_singular_values`. With one, the update is B A with
    iid Gaussian B (out, rank) and A (rank, in), as a low-rank update without any structure would be, and
    each value is the mean over a few draws. The draws come from a generator of their own: the same
    arguments always give the same numbers, and no other random stream moves. Computed once per process.

    Returns:
        The names of `summary` without the norms. NaN and 0 as there if the shape or the rank is 0.

    >>> null = gaussian_null((100, 100))
    >>> round(null["participation_ratio"] / 100, 1)  # 1 / (1 + β) = 1/2
    0.5
    >>> gaussian_null((100, 100), rank=1)["effective_rank"]
    1.0
    """
    return dict(_gaussian_null((shape[0], shape[1]), rank))


@cache
def _gaussian_null(shape: tuple[int, int], rank: int | None) -> dict[str, float]:
    spectra = [gaussian_singular_values(shape)] if rank is None else _product_spectra(shape, rank)
    ranks = [
        {name: measure(sigma) for name, measure in MEASURES.items()} | {"numerical_rank": numerical_rank(sigma, shape)}
        for sigma in spectra
    ]
    return {name: sum(values[name] for values in ranks) / len(ranks) for name in ranks[0]}


def _product_spectra(shape: Sequence[int], rank: int) -> list[Tensor]:
    if rank < 0:
        raise ValueError(f"rank is {rank}; expected a number ≥ 0, or None for a dense update")
    generator = torch.Generator().manual_seed(0)

    def gaussian(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    out_features, in_features = shape
    draws = [LowRank(gaussian(out_features, rank), gaussian(rank, in_features)) for _ in range(DRAWS)]
    return low_rank_singular_values(draws)


def _check(shape: Sequence[int], std: float = 0.0) -> None:
    if min(shape) < 0 or not std >= 0:
        raise ValueError(f"shape is {shape} and std {std}; expected sizes ≥ 0 and a std ≥ 0")


def _share_above(theta: Float64[Tensor, " m"], beta: float) -> Float64[Tensor, " m"]:
    """Share of singular values above the one at angle theta, from 0 at θ = 0 to 1 at θ = π."""
    root = math.sqrt(beta)
    psi = torch.atan2(root * theta.sin(), 1 + root * theta.cos())
    return (theta - theta.sin() / root + (1 - beta) * psi / beta) / math.pi
