"""All singular values of a dense update, exactly: the Gram matrix over row blocks, and a way without it.

A matrix of m × n, m ≤ n, has the singular values √λ_i(A Aᵀ). The m × m Gram matrix is summed in fp64 from blocks
along the longer side, so neither the update nor a copy of it need fit in memory, and its eigenvalues cost less than
half of an SVD. What is lost is the bottom: rounding moves each λ by some u·λ_1 (u = 1.1e-16), `gram_error` at most, so
a σ below the root of that, 6e-8·σ_1 at 2² and 4e-7·σ_1 at 4096², may be noise. Where such values are wanted, the
matrix is reduced by QR, block by block, to an m × m triangle, whose SVD has the accuracy of an SVD of the whole.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor

from lorax_lab.spectra.matrix import checked_matrix, scaled, times_power_of_two

UNIT = 2.0**-53
BLOCK_ENTRIES = 2**22
"""Entries of one block: 32 MiB in fp64, deep enough for matrix products at full speed."""
BLOCK_LENGTH = 1024
"""Rows of one block at most: a longer sum of equal terms, each rounded the same way, would leave `gram_error`."""
PANEL = 512
"""Columns of the Gram matrix that are multiplied at once; what lies above the diagonal blocks is never formed."""
ENERGY_TOLERANCE = 1e-10
"""Allowed relative gap between Σσ² and ‖A‖²_F: far above rounding, far below a failed solver."""


@runtime_checkable
class Blocks(Protocol):
    """A matrix (out, in) that is read a slice at a time: a tensor on disk, the difference of two.

    Where it also has a `device`, its blocks are there and so is the work.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(out, in)."""

    def block(self, dim: int, start: int, stop: int) -> Tensor:
        """Rows (dim 0) or columns (dim 1) from start to stop, 2-D."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The singular values of one update, how far each may be off, and the way they were found.

    Args:
        sigma: (m,), descending, fp64; m = min(out, in).
        error: (m,), |σ_i − true σ_i| ≤ error_i: `gram_error` carried over to σ, or `svd_error`.
        norm: ‖A‖_F, from the entries.
        shape: (out, in).
        route: the solvers tried, in order, each that failed with its reason; the last one gave the values.
    """

    sigma: Float64[Tensor, " m"]
    error: Float64[Tensor, " m"]
    norm: float
    shape: tuple[int, int]
    route: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Gram:
    """A Aᵀ or Aᵀ A, whichever is smaller: 4^exponent · matrix, of which only the lower triangle is filled.

    energy is ‖A‖²_F / 4^exponent, summed from the entries.
    """

    matrix: Float64[Tensor, "m m"]
    exponent: int
    energy: float


def spectrum(x: Tensor | Blocks, wanted: float = 0.0) -> Spectrum:
    """All singular values of a dense update in fp64, with a bound on their error.

    Args:
        x: (out, in), a tensor of any real dtype and device, or anything that gives `Blocks`.
        wanted: relative to σ_1, the smallest value that has to be right. Where it and a value lie under the floor
            √`gram_error`, the Gram matrix is dropped for the QR route. 0 wants all, 1 only the first.

    Raises:
        ValueError: not 2-D, complex, nan or inf inside, wanted outside 0..1, or a value beyond the fp64 range.
        ArithmeticError: every route failed; the message lists each with its reason.

    >>> found = spectrum(torch.diag(torch.tensor([3.0, 4.0])))
    >>> found.sigma.tolist(), found.norm, found.route
    ([4.0, 3.0], 5.0, ('gram',))
    >>> spectrum(torch.diag(torch.tensor([1.0, 1e-9]))).route[0]
    'gram: 1 of 2 wanted values lie below 6.0e-08 of the first'
    """
    if not 0 <= wanted <= 1:
        raise ValueError(f"wanted is {wanted}; expected 0 (every value) to 1, relative to the largest value")
    shape = _shape(x)
    route: list[str] = []
    for name, solve in (("gram", _by_gram), ("svdvals", _by_svd), ("gesvd", _by_gesvd)):
        try:
            sigma, error, norm, exponent = solve(x, wanted)
        except (_Refused, torch.linalg.LinAlgError) as failure:
            route.append(f"{name}: {str(failure).strip().splitlines()[0]}")
            continue
        sigma, error = times_power_of_two(sigma, exponent), times_power_of_two(error, exponent)
        (norm,) = times_power_of_two(sigma.new_tensor([norm]), exponent).tolist()
        return Spectrum(sigma, error, norm, shape, (*route, name))
    raise ArithmeticError(f"no solver gave the singular values of a {shape} matrix: {'; '.join(route)}")


def top_directions(
    x: Tensor | Blocks, k: int
) -> tuple[Float64[Tensor, "out k"], Float64[Tensor, " k"], Float64[Tensor, "k in"]]:
    """The top k singular triplets of a dense update, exact: eigenvectors of the Gram matrix, and one more pass.

    The longer side's vectors come from the SVD of A V (or Aᵀ U), which also sets the values right, so what is kept
    of the update is U diag(σ) Vh with orthonormal U and Vh to rounding. Directions below √`gram_error` · σ_1 are
    arbitrary.

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
    shape = _shape(x)
    if not 0 <= k <= min(shape):
        raise ValueError(f"k is {k}; a {shape} matrix has 0 to {min(shape)} directions")
    short = short_directions(x)[0][:, :k]
    tall = shape[0] >= shape[1]
    long, sigma, turn = torch.linalg.svd(times(x, short, transposed=not tall), full_matrices=False)
    short = short @ turn.T
    return (long, sigma, short.T) if tall else (short, sigma, long.T)


