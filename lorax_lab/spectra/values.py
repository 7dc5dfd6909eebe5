"""Singular values of any update: dense ones from the Gram matrix, low-rank ones from their factors."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lorax_lab.spectra.exact import spectrum
from lorax_lab.spectra.matrix import LowRank, Update, check_energy, scaled, times_power_of_two
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
    """`singular_values` of many low-rank updates: `triangles` and one batched SVD for all of the same shapes.

    An adapter has the same few shapes in every layer, and on a GPU the batch makes them fast.

    Args:
        updates: on one device.

    Returns:
        One tensor per update, in their order, min(out, rank, in) values each.

    Raises:
        ValueError, ArithmeticError: as `singular_values`.

    >>> pair = [LowRank(s * torch.eye(5, 1), torch.eye(1, 9)) for s in (2.0, 3.0)]
    >>> [sigma.item() for sigma in low_rank_singular_values(pair)]
    [2.0, 3.0]
    """
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, update in enumerate(updates):
        groups[(*update.shape, update.B.shape[1])].append(index)
    values: dict[int, Tensor] = {}
    for members in groups.values():
        sigmas = _of_one_shape([updates[index] for index in members])
        values |= dict(zip(members, sigmas, strict=True))
    return [values[index] for index in range(len(updates))]


def _of_one_shape(updates: Sequence[LowRank]) -> list[Tensor]:
    left = triangles([update.B for update in updates], "B")
    right = triangles([update.A for update in updates], "A", transposed=True)
    pairs = zip(updates, left, right, strict=True)
    cores = [scaled(math.frexp(u.scaling)[0] * R_B @ R_A.T) for u, (R_B, _), (R_A, _) in pairs]
    sigmas = torch.linalg.svdvals(torch.stack([core for core, _ in cores]))
    for sigma, (core, _) in zip(sigmas, cores, strict=True):
        check_energy(sigma, core)
    exponents = [
        left[i][1] + right[i][1] + cores[i][1] + math.frexp(update.scaling)[1] for i, update in enumerate(updates)
    ]
    return [times_power_of_two(sigma, exponent) for sigma, exponent in zip(sigmas, exponents, strict=True)]
