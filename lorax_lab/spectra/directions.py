"""What an update does with the directions of the base matrix: amplifies them, or adds new ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lorax_lab.spectra.matrix import checked_matrix, scaled
from lorax_lab.spectra.subspaces import random_cosines_below, random_max_cosine

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

Shape = tuple[int, int]
EPSILON = 0.5
"""The ε of intruder dimensions, as in the paper."""
SMALLEST = 1e-6
"""Singular values of the base below this share of the largest give no cosine through them."""


@dataclass(frozen=True)
class Amplification:
    """How much an update amplifies what the base does in its directions, with two controls (Hu et al. 2021, Table 7).

    Args:
        factor, random_factor, base_factor: ‖ΔW‖_F over base_in_delta, base_in_random and base_in_base. Inf where the
            base does nothing in those directions, NaN where ΔW is zero too.
        rank, delta_norm: r, the number of directions, and ‖ΔW‖_F.
        base_in_delta: ‖U_rᵀ W V_r‖_F in the top-r directions of ΔW; NaN if ΔW is zero, since it then has no directions.
        base_in_random: its root mean square in random directions, r ‖W‖_F / √(out · in).
        base_in_base: its value in the top-r directions of W, √(Σ_{i≤r} σ_i²), the largest there is.
    """

    factor: float
    random_factor: float
    base_factor: float
    rank: int
    delta_norm: float
    base_in_delta: float
    base_in_random: float
    base_in_base: float


def amplification(
    delta_norm: float, projected: Float[Tensor, "r r"], base_norm: float, base_sigma: Float[Tensor, " k"], shape: Shape
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
        ValueError: r outside 1..min(shape), k < r, a norm below 0, or nan or inf inside.

    >>> amplified = amplification(5.0, torch.diag(torch.tensor([0.0, 2.0])), 6.0, torch.tensor([4.0, 3.0, 1.0]), (3, 4))
    >>> amplified.factor, amplified.base_in_base, amplified.base_factor
    (2.5, 5.0, 1.0)
    """
    rank = len(projected)
    if projected.shape != (rank, rank) or not 1 <= rank <= min(shape):
        raise ValueError(f"projected has shape {tuple(projected.shape)}; expected (r, r) with r in 1..{min(shape)}")
    if len(base_sigma) < rank:
        raise ValueError(f"base_sigma has {len(base_sigma)} values; expected at least r = {rank}, the largest first")
    _check_norms(delta_norm=delta_norm, base_norm=base_norm)
    in_delta = _norm(checked_matrix(projected, "projected")) if delta_norm else math.nan
    in_random = rank * (base_norm / math.sqrt(math.prod(shape)))
    in_base = _norm(checked_matrix(base_sigma[None, :rank], "base_sigma"))
    factor, random_factor, base_factor = (_ratio(delta_norm, norm) for norm in (in_delta, in_random, in_base))
    return Amplification(factor, random_factor, base_factor, rank, delta_norm, in_delta, in_random, in_base)


@dataclass(frozen=True)
class Intruders:
    """The intruder dimensions on one side of a tuned matrix, beside what random directions would give.

    Args:
        count, k, indices: how many of the top k directions are intruders, and which, 0 the largest.
        energy_share: Σσ_i² of the intruders / Σσ² of the tuned matrix, in [0, 1]; NaN if that is zero.
        max_cosines: (k,), max_i |cos| to the directions of the base; 0 if it has none.
        base_directions: p, how many directions of the base were compared with.
        random_count, random_energy_share: expected count and energy_share if the k directions were random.
        random_max_cosine: expected max_i |cos| of a random direction.
    """

    count: int
    k: int
    indices: tuple[int, ...]
    energy_share: float
    max_cosines: tuple[float, ...]
    base_directions: int
    random_count: float
    random_energy_share: float
    random_max_cosine: float


