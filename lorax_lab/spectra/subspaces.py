"""How much of the same directions two updates use, and how much an update amplifies those of its base."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lorax_lab.spectra.gram import top_directions
from lorax_lab.spectra.matrix import LowRank, Update, checked_matrix, scaled, svd
from lorax_lab.spectra.measures import numerical_rank

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

ORTHONORMAL_TOLERANCE = 1e-4
"""Largest allowed entry of |UᵀU − I|: vectors stored in fp32 pass, those stored in bf16 do not."""


def subspace_similarities(U_a: Float[Tensor, "d i"], U_b: Float[Tensor, "d j"]) -> Float64[Tensor, "i j"]:
    """Similarity of the first i with the first j directions, φ = ‖U_aᵀ U_b‖²_F / min(i, j) (Hu et al. 2021, sec. 7.2,
    eq. 4, figs. 3, 4), for all i and j at once.

    The mean squared cosine of the principal angles: 1 where one space holds the other, 0 where they are orthogonal,
    max(i, j) / d in the mean of unrelated ones. With p = min(i, j) and the projection distance d² = Σ sin² θ of these
    angles, φ = Σ cos² θ / p is 1 − d²/p; the paper's app. G prints (1/p)(1 − d²).

    Args:
        U_a, U_b: (d, i) and (d, j), orthonormal columns, the largest directions first: top left singular vectors, or
            right ones as Vh[:i].T.

    Returns:
        φ(i, j) at [i − 1, j − 1], in [0, 1] up to rounding.

    Raises:
        ValueError: not 2-D, different d, or columns that are not orthonormal.

    >>> subspace_similarities(torch.eye(3)[:, :2], torch.eye(3)[:, [1, 0]]).tolist()
    [[0.0, 1.0], [1.0, 1.0]]
    """
    U_a, U_b = _orthonormal(U_a, "U_a"), _orthonormal(U_b, "U_b")
    if len(U_a) != len(U_b):
        raise ValueError(f"U_a has {len(U_a)} rows and U_b {len(U_b)}; compare left with left, right with right")
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


def random_directions(size: int, count: int, generator: torch.Generator) -> Float64[Tensor, "size count"]:
    """Orthonormal columns, uniform over all such (Haar): those of QR, made unique by a positive diagonal of R (Mezzadri
    2007).

    >>> Q = random_directions(5, 2, torch.Generator().manual_seed(0))
    >>> torch.allclose(Q.T @ Q, torch.eye(2, dtype=torch.float64))
    True
    """
    Q, R = torch.linalg.qr(torch.randn(size, count, generator=generator, dtype=torch.float64))
    return Q * R.diagonal().sign()


def intruders(
    tuned: Float[Tensor, "out in"], U_base: Float[Tensor, "out m"], among: int = 10, cosine: float = 0.5
) -> tuple[Float64[Tensor, "out k"], Float64[Tensor, " k"], Float64[Tensor, "k in"]]:
    """The intruder dimensions of a tuned matrix W0 + ΔW: those of its top singular directions that are like none of
    W0's (Shuttleworth et al. 2024, https://arxiv.org/abs/2410.21228). A random direction is one too.

    Args:
        tuned: (out, in), W0 + ΔW.
        U_base: (out, m), all left singular vectors of W0.
        among: how many of the top directions are looked at; this and `cosine` as PEFT 0.21 has them.
        cosine: below which |uᵀ U_base| has to stay for all m.

    Returns:
        (U, sigma, Vh) of the k intruders, 0 ≤ k ≤ among.

    >>> W0 = torch.diag(torch.tensor([3.0, 2.0, 0.0]))
    >>> delta_weight = torch.diag(torch.tensor([1.0, 1.0, 5.0]))
    >>> intruders(W0 + delta_weight, torch.eye(3)[:, :2])[1].tolist()
    [5.0]
    """
    U, sigma, Vh = top_directions(tuned, min(among, *tuned.shape))
    alike = (U.T @ _orthonormal(U_base, "U_base")).abs().amax(dim=1)
    is_intruder = alike < cosine
    return U[:, is_intruder], sigma[is_intruder], Vh[is_intruder]


@dataclass(frozen=True)
class Amplification:
    """How much an update amplifies what the base does in its directions, with two controls (Hu et al. 2021, Table 7).

    Args:
        factor, random_factor, base_factor: ‖ΔW‖_F over base_in_delta, base_in_random and base_in_base. Inf where the
            base does nothing in those directions, NaN where ΔW is zero too.
        delta_norm: ‖ΔW‖_F.
        base_in_delta: ‖U_rᵀ W V_r‖_F in the top-r directions of ΔW; NaN if ΔW is zero, since it then has no directions.
        base_in_random: its root mean square in random directions, r ‖W‖_F / √(out · in).
        base_in_base: its value in the top-r directions of W, √(Σ_{i≤r} σ_i²), the largest there is.
    """

    factor: float
    random_factor: float
    base_factor: float
    delta_norm: float
    base_in_delta: float
    base_in_random: float
    base_in_base: float


def amplification(
    delta_norm: float,
    projected: Float[Tensor, "r r"],
    base_norm: float,
    base_sigma: Float[Tensor, " k"],
    shape: tuple[int, int],
) -> Amplification:
    """Amplification factor, ‖ΔW‖_F / ‖U_rᵀ W V_r‖_F (Hu et al. 2021, sec. 7.3), with its controls.

    U_r, V_r are the top-r singular vectors of ΔW, r at most its numerical rank: further ones are arbitrary. At
    `base_factor` ΔW repeats the strongest directions of W, at `random_factor` it ignores W; in the paper it lies
    between. It falls as r grows: compare at the same r only. The random control is exact: in random subspaces each
    entry of UᵀWV has the mean square ‖W‖²_F / (out · in).

    Args:
        delta_norm, base_norm: ‖ΔW‖_F and ‖W‖_F.
        projected, shape: (r, r), U_rᵀ W V_r, and (out, in) of W.
        base_sigma: (k,), the k ≥ r largest singular values of W, descending.

    Raises:
        ValueError: r outside 1..min(shape), or nan or inf inside.

    >>> amplified = amplification(5.0, torch.diag(torch.tensor([0.0, 2.0])), 6.0, torch.tensor([4.0, 3.0, 1.0]), (3, 4))
    >>> amplified.factor, amplified.base_in_base, amplified.base_factor
    (2.5, 5.0, 1.0)
    """
    rank = len(projected)
    if projected.shape != (rank, rank) or not 1 <= rank <= min(shape):
        raise ValueError(f"projected has shape {tuple(projected.shape)}; expected (r, r) with r in 1..{min(shape)}")
    in_delta = _norm(checked_matrix(projected, "projected")) if delta_norm else math.nan
    in_random = rank * (base_norm / math.sqrt(math.prod(shape)))
    in_base = _norm(checked_matrix(base_sigma[None, :rank], "base_sigma"))
    factor, random_factor, base_factor = (_ratio(delta_norm, norm) for norm in (in_delta, in_random, in_base))
    return Amplification(factor, random_factor, base_factor, delta_norm, in_delta, in_random, in_base)


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


def _norm(x: Float64[Tensor, "*size"]) -> float:
    """‖x‖_F, also where the squares leave the fp64 range."""
    row, exponent = scaled(x.reshape(1, -1))
    return math.ldexp(torch.linalg.vector_norm(row).item(), exponent)


def _ratio(above: float, below: float) -> float:
    return above / below if below else math.inf if above else math.nan
