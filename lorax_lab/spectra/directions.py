"""How much an update amplifies the directions of its base that it uses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lorax_lab.spectra.matrix import checked_matrix, scaled

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

Shape = tuple[int, int]


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
    for name, norm in {"delta_norm": delta_norm, "base_norm": base_norm}.items():
        if not 0 <= norm < math.inf:
            raise ValueError(f"{name} is {norm}; expected a finite Frobenius norm ≥ 0")
    in_delta = _norm(checked_matrix(projected, "projected")) if delta_norm else math.nan
    in_random = rank * (base_norm / math.sqrt(math.prod(shape)))
    in_base = _norm(checked_matrix(base_sigma[None, :rank], "base_sigma"))
    factor, random_factor, base_factor = (_ratio(delta_norm, norm) for norm in (in_delta, in_random, in_base))
    return Amplification(factor, random_factor, base_factor, delta_norm, in_delta, in_random, in_base)


def _norm(x: Float64[Tensor, "*size"]) -> float:
    """‖x‖_F, also where the squares leave the fp64 range."""
    row, exponent = scaled(x.reshape(1, -1))
    return math.ldexp(torch.linalg.vector_norm(row).item(), exponent)


def _ratio(above: float, below: float) -> float:
    return above / below if below else math.inf if above else math.nan
