"""Singular values of any update: dense ones from the Gram matrix, low-rank ones from their factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lorax_lab.spectra.exact import spectrum
from lorax_lab.spectra.gram import PLAIN
from lorax_lab.spectra.matrix import ENERGY_TOLERANCE, LowRank, Update, check_energy, core_of, times_power_of_two
from lorax_lab.spectra.triangles import triangles

if TYPE_CHECKING:
    from jaxtyping import Float64


def singular_values(x: Update) -> Float64[Tensor, " m"]:
    """Singular values σ_1 ≥ … ≥ σ_m of an update, in fp64.

    Dense: `spectrum`, which also gives their error and the solver. Low-rank: with B = Q_B R_B and
    Aᵀ = Q_A R_A, the values of the small core scaling · R_B R_Aᵀ; the zeros that complete them to min(out, in) are
    left out.

    Args:
        x: dense (out, in) of any real dtype, or LowRank.

    Returns:
        Descending. m = min(out, in) for a dense update, min(out, rank, in) for a low-rank one; 0 if empty.

    Raises:
        ValueError: not 2-D, complex, nan or inf inside, or a singular value beyond the fp64 range.
        ArithmeticError: every solver broke Σσ² = ‖A‖²_F or did not converge.

    >>> singular_values(torch.diag(torch.tensor([3.0, 4.0]))).tolist()
    [4.0, 3.0]
    >>> singular_values(LowRank(torch.eye(5, 1), torch.eye(1, 9), scaling=-2.0)).tolist()
    [2.0]
    """
    return low_rank_singular_values([x])[0] if isinstance(x, LowRank) else spectrum(x).sigma


def low_rank_singular_values(updates: Sequence[LowRank]) -> list[Float64[Tensor, " k"]]:
    """`singular_values` of low-rank updates of one shape and rank on one device: `triangles` and one batched SVD.

    >>> pair = [LowRank(s * torch.eye(5, 1), torch.eye(1, 9)) for s in (2.0, 3.0)]
    >>> [sigma.item() for sigma in low_rank_singular_values(pair)]
    [2.0, 3.0]
    """
    if any(update.B.is_complex() or update.A.is_complex() for update in updates):
        return [_scaled_values(update) for update in updates]
    R = triangles([factor for update in updates for factor in (update.B, update.A.T)])
    cores = torch.stack([left @ right.T for left, right in zip(R[::2], R[1::2], strict=True)])
    sizes = torch.linalg.vector_norm(cores, dim=(1, 2)).tolist()
    if not all(PLAIN[0] <= size * abs(update.scaling) <= PLAIN[1] for size, update in zip(sizes, updates, strict=True)):
        return [_scaled_values(update) for update in updates]
    sigmas = torch.linalg.svdvals(cores)
    norms = torch.linalg.vector_norm(sigmas, dim=1).tolist()
    if any(abs(norm - size) > ENERGY_TOLERANCE / 2 * size for norm, size in zip(norms, sizes, strict=True)):
        return [_scaled_values(update) for update in updates]
    return [sigma * abs(update.scaling) for sigma, update in zip(sigmas, updates, strict=True)]


def _scaled_values(update: LowRank) -> Tensor:
    """Of factors that may be zero, or whose sizes may leave the fp64 range: by QR of the checked, scaled factors."""
    _, core, _, exponent = core_of(update)
    sigma = torch.linalg.svdvals(core)
    check_energy(sigma, core)
    return times_power_of_two(sigma, exponent)
