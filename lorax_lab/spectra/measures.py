"""How many directions an update uses: measures of its singular values.

Every measure takes sigma, (m,), non-negative and finite, in any order; a ValueError says what else it was. It first
divides sigma by its largest value, so none depends on the size of the update. For every matrix, with p_i = σ_i² / Σσ²,

    stable rank ≤ participation ratio ≤ energy-entropy rank ≤ effective rank ≤ rank,

since the first three are the exponentials of the Rényi entropies of p of order ∞, 2 and 1, and the fourth
that of the flatter distribution σ_i / Σσ.

The zero matrix (also one with no entries) uses no direction, so its p is 0/0: the real-valued measures are NaN there. A
mean over matrices would overlook a 0, but not a NaN. The counted ranks are 0. All others lie in [1, m].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

EPS64 = torch.finfo(torch.float64).eps


def effective_rank(sigma: Float[Tensor, " m"]) -> float:
    """Effective rank, exp(−Σ p_i ln p_i) with p_i = σ_i / Σσ (Roy & Vetterli 2007).

    1 for a single direction, k for k equal values; Gaussian noise gives .80 m (square) to .97 m (1 : 4).
    Note that p comes from σ, not from σ²: for the latter see `energy_entropy_rank`.

    >>> effective_rank(torch.tensor([2.0, 2.0, 2.0, 0.0]))
    3.0
    """
    return _exp_entropy(_relative(sigma))


def energy_entropy_rank(sigma: Float[Tensor, " m"]) -> float:
    """Energy-entropy rank, exp(−Σ p_i ln p_i) with p_i = σ_i² / Σσ²: `effective_rank` of the energies.

    1 for a single direction, k for k equal values; Gaussian noise gives .61 m (square) to .88 m (1 : 4).

    >>> energy_entropy_rank(torch.tensor([5.0, 5.0, 0.0]))
    2.0
    """
    return _exp_entropy(_relative(sigma).square())


def stable_rank(sigma: Float[Tensor, " m"]) -> float:
    """Stable rank, ‖ΔW‖²_F / ‖ΔW‖²_2 = Σσ² / σ_1² (Rudelson & Vershynin 2007).

    1 for a single direction, k for k equal values; Gaussian noise gives m / (1 + √β)², β = min / max side.

    >>> stable_rank(torch.tensor([4.0, 3.0]))
    1.5625
    """
    relative = _relative(sigma)
    return relative.square().sum().item() if relative.any() else math.nan


def participation_ratio(sigma: Float[Tensor, " m"]) -> float:
    """Participation ratio, (Σσ²)² / Σσ⁴ = 1 / Σp_i² with p_i = σ_i² / Σσ².

    1 for a single direction, k for k equal values; Gaussian noise gives m / (1 + β), β = min / max side.

    >>> participation_ratio(torch.tensor([2.0, 1.0])) == 25 / 17
    True
    """
    energy = _relative(sigma).square()
    return (energy.sum().square() / energy.square().sum()).item()


def energy_rank(sigma: Float[Tensor, " m"], share: float) -> int:
    """Energy rank, the smallest k with Σ_{i≤k} σ_i² ≥ share · Σσ² (Biderman et al. 2024).

    ⌈share · n⌉ for n equal values. Gaussian noise of a square matrix already takes .51 m for a share of .9:
    read this measure next to `gaussian_null`. Equality is decided with a tolerance of 4 m eps, about what
    summing rounds off, so that an exact tie does not take one direction more.

    Args:
        share: of the energy ‖ΔW‖²_F, in (0, 1].

    Raises:
        ValueError: share is outside (0, 1].

    >>> energy_rank(torch.tensor([2.0, 1.0, 1.0]), share=0.8)
    2
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; expected a share of the energy in (0, 1], such as 0.9")
    energy = _relative(sigma).square().cumsum(0)
    if not energy.any():
        return 0
    threshold = share * energy[-1] * (1 - 4 * len(energy) * EPS64)
    return int((energy < threshold).sum()) + 1


def numerical_rank(sigma: Float[Tensor, " m"], shape: Sequence[int], eps: float = EPS64) -> int:
    """Numerical rank, the number of σ_i > max(out, in) · eps · σ_1 (Golub & Van Loan).

    So much may rounding the entries add to a singular value. eps is that of the numbers in which the update was
    *computed*, not of those in which sigma is stored. A difference of fp32 weights needs
    `torch.finfo(torch.float32).eps` · ‖W‖/‖ΔW‖, or noise counts as rank.

    Args:
        shape: (out, in) of the update.
        eps: relative rounding error of the entries.

    >>> numerical_rank(torch.tensor([1.0, 1e-3, 1e-17]), shape=(3, 4))
    2
    """
    return int((_relative(sigma) > max(shape) * eps).sum())


MEASURES: dict[str, Callable[[Tensor], float]] = {
    "effective_rank": effective_rank,
    "energy_entropy_rank": energy_entropy_rank,
    "stable_rank": stable_rank,
    "participation_ratio": participation_ratio,
    "energy_rank_50": partial(energy_rank, share=0.50),
    "energy_rank_90": partial(energy_rank, share=0.90),
    "energy_rank_95": partial(energy_rank, share=0.95),
    "energy_rank_99": partial(energy_rank, share=0.99),
}
"""The measures of sigma alone: a new one is a line here and appears in every summary and null."""


def summary(sigma: Float[Tensor, " m"], shape: Sequence[int], eps: float = EPS64) -> dict[str, float]:
    """Every measure of one update by name, with its numerical rank and its two norms.

    Args:
        shape: (out, in) of the update, for `numerical_rank`.
        eps: relative rounding error of the entries, for `numerical_rank`.

    Returns:
        The names of `MEASURES`, numerical_rank, frobenius_norm = √Σσ² and spectral_norm = σ_1. For the
        zero matrix the norms and counted ranks are 0 and the other measures NaN.

    >>> measures = summary(torch.tensor([4.0, 3.0]), shape=(2, 2))
    >>> measures["stable_rank"], measures["energy_rank_90"], measures["frobenius_norm"]
    (1.5625, 2.0, 5.0)
    """
    relative = _relative(sigma)
    spectral_norm = float(sigma.max()) if len(sigma) else 0.0
    measured = {name: float(measure(sigma)) for name, measure in MEASURES.items()}
    return measured | {
        "numerical_rank": float(numerical_rank(sigma, shape, eps=eps)),
        "frobenius_norm": spectral_norm * relative.square().sum().sqrt().item(),
        "spectral_norm": spectral_norm,
    }


def _relative(sigma: Float[Tensor, " m"]) -> Float64[Tensor, " m"]:
    """σ / σ_1 descending in fp64 on the CPU; zeros stay zeros."""
    if sigma.ndim != 1:
        raise ValueError(f"sigma has shape {tuple(sigma.shape)}; expected one dimension (m,)")
    sigma = sigma.detach().to("cpu", torch.float64)
    if not ((sigma >= 0) & (sigma < math.inf)).all():
        raise ValueError(f"sigma has a negative, nan or infinite entry (of {len(sigma)}): {sigma}")
    sigma = sigma.sort(descending=True).values
    return sigma / sigma[0] if sigma.any() else sigma


def _exp_entropy(weight: Float64[Tensor, " m"]) -> float:
    """exp H(w / S) as S exp(−Σ w ln w / S), S = Σw: exactly k for k weights of 1; NaN if all are zero."""
    total = weight.sum()
    entropy: Tensor = torch.special.entr(weight).sum()
    return (total * (entropy / total).exp()).item()
