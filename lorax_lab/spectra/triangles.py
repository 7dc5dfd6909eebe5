"""The triangle R of a tall factor F = Q R: by Cholesky of FᵀF where that is as good as QR, and several times as fast.

Let D hold the norms of the columns of F and H = D⁻¹ FᵀF D⁻¹. The computed H is off by at most `gram_error` · ‖H‖, so
the computed triangle is (I + E) R with ‖E‖ ≤ `gram_error` · κ(H) / 2. Such an E moves no singular value of a product
with R by more than ‖E‖ of itself (Ostrowski), however the columns are scaled. Cholesky is taken only where this bound
is below half of `svd_error`, LAPACK's own pass mark for the SVD that follows, hence two factors together stay below it.
κ is exact, in the 1-norm, which is never below the 2-norm's. QR has everything else: columns that are nearly parallel,
zero or beyond the range whose squares fit into fp64, and factors that are wider than tall.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from lorax_lab.spectra.exact import svd_error
from lorax_lab.spectra.gram import gram, gram_error
from lorax_lab.spectra.matrix import checked_matrix, scaled

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

Triangle: TypeAlias = "tuple[Float64[Tensor, 'k rank'], int]"
"""(R, e) with the true triangle 2^e · R; k = min(long, rank)."""
SMALLEST = 2.0**-400
"""Squared norms of columns count as this at least. A column far below it makes κ large, and goes to QR; the squares of
its entries may have left the fp64 range."""


def triangles(factors: Sequence[Float[Tensor, "_ _"]], name: str, transposed: bool = False) -> list[Triangle]:
    """R of each factor F, or of each Fᵀ, up to a rotation from the left: RᵀR = FᵀF, or F Fᵀ.

    Args:
        factors: of one shape and on one device; (long, rank), or (rank, long) if transposed.
        name: what a message calls a factor.

    Raises:
        ValueError: nan or inf inside, complex.

    >>> [(R, exponent)] = triangles([torch.tensor([[3.0], [4.0]])], "B")
    >>> R.item() * 2**exponent
    5.0
    """
    long, rank = factors[0].shape[::-1] if transposed else factors[0].shape
    solved: dict[int, Triangle] = {}
    if long > rank > 0:
        products = [gram(factor, name) for factor in factors]
        R, good = _cholesky(torch.stack([product.matrix for product in products]), (long, rank))
        solved = {i: (R[i], products[i].exponent) for i, is_good in enumerate(good.tolist()) if is_good}
    rest = [i for i in range(len(factors)) if i not in solved]
    if rest:
        ready = [scaled(checked_matrix(factors[i], name)) for i in rest]
        stacked = torch.stack([factor for factor, _ in ready])
        R = torch.linalg.qr(stacked.mT if transposed else stacked, mode="r").R
        solved |= {i: (R[place], ready[place][1]) for place, i in enumerate(rest)}
    return [solved[i] for i in range(len(factors))]


def _cholesky(
    product: Float64[Tensor, "n rank rank"], shape: tuple[int, int]
) -> tuple[Float64[Tensor, "n rank rank"], Tensor]:
    """The triangles of Gram matrices whose lower half is filled, and which of them keep the bound."""
    product = product.tril() + product.tril(-1).mT
    norms = product.diagonal(dim1=1, dim2=2).clamp(min=SMALLEST).sqrt()
    H = product / (norms[:, :, None] * norms[:, None, :])
    L, failed = torch.linalg.cholesky_ex(H)
    L = torch.where((failed == 0)[:, None, None], L, torch.eye(len(L[0]), dtype=L.dtype, device=L.device))
    condition = torch.linalg.matrix_norm(H, 1) * torch.linalg.matrix_norm(torch.cholesky_inverse(L), 1)
    good = (failed == 0) & (gram_error(shape) * condition <= svd_error(shape))
    return L.mT * norms[:, None, :], good