def intruders(cosines: Float[Tensor, "p k"], sigma: Float[Tensor, " k"], norm: float, features: int) -> Intruders:
    """Intruder dimensions: top-k singular vectors y of W_tuned with max_i |⟨x_i, y⟩| < ε (Shuttleworth et al. 2024).

    x_i are all singular vectors of W_0 on the same side. None if only singular values changed. In more than a hundred
    dimensions a random direction always is an intruder. So is an even mix of more than 1/ε² old directions, although it
    is not new: read the count beside the energy. Directions with σ_i below rounding are arbitrary: leave them out.

    Args:
        cosines: (p, k), of the p base directions with the top k of W_tuned, any sign: U_0ᵀ U, or `cosines_through`.
        sigma, norm: (k,), the singular values of those k, and ‖W_tuned‖_F.
        features: d ≥ p, the size of the space: out for left vectors, the paper's own, in for right ones.

    Raises:
        ValueError: sizes that do not fit, norm below 0, or nan or inf inside.

    >>> left = intruders(torch.tensor([[0.6, -0.1], [0.0, 0.4]]), torch.tensor([4.0, 3.0]), 5.0, features=2)
    >>> left.indices, left.count / left.k
    ((1,), 0.5)
    """
    cosines, sigma = checked_matrix(cosines, "cosines").abs(), checked_matrix(sigma[None], "sigma")[0]
    p, k = cosines.shape
    _check_norms(norm=norm)
    if len(sigma) != k:
        raise ValueError(f"sigma has {len(sigma)} values and cosines {k} columns; expected one for each direction")
    largest = cosines.amax(0).tolist() if p else [0.0] * k
    shares = [_ratio(value, norm) ** 2 for value in sigma.tolist()]
    indices = tuple(index for index, cosine in enumerate(largest) if cosine < EPSILON)
    random_share = random_cosines_below(EPSILON, p, features)
    return Intruders(
        count=len(indices),
        k=k,
        indices=indices,
        energy_share=sum((shares[index] for index in indices), 0.0) if norm else math.nan,
        max_cosines=tuple(largest),
        base_directions=p,
        random_count=k * random_share,
        random_energy_share=random_share * sum(shares) if norm else math.nan,
        random_max_cosine=random_max_cosine(p, features),
    )


def cosines_through(
    U: Float[Tensor, "out m"], sigma: Float[Tensor, " m"], image: Float[Tensor, "out k"]
) -> Float64[Tensor, "p k"]:
    """Cosines with the right singular vectors of W_0 from its left ones, |u_iᵀ W_0 x| / σ_i, as v_i = W_0ᵀ u_i / σ_i.

    For the wide side of a matrix whose Gram matrix W_0 W_0ᵀ = U diag(σ²) Uᵀ is known; with V and W_0ᵀ x for a tall
    one. A v_i with σ_i ≤ 1e-6 σ_1 drowns in rounding and is left out: the vectors of an fp64 Gram matrix give cosines
    right to 2e-4 there, and noise at 1e-7.

    Args:
        U, sigma: (out, m) and (m,), left singular vectors of W_0 and its singular values, in any order.
        image: (out, k), W_0 x for unit vectors x as columns.

    Returns:
        In [0, 1] up to rounding, a row for each of the p directions that are kept; m − p were left out.

    Raises:
        ValueError: sizes that do not fit, a negative sigma, or nan or inf inside.

    >>> image = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]) @ torch.tensor([[0.5], [0.0], [0.75**0.5]])
    >>> cosines_through(torch.eye(2), torch.tensor([2.0, 0.0]), image).tolist()
    [[0.5]]
    """
    U, image, sigma = (checked_matrix(x, name) for x, name in ((U, "U"), (image, "image"), (sigma[None], "sigma")))
    if U.shape != (len(image), sigma.shape[1]):
        raise ValueError(f"U is {tuple(U.shape)}, image {tuple(image.shape)} and sigma {sigma.shape[1]}; they must fit")
    if (sigma < 0).any():
        raise ValueError(f"{int((sigma < 0).sum())} of sigma are negative; expected all ≥ 0")
    is_used = sigma[0] > SMALLEST * max(sigma[0].tolist(), default=0.0)
    return (U[:, is_used].T @ image).abs() / sigma[0, is_used, None]


def _norm(x: Float64[Tensor, "*size"]) -> float:
    """‖x‖_F, also where the squares leave the fp64 range."""
    row, exponent = scaled(x.reshape(1, -1))
    return math.ldexp(torch.linalg.vector_norm(row).item(), exponent)


def _ratio(above: float, below: float) -> float:
    return above / below if below else math.inf if above else math.nan


def _check_norms(**norms: float) -> None:
    for name, norm in norms.items():
        if not 0 <= norm < math.inf:
            raise ValueError(f"{name} is {norm}; expected a finite Frobenius norm ≥ 0")
