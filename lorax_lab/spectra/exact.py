"""All singular values of a dense update, with a bound on their error and the route by which they were found.

The eigenvalues of the Gram matrix cost less than half of an SVD. They lose the smallest values: rounding moves each λ
by some u·λ_1 (u = 1.1e-16), and by `gram_error` at most. So a σ below the root of that may be noise: 6e-8·σ_1 at 2²,
4e-7·σ_1 at 4096². If such values are wanted, QR reduces the matrix block by block to an m × m triangle. The SVD of the
triangle is as accurate as an SVD of the whole matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from lorax_lab.spectra.blocks import Blocks, shape_of, tall
from lorax_lab.spectra.gram import UNIT, gram, gram_error, power_of_two
from lorax_lab.spectra.matrix import scaled, times_power_of_two

if TYPE_CHECKING:
    from jaxtyping import Float64

ENERGY_TOLERANCE = 1e-10
"""Allowed relative gap between Σσ² and ‖A‖²_F: far above rounding, far below a failed solver."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The singular values of one update, how far each may be off, and the way they were found.

    Args:
        sigma: (m,), descending, fp64; m = min(out, in).
        error: (m,), |σ_i − true σ_i| ≤ error_i: `gram_error` carried over to σ, or `svd_error`.
        route: the solvers in the order they were tried. A solver that failed has its reason; the last one gave the
            values.
    """

    sigma: Float64[Tensor, " m"]
    error: Float64[Tensor, " m"]
    route: tuple[str, ...]

    @property
    def above_error(self) -> Float64[Tensor, " m"]:
        """`sigma`, with 0 for a value that is no larger than its error: an update of exact low rank stays one."""
        return torch.where(self.sigma > self.error, self.sigma, 0)


def spectrum(x: Tensor | Blocks, wanted: float = 0.0) -> Spectrum:
    """All singular values of a dense update in fp64, with a bound on their error.

    Args:
        x: (out, in), a tensor of any real dtype and device, or anything that gives `Blocks`.
        wanted: the smallest value that must be right, relative to σ_1. If it and a value lie under the floor
            √`gram_error`, the QR route replaces the Gram matrix. 0 wants all, 1 only the first.

    Raises:
        ValueError: not 2-D, complex, nan or inf inside, wanted outside 0..1, or a value beyond the fp64 range.
        ArithmeticError: every route failed; the message lists each with its reason.

    >>> result = spectrum(torch.diag(torch.tensor([3.0, 4.0])))
    >>> result.sigma.tolist(), result.route
    ([4.0, 3.0], ('gram',))
    >>> spectrum(torch.diag(torch.tensor([1.0, 1e-9]))).route[0]
    'gram: 1 of 2 wanted values lie below 6.0e-08 of the first'
    """
    if not 0 <= wanted <= 1:
        raise ValueError(f"wanted is {wanted}; expected 0 (every value) to 1, relative to the largest value")
    shape = shape_of(x)
    route: list[str] = []
    of_triangle = {"svdvals": torch.linalg.svdvals, "gesvd": _gesvd}
    for name in ("gram", *of_triangle):
        try:
            sigma, error, exponent = _by_gram(x, wanted) if name == "gram" else _by_triangle(x, of_triangle[name])
        except (_Refused, torch.linalg.LinAlgError) as failure:
            route.append(f"{name}: {str(failure).strip().splitlines()[0]}")
            continue
        sigma, error = times_power_of_two(sigma, exponent), times_power_of_two(error, exponent)
        return Spectrum(sigma, error, (*route, name))
    raise ArithmeticError(f"no solver gave the singular values of a {shape} matrix: {'; '.join(route)}")


def svd_error(shape: tuple[int, int]) -> float:
    """LAPACK's own pass mark for |σ_i(computed) − σ_i| / σ_1, 35 max(out, in) u; 8 u was seen at 768²."""
    return 35 * max(shape) * UNIT


class _Refused(ArithmeticError):
    """A route that does not give what is wanted; the next one is tried."""


Solved: TypeAlias = "tuple[Float64[Tensor, ' m'], Float64[Tensor, ' m'], int]"


def _by_gram(x: Tensor | Blocks, wanted: float) -> Solved:
    product = gram(x)
    _check("the trace", float(product.matrix.diagonal().sum()), product.energy)
    eigenvalues = torch.linalg.eigvalsh(product.matrix).flip(0)
    bound = gram_error(shape_of(x)) * float(eigenvalues[0]) if len(eigenvalues) else 0.0
    if len(eigenvalues) and not float(eigenvalues[-1]) >= -bound:
        raise _Refused(f"an eigenvalue of {float(eigenvalues[-1]):.1e} of a matrix that has none below 0")
    sigma = eigenvalues.clamp(min=0).sqrt()
    _check("Σσ²", float(sigma.square().sum()), product.energy)
    lost, floor = int((eigenvalues <= bound).sum()) if product.energy else 0, math.sqrt(gram_error(shape_of(x)))
    if lost and wanted < floor:
        raise _Refused(f"{lost} of {len(sigma)} wanted values lie below {floor:.1e} of the first")
    above = (eigenvalues + bound).sqrt() - sigma
    below = sigma - (eigenvalues - bound).clamp(min=0).sqrt()
    return sigma, torch.maximum(above, below), product.exponent


def _gesvd(triangle: Tensor) -> Tensor:
    """LAPACK's older QR iteration, on the CPU: slow, and it converges where divide and conquer does not."""
    from scipy.linalg import LinAlgError, svd

    try:
        sigma = svd(triangle.cpu().numpy(), compute_uv=False, lapack_driver="gesvd", check_finite=False)
    except LinAlgError as failure:
        raise _Refused(str(failure)) from failure
    return torch.from_numpy(sigma).to(triangle.device)


def _by_triangle(x: Tensor | Blocks, solve: Callable[[Tensor], Tensor]) -> Solved:
    """The singular values of R, where A = Q R is built up as [R; block] → R."""
    triangle, exponent, energy = None, 0, 0.0
    for block in tall(x):
        block_exponent = exponent
        if block.any():
            block, block_exponent = scaled(block)
        largest = max(exponent, block_exponent) if energy else block_exponent
        block = block * power_of_two(block_exponent - largest)
        if triangle is None:
            triangle = block
        else:
            triangle = torch.cat([triangle * power_of_two(exponent - largest), block])
            energy *= power_of_two(2 * (exponent - largest))
        exponent = largest
        energy += float(torch.linalg.vector_norm(block)) ** 2
        if len(triangle) > triangle.shape[1]:
            triangle = torch.linalg.qr(triangle, mode="r").R
    assert triangle is not None, "a matrix has at least one block"
    sigma = solve(triangle)
    _check("Σσ²", float(sigma.square().sum()), energy)
    error = torch.full_like(sigma, svd_error(shape_of(x)) * float(sigma.max()) if len(sigma) else 0.0)
    return sigma, error, exponent


def _check(quantity: str, computed: float, expected: float) -> None:
    if not abs(computed - expected) <= ENERGY_TOLERANCE * expected:
        raise _Refused(f"{quantity} is {computed} but ‖A‖²_F is {expected} (of the scaled matrix)")
