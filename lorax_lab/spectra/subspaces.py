"""How much of the same directions two updates use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lorax_lab.spectra.matrix import LowRank, Update, checked_matrix, scaled, svd
from lorax_lab.spectra.measures import numerical_rank

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

ORTHONORMAL_TOLERANCE = 1e-4
"""Largest allowed entry of |UᵀU − I|: vectors stored in fp32 pass, those stored in bf16 do not."""


def subspace_similarity(U_a: Float[Tensor, "d i"], U_b: Float[Tensor, "d j"]) -> float:
    """Subspace similarity, φ = ‖U_aᵀ U_b‖²_F / min(i, j) (Hu et al. 2021, sec. 7.2, eq. 4).

    The mean squared cosine of the principal angles: 1 where one space holds the other, 0 where they are
    orthogonal, max(i, j) / d in the mean of unrelated ones.

    Args:
        U_a, U_b: (d, i) and (d, j), orthonormal columns: top left singular vectors, or right ones as Vh[:i].T.

    Returns:
        In [0, 1] up to rounding; NaN if i or j is 0.

    Raises:
        ValueError: not 2-D, different d, or columns that are not orthonormal.

    >>> subspace_similarity(torch.eye(4)[:, :2], torch.eye(4)[:, 1:4])
    0.5
    """
    similarities = subspace_similarities(U_a, U_b)
    return similarities[-1, -1].item() if similarities.numel() else math.nan


def subspace_similarities(U_a: Float[Tensor, "d i"], U_b: Float[Tensor, "d j"]) -> Float64[Tensor, "i j"]:
    """`subspace_similarity` of the first i with the first j directions, for all i and j at once (figs. 3, 4).

    With p = min(i, j) and the projection distance d² = Σ sin² θ of the principal angles, φ = Σ cos² θ / p is
    1 − d²/p; the paper's app. G prints (1/p)(1 − d²).

    Args, Raises: as `subspace_similarity`; the largest directions come first.

    Returns:
        φ(i, j) at [i − 1, j − 1], in [0, 1] up to rounding.

    >>> subspace_similarities(torch.eye(3)[:, :2], torch.eye(3)[:, [1, 0]]).tolist()
    [[0.0, 1.0], [1.0, 1.0]]
    """
    U_a, U_b = _same_space(U_a, U_b)
    squared = (U_a.T @ U_b).square()
    i, j = (torch.arange(1, size + 1, device=squared.device) for size in squared.shape)
    return squared.cumsum(0).cumsum(1) / torch.minimum(i[:, None], j)


def column_share(delta_weight: Update, other: LowRank) -> float:
    """Share of ‖ΔW‖²_F inside the column space of another update, ‖Qᵀ ΔW‖²_F / ‖ΔW‖²_F.

    Q is an orthonormal basis of what `other` can write to, its (numerically nonzero) left singular vectors: how much
    of a full update a LoRA's outputs could carry. 1 if all of it, 0 if none. A random `other` captures
    rank / out on average.

    Args:
        delta_weight, other: (out, in), dense or low-rank, and low-rank.

    Returns:
        In [0, 1] up to rounding; NaN if delta_weight is zero, 0 if `other` is.

    Raises:
        ValueError: different shapes, or nan or inf inside.

    >>> column_share(torch.diag(torch.tensor([3.0, 4.0])), LowRank(torch.eye(2, 1), torch.ones(1, 2)))
    0.36
    """
    if tuple(delta_weight.shape) != other.shape:
        shapes = f"delta_weight has shape {tuple(delta_weight.shape)} and the other update {other.shape}"
        raise ValueError(f"{shapes}; both must be (out, in) of the same matrix")
    U, sigma, _ = svd(other)
    Q = U[:, : numerical_rank(sigma, other.shape)]
    W = _column_factor(delta_weight)
    energy = W.square().sum().item()
    return (Q.T @ W).square().sum().item() / energy if energy else math.nan


def row_share(delta_weight: Update, other: LowRank) -> float:
    """Share of ‖ΔW‖²_F inside the row space of another update, ‖ΔW Q‖²_F / ‖ΔW‖²_F.

    Q is an orthonormal basis of what `other` can read: how much of a full update a LoRA's inputs could carry. 1 if
    all of it, 0 if none. A random `other` captures rank / in on average.

    Args, Returns, Raises: as `column_share`.

    >>> row_share(torch.diag(torch.tensor([3.0, 4.0])), LowRank(torch.ones(2, 1), torch.eye(1, 2)))
    0.36
    """
    return column_share(delta_weight.T, other.T)


def _same_space(U_a: Tensor, U_b: Tensor) -> tuple[Float64[Tensor, "d i"], Float64[Tensor, "d j"]]:
    U_a, U_b = _orthonormal(U_a, "U_a"), _orthonormal(U_b, "U_b")
    if len(U_a) != len(U_b):
        raise ValueError(f"U_a has {len(U_a)} rows and U_b {len(U_b)}; compare left with left, right with right")
    return U_a, U_b


def _orthonormal(U: Float[Tensor, "d k"], name: str) -> Float64[Tensor, "d k"]:
    U = checked_matrix(U, name)
    gap = (U.T @ U - torch.eye(U.shape[1], dtype=U.dtype, device=U.device)).abs()
    if gap.numel() and gap.max() > ORTHONORMAL_TOLERANCE:
        raise ValueError(
            f"{name} {tuple(U.shape)} has columns that are not orthonormal, max|UᵀU − I| = {gap.max():.1e}; "
            "expected singular vectors as columns: U[:, :k], or Vh[:k].T"
        )
    return U


def _column_factor(x: Update) -> Float64[Tensor, "out k"]:
    """F with F Fᵀ ∝ x xᵀ, scaled so that its squares fit in fp64. A low-rank x stays thin."""
    if isinstance(x, LowRank):
        U, sigma, _ = svd(x)
        return U * scaled(sigma[None])[0]
    return scaled(checked_matrix(x, "delta_weight"))[0]
