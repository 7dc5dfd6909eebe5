"""How much of the same directions two updates use."""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lorax_lab.spectra.matrix import LowRank, Update, checked_matrix, scaled, svd
from lorax_lab.spectra.measures import numerical_rank

ORTHONORMAL_TOLERANCE = 1e-4
"""Largest allowed entry of |UᵀU − I|: vectors stored in fp32 pass, those stored in bf16 do not."""


def subspace_similarity(U_a: Float[Tensor, "d i"], U_b: Float[Tensor, "d j"]) -> float:
    """Subspace similarity, φ = ‖U_aᵀ U_b‖²_F / min(i, j) (Hu et al. 2021, sec. 7.2, eq. 4).

    The mean squared cosine of the principal angles: 1 where one space holds the other, 0 where they are
    orthogonal, `random_similarity` for unrelated ones.

    Args:
        U_a: (d, i), orthonormal columns: top-i left singular vectors, or the right ones as Vh[:i].T.
        U_b: (d, j), orthonormal columns.

    Returns:
        In [0, 1] up to rounding; NaN if i or j is 0.

    Raises:
        ValueError: not 2-D, different d, or columns that are not orthonormal.

    >>> subspace_similarity(torch.eye(4)[:, :2], torch.eye(4)[:, 1:4])
    0.5
    """
    U_a, U_b = _orthonormal(U_a, "U_a"), _orthonormal(U_b, "U_b")
    if len(U_a) != len(U_b):
        raise ValueError(
            f"U_a has {len(U_a)} rows and U_b {len(U_b)}; both must be vectors of the same space "
            "(left with left, right with right)"
        )
    directions = min(U_a.shape[1], U_b.shape[1])
    return (U_a.T @ U_b).square().sum().item() / directions if directions else math.nan


def random_similarity(i: int, j: int, d: int) -> float:
    """Expected `subspace_similarity` of two random subspaces, max(i, j) / d.

    E‖U_aᵀ U_b‖²_F = i j / d for one fixed and one uniformly random space; 1 if one of them is everything.

    Args:
        i, j: sizes of the subspaces, 1..d.
        d: size of the space.

    Raises:
        ValueError: i or j outside 1..d.

    >>> random_similarity(8, 64, 256)
    0.25
    """
    if not (1 <= i <= d and 1 <= j <= d):
        raise ValueError(f"i is {i} and j is {j}; expected 1 to d = {d}")
    return max(i, j) / d


def column_share(delta_weight: Update, other: LowRank) -> float:
    """Share of ‖ΔW‖²_F inside the column space of another update, ‖Qᵀ ΔW‖²_F / ‖ΔW‖²_F.

    Q is an orthonormal basis of what `other` can write to, its (numerically nonzero) left singular vectors:
    how much of a full update a LoRA's outputs could carry. 1 if all of it, 0 if none. A random `other`
    captures `random_share(rank, out)` on average.

    Args:
        delta_weight: (out, in), dense or low-rank.
        other: low-rank update of the same shape.

    Returns:
        In [0, 1] up to rounding; NaN if delta_weight is zero, 0 if `other` is.

    Raises:
        ValueError: different shapes, or nan or inf inside.

    >>> column_share(torch.diag(torch.tensor([3.0, 4.0])), LowRank(torch.eye(2, 1), torch.ones(1, 2)))
    0.36
    """
    if tuple(delta_weight.shape) != other.shape:
        raise ValueError(
            f"delta_weight has shape {tuple(delta_weight.shape)} and the other update {other.shape}; "
            "both must be (out, in) of the same matrix"
        )
    U, sigma, _ = svd(other)
    Q = U[:, : numerical_rank(sigma, other.shape)]
    W = _column_factor(delta_weight)
    energy = W.square().sum().item()
    return (Q.T @ W).square().sum().item() / energy if energy else math.nan


def row_share(delta_weight: Update, other: LowRank) -> float:
    """Share of ‖ΔW‖²_F inside the row space of another update, ‖ΔW Q‖²_F / ‖ΔW‖²_F.

    Q is an orthonormal basis of what `other` can read: how much of a full update a LoRA's inputs could
    carry. 1 if all of it, 0 if none. A random `other` captures `random_share(rank, in)` on average.

    Args, Returns, Raises: as `column_share`.

    >>> row_share(torch.diag(torch.tensor([3.0, 4.0])), LowRank(torch.ones(2, 1), torch.eye(1, 2)))
    0.36
    """
    return column_share(delta_weight.T, other.T)


def random_share(rank: int, features: int) -> float:
    """Expected share of any fixed update inside a random subspace, rank / features.

    Args:
        rank: of the other update.
        features: out for `column_share`, in for `row_share`.

    Raises:
        ValueError: rank outside 0..features.

    >>> random_share(8, 64)
    0.125
    """
    if not 0 <= rank <= features or features == 0:
        raise ValueError(f"rank is {rank}; expected 0 to the number of features, {features}")
    return rank / features


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
    """F with F Fᵀ ∝ x xᵀ, of a size whose squares fit in fp64; a low-rank x stays thin."""
    if isinstance(x, LowRank):
        U, sigma, _ = svd(x)
        return U * scaled(sigma[None])[0]
    return scaled(checked_matrix(x, "delta_weight"))[0]
