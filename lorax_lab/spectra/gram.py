"""The Gram matrix of an update over its smaller side, and the singular directions it gives.

A matrix of m × n, m ≤ n, has the singular values √λ_i(A Aᵀ). The m × m Gram matrix is summed in fp64 from blocks
along the longer side, so neither the update nor a copy of it need fit in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lorax_lab.spectra.blocks import Blocks, device_of, piece, shape_of, tall, times
from lorax_lab.spectra.matrix import svd

if TYPE_CHECKING:
    from jaxtyping import Float64

UNIT = 2.0**-53
PANEL = 512
"""Side of the diagonal blocks of the Gram matrix. The part above them is never formed."""
PLAIN = (2.0**-100, 2.0**100)
"""A block whose norm lies between these is not scaled: its products stay far inside the fp64 range."""


@dataclass(frozen=True, eq=False)
class Gram:
    """A Aᵀ or Aᵀ A, whichever is smaller: 4^exponent · matrix. Only the lower triangle of `matrix` is filled.

    energy is ‖A‖²_F / 4^exponent, summed from the entries.
    """

    matrix: Float64[Tensor, "m m"]
    exponent: int
    energy: float


def gram(x: Tensor | Blocks) -> Gram:
    """The Gram matrix over the smaller side, in fp64, from one pass over blocks along the longer one.

    Each block is checked. A block whose norm lies outside `PLAIN` is divided by a power of two, so neither
    1e-200 nor 1e200 leaves the fp64 range.

    Raises:
        ValueError: as `spectrum`.
    """
    m = min(shape_of(x))
    total, exponent, energy = torch.zeros(m, m, dtype=torch.float64, device=device_of(x)), 0, 0.0
    half = _half(m)
    scratch = total.new_empty(m * m if m <= PANEL else half * max(m - half, half))
    for block in tall(x):
        norm, block_exponent = float(torch.linalg.vector_norm(block)), 0
        if not PLAIN[0] <= norm <= PLAIN[1]:
            if not block.any():
                continue
            block_exponent = math.frexp(float(torch.linalg.vector_norm(block, math.inf)))[1] - 1
        if not energy or block_exponent > exponent:
            total *= power_of_two(2 * (exponent - block_exponent))
            energy *= power_of_two(2 * (exponent - block_exponent))
            exponent = block_exponent
        if exponent:
            block = block / math.ldexp(1.0, exponent)
            norm = float(torch.linalg.vector_norm(block))
        _add_lower(total, block, scratch)
        energy += norm**2
    return Gram(total, exponent, energy)


def _add_lower(total: Float64[Tensor, "m m"], block: Float64[Tensor, "rows m"], scratch: Float64[Tensor, " s"]) -> None:
    """Add the lower triangle of blockᵀ block to total: the square below the diagonal is one product, and the two
    triangles beside it are split again. Each product is summed apart in scratch: addmm_ would make it one long sum."""
    m = len(total)
    if m <= PANEL:
        total += torch.mm(block.T, block, out=scratch[: m * m].view(m, m))
        return
    half = _half(m)
    first, second = block[:, :half], block[:, half:]
    _add_lower(total[:half, :half], first, scratch)
    _add_lower(total[half:, half:], second, scratch)
    total[half:, :half] += torch.mm(second.T, first, out=scratch[: (m - half) * half].view(m - half, half))


def _half(m: int) -> int:
    return PANEL * -(-m // (2 * PANEL))


def gram_error(shape: tuple[int, int]) -> float:
    """Bound on |λ_i(computed) − σ_i²| / σ_1² of a Gram matrix: 16 u √(out + in), u = 2⁻⁵³.

    Rounding errors of long sums grow as √n (Higham & Mary 2019). The worst of nine families at twelve shapes (1 × 5 to
    100,000 × 5, 768², rank-deficient, graded, of one sign) reached .26 of it, the oracle's own error included; a
    constant matrix, whose products all round the same way, .5.
    """
    return 16 * UNIT * math.sqrt(sum(shape))


def top_directions(
    x: Tensor | Blocks, k: int
) -> tuple[Float64[Tensor, "out k"], Float64[Tensor, " k"], Float64[Tensor, "k in"]]:
    """The top k singular triplets of a dense update, exact: eigenvectors of the Gram matrix, and one more pass.

    The vectors of the longer side come from the SVD of A V (or Aᵀ U), which also corrects the values. U diag(σ) Vh is
    therefore the kept part of the update, and U and Vh are orthonormal up to rounding. Directions below √`gram_error` ·
    σ_1 are arbitrary.

    Raises:
        ValueError: k is not in 0..min(out, in); else as `spectrum`.

    >>> U, sigma, Vh = top_directions(torch.diag(torch.tensor([3.0, 4.0])), 1)
    >>> sigma.tolist(), U.abs().tolist(), Vh.shape
    ([4.0], [[0.0], [1.0]], torch.Size([1, 2]))
    """
    shape = shape_of(x)
    if not 0 <= k <= min(shape):
        raise ValueError(f"k is {k}; a {shape} matrix has 0 to {min(shape)} directions")
    short = torch.linalg.eigh(gram(x).matrix)[1].flip(1)[:, :k]
    tall = shape[0] >= shape[1]
    long, sigma, turn = torch.linalg.svd(times(x, short, transposed=not tall), full_matrices=False)
    short = short @ turn.T
    return (long, sigma, short.T) if tall else (short, sigma, long.T)


def all_directions(
    x: Tensor | Blocks,
) -> tuple[Float64[Tensor, "out m"], Float64[Tensor, " m"], Float64[Tensor, "m in"]]:
    """The thin SVD of a dense update by the eigenvectors v of its Gram matrix: σ = ‖A v‖, u = A v / σ.

    It takes a third of the time of `svd`. σ is better than the root of its eigenvalue: what v has of other directions
    counts by its square. Where an eigenvalue lies under `gram_error`, its direction is arbitrary, and `svd` is taken.

    Returns:
        (U, sigma, Vh) in torch's order, sigma descending, fp64. On the longer side |u_i · u_j| is
        at most `gram_error` · σ_1² / (σ_i σ_j).

    Raises:
        ValueError, ArithmeticError: as `svd`.

    >>> U, sigma, Vh = all_directions(torch.diag(torch.tensor([3.0, 4.0])))
    >>> sigma.tolist(), (U * sigma @ Vh).round(decimals=12).tolist()
    ([4.0, 3.0], [[3.0, 0.0], [0.0, 4.0]])
    """
    shape, product = shape_of(x), gram(x)
    eigenvalues, short = torch.linalg.eigh(product.matrix)
    if not len(eigenvalues) or not float(eigenvalues[0]) > gram_error(shape) * float(eigenvalues[-1]):
        return svd(piece(x, 0, 0, shape[0]))
    tall = shape[0] >= shape[1]
    long = times(x, short, transposed=not tall)
    sigma, order = torch.linalg.vector_norm(long, dim=0).sort(descending=True)
    if not abs(float((sigma / 2.0**product.exponent).square().sum()) - product.energy) <= 1e-10 * product.energy:
        return svd(piece(x, 0, 0, shape[0]))
    long, short = (long[:, order] / sigma, short[:, order])
    return (long, sigma, short.T) if tall else (short, sigma, long.T)


def power_of_two(exponent: int) -> float:
    """2^exponent, and 1 at most; 0 where fp64 has no such number. It only scales down."""
    return math.ldexp(1.0, max(min(exponent, 0), -1100))
