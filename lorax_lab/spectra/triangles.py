"""The triangle R of a tall factor F = Q R: by Cholesky of FᵀF where that is as good as QR, and several times as fast.

Let D hold the norms of the columns of F and H = D⁻¹ FᵀF D⁻¹. The computed H is off by at most `gram_error` · ‖H‖, so
the computed triangle is (I + E) R with ‖E‖ ≤ `gram_error` · κ(H) / 2. Such an E moves no singular value of a product
with R by more than ‖E‖ of itself (Ostrowski), however the columns are scaled. Cholesky is taken only where this bound
is below half of `svd_error`, LAPACK's own pass mark for the SVD that follows, hence two factors together stay below it.
κ is exact, in the 1-norm, which is never below the 2-norm's. QR has everything else: columns that are nearly parallel
or zero, sizes whose squares leave the fp64 range, factors that are wider than tall, and on a processor few columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lorax_lab.spectra import blocks
from lorax_lab.spectra.blocks import shape_of
from lorax_lab.spectra.exact import svd_error
from lorax_lab.spectra.gram import PLAIN, gram_error

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

FEW = 12
"""Columns below which LAPACK's QR takes less time than the checks of Cholesky."""


def triangles(factors: Sequence[Float[Tensor, "_ rank"]]) -> list[Float64[Tensor, "k rank"]]:
    """R of each factor F, up to a rotation from the left: RᵀR = FᵀF, k = min(long, rank).

    Nothing is checked: of a factor with nan or inf inside, R has no meaning.

    Args:
        factors: real, of one rank and on one device; they may differ in length.

    >>> [R] = triangles([torch.tensor([[3.0], [4.0]])])
    >>> R.abs().item()
    5.0
    """
    least = 1 if factors[0].is_cuda else FEW
    if not all(len(factor) > factor.shape[1] >= least for factor in factors):
        return [_by_qr(factor) for factor in factors]
    wide = [factor.detach().to(torch.float64) for factor in factors]
    return [R if is_good else _by_qr(factor) for R, is_good, factor in zip(*_by_cholesky(wide), wide, strict=True)]


def _by_qr(factor: Float[Tensor, "long rank"]) -> Float64[Tensor, "k rank"]:
    """LAPACK wants columns one after another, and the upcast may as well lay them so."""
    columns = factor.detach().T.to(torch.float64, memory_format=torch.contiguous_format)
    return torch.linalg.qr(columns.T, mode="r").R


def _by_cholesky(factors: Sequence[Float64[Tensor, "_ rank"]]) -> tuple[Float64[Tensor, "n rank rank"], list[bool]]:
    """The triangles, and which of them keep the bound."""
    product = torch.stack([_product(factor) for factor in factors])
    norms = product.diagonal(dim1=1, dim2=2).sqrt()
    H = product / (norms[:, :, None] * norms[:, None, :])
    L, failed = torch.linalg.cholesky_ex(H)
    regular = torch.where(failed[:, None, None] == 0, L, torch.eye(len(H[0]), dtype=H.dtype, device=H.device))
    condition = H.abs().sum(1).amax(1) * torch.cholesky_inverse(regular).abs().sum(1).amax(1)
    facts = torch.stack([failed, condition, norms.amin(1), norms.amax(1)]).T.tolist()
    bounds = [svd_error(shape) / gram_error(shape) for shape in map(shape_of, factors)]
    good = [
        failure == 0 and PLAIN[0] <= least <= most <= PLAIN[1] and kappa <= bound
        for (failure, kappa, least, most), bound in zip(facts, bounds, strict=True)
    ]
    return L.mT * norms[:, None, :], good


def _product(factor: Float64[Tensor, "long rank"]) -> Float64[Tensor, "rank rank"]:
    """FᵀF, in sums as short as those of `gram`."""
    step = blocks.BLOCK_LENGTH
    if len(factor) <= step:
        return factor.T @ factor
    even = len(factor) // step * step
    stacked, rest = factor[:even].unflatten(0, (-1, step)), factor[even:]
    total = torch.bmm(stacked.mT, stacked).sum(0)
    return total + rest.T @ rest if len(rest) else total
