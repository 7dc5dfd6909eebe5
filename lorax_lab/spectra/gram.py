"""The Gram matrix of an update over its smaller side, and the singular directions it gives.

A matrix of m × n, m ≤ n, has the singular values √λ_i(A Aᵀ). The m × m Gram matrix is summed in fp64 from blocks
along the longer side, so neither the update nor a copy of it need fit in memory.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from lorax_lab.spectra.blocks import Blocks, device_of, shape_of, tall, times
from lorax_lab.spectra.matrix import scaled, times_power_of_two

UNIT = 2.0**-53
PANEL = 512
"""Columns of the Gram matrix that are multiplied at once. The part above the diagonal blocks is never formed."""


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

    Each block is checked and divided by a power of two, so neither 1e-200 nor 1e200 leaves the fp64 range.

    Raises:
        ValueError: as `spectrum`.
    """
    m = min(shape_of(x))
    total, exponent, energy = torch.zeros(m, m, dtype=torch.float64, device=device_of(x)), 0, 0.0
    for block in tall(x):
        if not block.any():
            continue
        block, own = scaled(block)
        if not energy or own > exponent:
            total *= power_of_two(2 * (exponent - own))
            energy *= power_of_two(2 * (exponent - own))
            exponent = own
        block *= power_of_two(own - exponent)
        for start in range(0, m, PANEL):
            panel = slice(start, start + PANEL)
            total[start:, panel] += block[:, start:].T @ block[:, panel]  # addmm_ would make it one long sum
        energy += float(torch.linalg.vector_norm(block)) ** 2
    return Gram(total, exponent, energy)


def gram_error(shape: tuple[int, int]) -> float:
    """Bound on |λ_i(computed) − σ_i²| / σ_1² of a Gram matrix: 16 u √(out + in), u = 2⁻⁵³.

    Rounding errors of long sums grow as √n (Higham & Mary 2019). The worst of nine families at twelve shapes (1 × 5 to
    100,000 × 5, 768², rank-deficient, graded, of one sign) reached .26 of it, the oracle's own error included; a
    constant matrix, whose products all round the same way, .5.
    """
    return 16 * UNIT * math.sqrt(sum(shape))


def gram_participation_ratio(x: Tensor | Blocks) -> float:
    """Participation ratio (Σσ²)² / Σσ⁴ = (tr G)² / ‖G‖²_F straight from the Gram matrix G: no decomposition.

    Args:
        x: dense (out, in), a tensor or `Blocks`.

    Returns:
        In [1, m]; NaN for the zero matrix.

    Raises:
        ValueError: as `spectrum`.

    >>> gram_participation_ratio(torch.diag(torch.tensor([2.0, 2.0, 0.0])))
    2.0
    """
    result = gram(x)
    if not result.energy:
        return math.nan
    diagonal = result.matrix.diagonal()
    below = result.matrix.tril(-1)
    return float(diagonal.sum() ** 2 / (diagonal.square().sum() + 2 * below.square().sum()))


def short_directions(x: Tensor | Blocks) -> tuple[Float64[Tensor, "m m"], Float64[Tensor, " m"]]:
    """All singular vectors of the smaller side as columns, and the singular values, from the Gram matrix.

    They are right vectors of a tall matrix and left vectors of a wide one. The vectors of the other side are x v / σ.
    Directions below √`gram_error` · σ_1 are arbitrary.

    Raises:
        ValueError: as `spectrum`.

    >>> short_directions(torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]]))[1].tolist()
    [4.0, 3.0]
    """
    product = gram(x)
    eigenvalues, vectors = torch.linalg.eigh(product.matrix)
    sigma = times_power_of_two(eigenvalues.flip(0).clamp(min=0).sqrt(), product.exponent)
    return vectors.flip(1), sigma


def top_directions(
    x: Tensor | Blocks, k: int
) -> tuple[Float64[Tensor, "out k"], Float64[Tensor, " k"], Float64[Tensor, "k in"]]:
    """The top k singular triplets of a dense update, exact: eigenvectors of the Gram matrix, and one more pass.

    The vectors of the longer side come from the SVD of A V (or Aᵀ U), which also corrects the values. U diag(σ) Vh is
    therefore the kept part of the update, and U and Vh are orthonormal up to rounding. Directions below √`gram_error` ·
    σ_1 are arbitrary.

    Args:
        x: (out, in), a tensor or `Blocks`.
        k: 0 to min(out, in).

    Returns:
        (U, sigma, Vh) in torch's order, sigma descending.

    Raises:
        ValueError: k out of range; else as `spectrum`.

    >>> U, sigma, Vh = top_directions(torch.diag(torch.tensor([3.0, 4.0])), 1)
    >>> sigma.tolist(), U.abs().tolist(), Vh.shape
    ([4.0], [[0.0], [1.0]], torch.Size([1, 2]))
    """
    shape = shape_of(x)
    if not 0 <= k <= min(shape):
        raise ValueError(f"k is {k}; a {shape} matrix has 0 to {min(shape)} directions")
    short = short_directions(x)[0][:, :k]
    tall = shape[0] >= shape[1]
    long, sigma, turn = torch.linalg.svd(times(x, short, transposed=not tall), full_matrices=False)
    short = short @ turn.T
    return (long, sigma, short.T) if tall else (short, sigma, long.T)


def power_of_two(exponent: int) -> float:
    """2^exponent, and 1 at most; 0 where fp64 has no such number. It only scales down."""
    return math.ldexp(1.0, max(min(exponent, 0), -1100))