def short_directions(x: Tensor | Blocks) -> tuple[Float64[Tensor, "m m"], Float64[Tensor, " m"]]:
    """All singular vectors of the smaller side as columns, and the singular values, from the Gram matrix.

    Right vectors of a tall matrix, left ones of a wide one. Those of the other side are x v / σ. Directions below
    √`gram_error` · σ_1 are arbitrary.

    Raises:
        ValueError: as `spectrum`.

    >>> short_directions(torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]]))[1].tolist()
    [4.0, 3.0]
    """
    found = gram(x)
    eigenvalues, vectors = torch.linalg.eigh(found.matrix)
    sigma = times_power_of_two(eigenvalues.flip(0).clamp(min=0).sqrt(), found.exponent)
    return vectors.flip(1), sigma


def times(x: Tensor | Blocks, columns: Float64[Tensor, "d k"], transposed: bool = False) -> Float64[Tensor, "e k"]:
    """x @ columns, or xᵀ @ columns, in fp64, a block of x at a time.

    Args:
        x: (out, in).
        columns: (in, k); (out, k) if transposed.

    >>> times(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [1.0]], dtype=torch.float64)).tolist()
    [[3.0]]
    """
    shape = _shape(x)
    if (shape[0] >= shape[1]) != transposed:
        return torch.cat([block @ columns for block in _tall(x)])
    total, start = columns.new_zeros(min(shape), columns.shape[1]), 0
    for block in _tall(x):
        total += block.T @ columns[start : start + len(block)]
        start += len(block)
    return total


def gram(x: Tensor | Blocks) -> Gram:
    """The Gram matrix over the smaller side, in fp64, from one pass over blocks along the longer one.

    Each block is checked and divided by a power of two, so neither 1e-200 nor 1e200 leaves the fp64 range.

    Raises:
        ValueError: as `spectrum`.
    """
    m = min(_shape(x))
    total, exponent, energy = torch.zeros(m, m, dtype=torch.float64, device=_device(x)), 0, 0.0
    for block in _tall(x):
        if not block.any():
            continue
        block, own = scaled(block)
        if not energy or own > exponent:
            total *= _power_of_two(2 * (exponent - own))
            energy *= _power_of_two(2 * (exponent - own))
            exponent = own
        block *= _power_of_two(own - exponent)
        for start in range(0, m, PANEL):
            panel = slice(start, start + PANEL)
            total[start:, panel] += block[:, start:].T @ block[:, panel]  # addmm_ would make it one long sum
        energy += float(torch.linalg.vector_norm(block)) ** 2
    return Gram(total, exponent, energy)


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
    found = gram(x)
    if not found.energy:
        return math.nan
    diagonal = found.matrix.diagonal()
    below = found.matrix.tril(-1)
    return float(diagonal.sum() ** 2 / (diagonal.square().sum() + 2 * below.square().sum()))


class _Refused(ArithmeticError):
    """A route that does not give what is wanted; the next one is tried."""


Solved = tuple[Float64[Tensor, " m"], Float64[Tensor, " m"], float, int]


def _by_gram(x: Tensor | Blocks, wanted: float) -> Solved:
    found = gram(x)
    _check("the trace", float(found.matrix.diagonal().sum()), found.energy)
    eigenvalues = torch.linalg.eigvalsh(found.matrix).flip(0)
    bound = gram_error(_shape(x)) * float(eigenvalues[0]) if len(eigenvalues) else 0.0
    if len(eigenvalues) and not float(eigenvalues[-1]) >= -bound:
        raise _Refused(f"an eigenvalue of {float(eigenvalues[-1]):.1e} of a matrix that has none below 0")
    sigma = eigenvalues.clamp(min=0).sqrt()
    _check("Σσ²", float(sigma.square().sum()), found.energy)
    lost, floor = int((eigenvalues <= bound).sum()) if found.energy else 0, math.sqrt(gram_error(_shape(x)))
    if lost and wanted < floor:
        raise _Refused(f"{lost} of {len(sigma)} wanted values lie below {floor:.1e} of the first")
    above = (eigenvalues + bound).sqrt() - sigma
    below = sigma - (eigenvalues - bound).clamp(min=0).sqrt()
    return sigma, torch.maximum(above, below), math.sqrt(found.energy), found.exponent


