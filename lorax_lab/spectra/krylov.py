"""The top of a dense update's spectrum by block Krylov iteration, with a certificate for what was not computed.

From a Gaussian block Ω the space span{Ω, GΩ, …, G^qΩ} of G = AᵀA holds nearly all of the top singular directions
after a few products with A. Ritz values from inside the space never exceed the true ones, and ‖A‖_F is exact, so

    σ̂_i² ≤ σ_i² ≤ min(σ̂_i² + rest, max(σ̂_i², ρ θ) + r),   rest = ‖A‖²_F − Σ_{i≤k} σ̂_i²,

where r is the residual of the k Ritz vectors (Weyl), θ the largest Ritz value that a second iteration finds in their
complement and ρ bounds what a random start can miss there. The second start must be a fresh one. If more values are
equal than a start has columns, it sees one direction per column; the other directions are orthogonal to all that it
sees. The second iteration takes most of the work, and ρ decides only what lies near the k-th value or beyond it, so the
iteration stops early if the brackets of all measures are narrow by then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lorax_lab.spectra.brackets import Bracket, TopSpectrum
from lorax_lab.spectra.exact import spectrum, svd_error
from lorax_lab.spectra.matrix import checked_matrix, scaled, times_power_of_two
from lorax_lab.spectra.measures import MEASURES

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Float64

BLOCK = 16
"""Columns of the second start. At equal work a narrow block goes deeper, and depth narrows ρ. The first start has twice
as many and goes half as deep: its space is as large, and a product with 32 columns takes 1.5 times as long as with 16.
"""
DEPTH = 14
"""Products of the second start with AᵀA: ρ = 1.08 at 4096², so σ̂_1 is at most 4 % low."""
SHALLOW = 6
"""Products after which the second start stops if the brackets are narrow: ρ = 1.4 at 4096²."""
FAILURE = 1e-9
"""Probability, over the draw of the start, that ρ does not hold."""
WIDTH = 1.1
"""A bracket with high / low above it is too wide to stand for a number."""


def top_spectrum(
    x: Float[Tensor, "out in"],
    k: int,
    generator: torch.Generator,
    block: int = BLOCK,
    depth: int | None = None,
    width: float = WIDTH,
) -> TopSpectrum | None:
    """The top k singular values and vectors of a dense update, with what they leave open.

    The space is built in fp32, and the bounds do not suffer. The values are those of A restricted to k orthonormal fp64
    vectors in the space. They are lower ends up to fp64 rounding, whatever the space is (Cauchy interlacing).

    Args:
        x: (out, in), any real dtype and device; held once more in fp64, and in fp32 if it has another dtype.
        k: how many, 1 to min(out, in) − 1.
        generator: of the start, on the CPU; no global stream moves, and the same seed gives the same numbers.
        block: columns of the second start.
        depth: its products with AᵀA; by default `DEPTH`, more for a large k.
        width: `SHALLOW` products are enough if no bracket has high / low above it.

    Returns:
        None for the zero matrix, which has no top.

    Raises:
        ValueError: k out of range, nan or inf inside, not 2-D.

    >>> x = torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.5]))
    >>> top = top_spectrum(x, 2, torch.Generator().manual_seed(0))
    >>> [round(value, 6) for value in top.sigma.tolist()], top.energy_rank(0.9)
    ([3.0, 2.0], Bracket(low=2, high=2))
    """
    shape = (int(x.shape[0]), int(x.shape[1])) if x.ndim == 2 else (0, 0)
    if x.ndim == 2 and not 1 <= k < max(min(shape), 2):
        raise ValueError(f"k is {k}; a {shape} matrix has a top of 1 to {max(min(shape) - 1, 1)}: use spectrum for all")
    A, norm, exponent = _unit(x)
    if not norm:
        return None
    tall = A.T if shape[0] < shape[1] else A
    depth = depth or max(DEPTH, math.ceil(3 * k / block))
    if min(shape) <= block * (depth + 1):  # the space would be everything
        V, single, bounds = torch.linalg.svd(tall, full_matrices=False).Vh[:k].T, tall, iter([0.0])
    else:
        single = x.detach() if x.dtype == torch.float32 and x.is_contiguous() and not exponent else A.float()
        single = single if tall is A else single.T
        V = next(_ritz_vectors(single, k, generator, 2 * block, [math.ceil(depth / 2)]))
        bounds = _beyond(tall, single, V, generator, block, depth)
    U, sigma, Wh = torch.linalg.svd((V.T @ tall.T).T, full_matrices=False)  # MKL takes twice as long for tall @ V
    V = V @ Wh.T
    residual = float(torch.linalg.matrix_norm(single.T @ U.to(single.dtype) - V * sigma, 2)) * float(sigma[0])
    slack = svd_error((len(V), k)) * sigma[0]
    sigma = (sigma - slack).clamp(min=0)
    left = max(norm**2 - float(sigma.square().sum()), 0.0)
    low, frobenius = (times_power_of_two(v, exponent) for v in (sigma, sigma.new_tensor([norm])))
    U, V = (V, U) if tall is not A else (U, V)
    for beyond in bounds:
        high = torch.minimum(sigma.square() + left, (sigma + 2 * slack).square().clamp(min=beyond) + residual).sqrt()
        top = TopSpectrum(U, low, V.T, times_power_of_two(high, exponent), frobenius.item(), shape)
        if all(bracket.width <= width for bracket in top.brackets().values()):
            break
    return top


def _beyond(
    tall: Float64[Tensor, "long m"],
    single: Float32[Tensor, "long m"],
    V: Float64[Tensor, "m k"],
    generator: torch.Generator,
    block: int,
    depth: int,
) -> Iterator[float]:
    """ρ θ after few products of the second start and then after all: each bounds the square of what lies beyond V."""
    depths = sorted({min(SHALLOW, depth), depth})
    spaces = _ritz_vectors(single, 1, generator, block, depths, away=V)
    for products, next_one in zip(depths, spaces, strict=False):  # a space that is everything has no second
        rho = missed_ratio(len(V) - V.shape[1], block, products, FAILURE / len(depths))
        yield rho * float((tall @ next_one).square().sum())


@cache
def missed_ratio(m: int, block: int, depth: int, failure: float) -> float:
    """ρ with λ_1 ≤ ρ θ_1, except with probability `failure`: the largest eigenvalue of an m × m positive
    semidefinite G against the largest Ritz value θ_1 in span{Ω, …, G^depth Ω}, Ω (m, block) Gaussian.

    With x = p(G) Ω c, c along the row u_1ᵀΩ, and p the Chebyshev polynomial of [0, (1 − ε) λ_1],

        θ_1 ≥ λ_1 (1 − ε) / (1 + τ² F²),   τ = 1 / T_depth((1 + ε) / (1 − ε)),

    since what lies between (1 − ε) λ_1 and λ_1 only helps. F² = ‖tail of Ωc‖² / ‖u_1ᵀΩ‖² is (m − 1) / block times an
    F-distributed number with (m − 1, block) degrees of freedom, exactly; ε is chosen best.

    >>> 1.07 < missed_ratio(4096, 16, 14, 1e-9) < 1.09
    True
    """
    from scipy.optimize import minimize_scalar
    from scipy.stats import f

    if m <= block * (depth + 1):
        return 1.0
    F2 = (m - 1) / block * float(f.isf(failure, m - 1, block))

    def ratio(logarithm: float) -> float:
        epsilon = math.exp(logarithm)
        growth = math.cosh(depth * math.acosh((1 + epsilon) / (1 - epsilon)))
        return (1 + F2 / growth**2) / (1 - epsilon)

    return float(minimize_scalar(ratio, bounds=(math.log(1e-6), math.log(0.9)), method="bounded").fun)


def _ritz_vectors(
    A: Float32[Tensor, "long m"],
    k: int,
    generator: torch.Generator,
    block: int,
    depths: list[int],
    away: Float64[Tensor, "m given"] | None = None,
) -> Iterator[Float64[Tensor, "m k"]]:
    """Orthonormal top-k Ritz vectors of AᵀA in the block Krylov space of each depth, ascending, by full
    orthogonalisation in fp32; of AᵀA on the complement of `away`, orthonormal columns, if these are given. No depth
    follows the one whose space is everything."""
    given = 0 if away is None else away.shape[1]
    stops = {min(block * (depth + 1), A.shape[1] - given) for depth in depths}
    columns = max(stops)
    V = A.new_empty(A.shape[1], given + columns)
    image = A.new_empty(A.shape[0], columns)
    if away is not None:
        V[:, :given] = away
    new = torch.randn(A.shape[1], block, generator=generator, dtype=torch.float32).to(A.device)
    for start in range(0, columns, block):
        old, stop = V[:, : given + start], min(start + block, columns)
        for _ in range(3):  # an exhausted space leaves only rounding, which the first pass makes a new direction
            new = torch.linalg.qr(new[:, : stop - start] - old @ (old.T @ new[:, : stop - start])).Q
        V[:, given + start : given + stop] = new
        image[:, start:stop] = made = A @ new
        if stop in stops:
            _, vectors = torch.linalg.eigh((image[:, :stop].T @ image[:, :stop]).double())
            ritz = V[:, given : given + stop].double() @ vectors[:, -k:].flip(1)
            yield torch.linalg.qr(ritz if away is None else ritz - away @ (away.T @ ritz)).Q
        if stop < columns:
            new = A.T @ made


def _unit(x: Float[Tensor, "out in"]) -> tuple[Float64[Tensor, "out in"], float, int]:
    """(A, ‖A‖_F, e) with x = 2^e A, checked: e = 0 unless the squares of x would leave the fp32 range."""
    A = checked_matrix(x, "the matrix") if x.ndim != 2 or x.is_complex() else x.detach().to(torch.float64)
    norm, exponent = float(torch.linalg.vector_norm(A)), 0
    if not 1e-12 < norm < 1e12:
        A, exponent = scaled(checked_matrix(x, "the matrix"))
        norm = float(torch.linalg.vector_norm(A))
    return A, norm, exponent


@dataclass(frozen=True)
class Certified:
    """Brackets of every measure that the energies decide, and the solvers behind them. sigma is complete if they are
    exact."""

    brackets: dict[str, Bracket]
    sigma: Float64[Tensor, " n"]
    norm: float
    route: tuple[str, ...]


def certified(x: Float[Tensor, "out in"], k: int, generator: torch.Generator, width: float = WIDTH) -> Certified:
    """Brackets for the measures of a dense update from its top k, or exact values where a bracket is too wide.

    Args:
        x, k, generator: as `top_spectrum`.
        width: largest high / low that may stand for a number, ≥ 1.

    Returns:
        `route` names each bracket that was too wide and the solvers after it.

    >>> result = certified(torch.diag(torch.tensor([4.0, 3.0, 1e-3, 1e-3])), 2, torch.Generator().manual_seed(0))
    >>> result.route, result.brackets["energy_rank_90"]
    (('krylov',), Bracket(low=2, high=2))
    """
    top = top_spectrum(x, k, generator, width=width) if 1 <= k < min(x.shape) else None
    if top is None:
        return _exact(x, ())
    brackets = top.brackets()
    wide = [f"{name} in [{b.low:.4g}, {b.high:.4g}]" for name, b in brackets.items() if b.width > width]
    if wide:
        return _exact(x, (f"krylov: too wide: {', '.join(wide)}",))
    return Certified(brackets, top.sigma, top.norm, ("krylov",))


def _exact(x: Tensor, route: tuple[str, ...]) -> Certified:
    exact = spectrum(x)
    names = ("stable_rank", "participation_ratio", *(f"energy_rank_{percent}" for percent in (50, 90, 95, 99)))
    values = {name: float(MEASURES[name](exact.sigma)) for name in names}
    return Certified({name: Bracket(v, v) for name, v in values.items()}, exact.sigma, exact.norm, route + exact.route)