def _by_svd(x: Tensor | Blocks, wanted: float) -> Solved:
    return _by_triangle(x, torch.linalg.svdvals)


def _by_gesvd(x: Tensor | Blocks, wanted: float) -> Solved:
    """LAPACK's older QR iteration, on the CPU: slow, and it converges where divide and conquer does not."""
    from scipy.linalg import LinAlgError, svd

    def solve(triangle: Tensor) -> Tensor:
        try:
            sigma = svd(triangle.cpu().numpy(), compute_uv=False, lapack_driver="gesvd", check_finite=False)
        except LinAlgError as failure:
            raise _Refused(str(failure)) from failure
        return torch.from_numpy(sigma).to(triangle.device)

    return _by_triangle(x, solve)


def _by_triangle(x: Tensor | Blocks, solve: Callable[[Tensor], Tensor]) -> Solved:
    """The singular values of R, where A = Q R is built up as [R; block] → R."""
    triangle, exponent, energy = None, 0, 0.0
    for block in _tall(x):
        own = exponent
        if block.any():
            block, own = scaled(block)
        largest = max(exponent, own) if energy else own
        block = block * _power_of_two(own - largest)
        if triangle is None:
            triangle = block
        else:
            triangle = torch.cat([triangle * _power_of_two(exponent - largest), block])
            energy *= _power_of_two(2 * (exponent - largest))
        exponent = largest
        energy += float(torch.linalg.vector_norm(block)) ** 2
        if len(triangle) > triangle.shape[1]:
            triangle = torch.linalg.qr(triangle, mode="r").R
    assert triangle is not None, "a matrix has at least one block"
    sigma = solve(triangle)
    _check("Σσ²", float(sigma.square().sum()), energy)
    error = torch.full_like(sigma, svd_error(_shape(x)) * float(sigma.max()) if len(sigma) else 0.0)
    return sigma, error, math.sqrt(energy), exponent


def gram_error(shape: tuple[int, int]) -> float:
    """Bound on |λ_i(computed) − σ_i²| / σ_1² of a Gram matrix: 16 u √(out + in), u = 2⁻⁵³.

    Rounding errors of long sums grow as √n (Higham & Mary 2019). The worst of nine families at twelve shapes (1 × 5 to
    100,000 × 5, 768², rank-deficient, graded, of one sign) reached .26 of it, the oracle's own error included; a
    constant matrix, whose products all round the same way, .5.
    """
    return 16 * UNIT * math.sqrt(sum(shape))


def svd_error(shape: tuple[int, int]) -> float:
    """LAPACK's own pass mark for |σ_i(computed) − σ_i| / σ_1, 35 max(out, in) u; 8 u was seen at 768²."""
    return 35 * max(shape) * UNIT


def _power_of_two(exponent: int) -> float:
    """2^exponent; 0 where fp64 has no such number, and 1 at most: it scales down what is smaller."""
    return math.ldexp(1.0, max(min(exponent, 0), -1100))


def _check(what: str, found: float, expected: float) -> None:
    if not abs(found - expected) <= ENERGY_TOLERANCE * expected:
        raise _Refused(f"{what} is {found} but ‖A‖²_F is {expected} (of the scaled matrix)")


def _shape(x: Tensor | Blocks) -> tuple[int, int]:
    if len(x.shape) != 2:
        raise ValueError(f"the matrix has shape {tuple(x.shape)}; expected two dimensions (out, in)")
    return int(x.shape[0]), int(x.shape[1])


def _device(x: Tensor | Blocks) -> torch.device:
    device = getattr(x, "device", None)
    return device if isinstance(device, torch.device) else torch.device("cpu")


def _tall(x: Tensor | Blocks) -> Iterator[Float64[Tensor, "rows m"]]:
    """Checked fp64 blocks of x, or of xᵀ if x is wide: a few rows of the longer side at a time."""
    long_side, m = (0, x.shape[1]) if x.shape[0] >= x.shape[1] else (1, x.shape[0])
    step = max(1, min(BLOCK_ENTRIES // max(m, 1), BLOCK_LENGTH))
    for start in range(0, max(x.shape[long_side], 1), step):
        stop = min(start + step, x.shape[long_side])
        block = _slice(x, long_side, start, stop)
        block = checked_matrix(block, "the matrix", offset=(start, 0) if long_side == 0 else (0, start))
        yield block if long_side == 0 else block.T


def _slice(x: Tensor | Blocks, dim: int, start: int, stop: int) -> Tensor:
    return x.narrow(dim, start, stop - start) if isinstance(x, Tensor) else x.block(dim, start, stop)
