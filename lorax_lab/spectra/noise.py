"""Signal and noise in one spectrum: the noise's scale, the spikes above it, and how strong they really are.

The model is ΔW = S + std · X, S of low rank and X with iid entries. X then fills the bulk of Marchenko & Pastur and
the strong directions of S stand above it as spikes. `bulk_misfit` says whether an update has such a bulk. If it has
none, the "noise" is only the shape of the spectrum's middle, and the number of spikes is not told (`tells_spikes`):
rows of unequal size, heavy tails or correlated entries make as many as a signal. `structured` has nulls for the former.

Everywhere `sigma` is (m,), non-negative and finite, in any order; those missing to min(shape) count as zeros. `shape`
is (out, in); `std` is that of the noise entries, ≥ 0, and None fits it by `noise_scale`. Else there is a ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lorax_lab.spectra.measures import EPS64
from lorax_lab.spectra.null import (
    gaussian_median,
    gaussian_share_above,
    gaussian_singular_values,
    noise_ceiling,
    noise_edge,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

TOLD = 2.0
"""How many times the misfit of iid noise a bulk may have. None of 7,000 Gaussian matrices, 8² to 96 × 200, had it."""


def noise_scale(sigma: Float[Tensor, " m"], shape: Sequence[int]) -> float:
    """Standard deviation of the noise entries, fitted to the bulk: Σ σ_i q_i / Σ q_i² over its middle 80 %.

    q are the `gaussian_singular_values` of the (out − k, in − k) matrix that k spikes leave over; from k = 0 on, the
    spikes above the `noise_ceiling` of one fit are left out of the next. The tenth at either end is left out: spikes
    that were missed hide there, and the limit holds least. On Gaussian noise it is .3 % low and scatters by 2.4 % at
    32², by .1 and .6 % at 128². m/5 spikes of θ = 3 (see `spike_strength`) lower it by 1 %; stronger spikes do not. As
    many weak spikes, too near the edge to be seen, raise it by some 10 %.

    Returns:
        ≥ 0; 0 for a numerically low-rank update of few directions, given as its factors or multiplied out.

    >>> round(noise_scale(0.5 * gaussian_singular_values((40, 60)), (40, 60)), 6)
    0.5
    """
    sigma, std, k, above = _completed(sigma, shape), 0.0, -1, 0
    while above > k:
        k, std = above, _fit(sigma, shape, above)
        above = int((sigma > noise_ceiling(shape, std)).sum())
    return std


def spikes(sigma: Float[Tensor, " m"], shape: Sequence[int], std: float | None = None) -> int:
    """Number of spikes, #{σ_i > `noise_ceiling`}: directions that noise does not make.

    Pure noise shows one in about one matrix of 1,000 with its std known, and in about two with it fitted. A planted
    direction can be found if its `spike_strength` θ is above std (out · in)^¼.

    Returns:
        In 0..m. With std 0 the number of values above 0.

    >>> spikes(torch.tensor([5.0, 1.0, 0.9, 0.8]), (100, 4), std=0.1)  # the edge is 0.1 (10 + 2)
    1
    """
    return _split(sigma, shape, std)[2]


def bulk_misfit(sigma: Float[Tensor, " m"], shape: Sequence[int], std: float | None = None) -> float:
    """Kolmogorov–Smirnov distance of the bulk from Marchenko–Pastur, max |F(σ) − F_MP(σ / std)| below the spikes.

    Above twice `noise_misfit` the bulk is not iid noise, and `spikes` counts what stands above a chosen line, not above
    noise. Gaussian rows of lognormal size, sd .1, .3 and 1, give .008, .035 and .10 at 768²; full updates of an encoder
    .06 to .20.

    Returns:
        In [1 / 2M, 1] for M values in the bulk; NaN if there is none or std is 0.

    >>> round(bulk_misfit(gaussian_singular_values((40, 60)), (40, 60)), 6) == 1 / (2 * 40)
    True
    """
    sigma, std, k = _split(sigma, shape, std)
    bulk = sigma[k:] / std if std else sigma[:0]
    if not len(bulk):
        return math.nan
    expected = gaussian_share_above(bulk, (shape[0] - k, shape[1] - k))
    steps = torch.arange(len(bulk) + 1, dtype=torch.float64) / len(bulk)
    return torch.maximum((expected - steps[:-1]).abs(), (expected - steps[1:]).abs()).max().item()


def noise_misfit(shape: Sequence[int]) -> float:
    """`bulk_misfit` of iid noise of a shape, about (.4 + .27 log2 m) / m with m the smaller side, square or oblong.

    Gaussian noise, whose values repel each other and keep to their places, gives .055, .018, .0055 and .0017 at m = 32,
    128, 512 and 2048; 1 / m more in one matrix of 100. 0 for an empty shape.

    >>> round(noise_misfit((384, 1536)), 4)
    0.0071
    """
    m = min(shape)
    return (0.4 + 0.27 * math.log2(m)) / m if m else 0.0


def tells_spikes(misfit: float, std: float, shape: Sequence[int]) -> bool:
    """Whether `spikes` counts directions above noise: the bulk is that of iid noise, or there is no noise.

    Args:
        misfit: `bulk_misfit`; NaN where it was not measured.
        std: `noise_scale`; 0 for an update without noise, whose spikes are all of its directions.

    Returns:
        False above twice `noise_misfit`, and where neither is known.

    >>> [tells_spikes(misfit, 0.1, (384, 384)) for misfit in (0.007, 0.1, math.nan)]
    [True, False, False]
    """
    return std == 0 or misfit <= TOLD * noise_misfit(shape)


def spike_strength(sigma: Float[Tensor, " m"], shape: Sequence[int], std: float) -> Float64[Tensor, " m"]:
    """Singular value θ of the signal alone for each singular value, descending (Benaych-Georges & Nadakuditi 2012).

    With s = σ/(std √n), m ≤ n the sides, β = m/n and Y = θ u vᵀ + X/√n: s = √((1 + θ²)(β + θ²)) / θ if θ > β^¼, so

        θ² = (s² − 1 − β + √((s² − 1 − β)² − 4β)) / 2.

    Above the edge θ starts at std (mn)^¼; far above it θ = σ. At and below `noise_edge` nothing can be known, and it is
    0. The limit for few spikes in a large matrix.

    >>> spike_strength(torch.tensor([2.5, 2.0]), (100, 100), std=0.1).round(decimals=6).tolist()  # √(5 · 5) / 2 = 2.5
    [2.0, 0.0]
    """
    sigma, n = _completed(sigma, shape)[: len(sigma)], max(*shape, 1)
    beta, above = min(shape) / n, sigma > noise_edge(shape, std)
    x = torch.where(above, std * math.sqrt(n) / sigma, 0).square()  # 1/s²: nothing overflows
    rest = 1 - (1 + beta) * x
    share = (rest + (rest.square() - 4 * beta * x.square()).clamp(min=0).sqrt()) / 2  # θ²/s²
    return sigma * share.sqrt() * above


def signal_share(sigma: Float[Tensor, " m"], shape: Sequence[int], std: float | None = None) -> tuple[float, float]:
    """Share of the energy ‖ΔW‖²_F in the `spikes`: (Σ σ_i², Σ θ_i²) / Σ σ² over them, raw and cleaned of noise.

    (0, 0) for pure noise, (1, 1) without any noise. The raw share includes the noise along each spike, about
    std² (out + in) of it; the cleaned one takes θ from `spike_strength`.

    Returns:
        Two shares in [0, 1], the first the larger; NaN for the zero matrix.

    >>> signal_share(torch.tensor([4.0, 3.0]), (2, 2), std=0.0)
    (1.0, 1.0)
    """
    sigma, std, k = _split(sigma, shape, std)
    if not sigma.any():
        return math.nan, math.nan
    theta = spike_strength(sigma, shape, std)[:k]
    relative = torch.stack((sigma[:k], theta)) / sigma[0]
    raw, cleaned = (relative.square().sum(1) / (sigma / sigma[0]).square().sum()).tolist()
    return raw, cleaned


def gavish_donoho_rank(sigma: Float[Tensor, " m"], shape: Sequence[int]) -> float:
    """Rank by the optimal hard threshold beside noise of unknown size, #{σ_i > ω median(σ)} (Gavish & Donoho 2014).

    ω = λ* / √μ_β, 2.858 for a square matrix, with μ_β the median of the Marchenko–Pastur law, here exact and not the
    paper's cubic. λ* = √(2(β + 1) + 8β / (β + 1 + √(β² + 14β + 1))) is where keeping a direction begins to add less
    error than dropping it: above the edge 1 + √β that `spikes` counts from. Right if the rank is small beside m.

    Returns:
        In 0..m; NaN where the median is at rounding level, max(out, in) eps σ_1, or below: a numerically low-rank
        update has no noise to tell.

    >>> [gavish_donoho_rank(torch.tensor([largest, 1.0, 1.0]), (3, 3)) for largest in (2.9, 2.8)]
    [1.0, 0.0]
    """
    completed, m, n = _completed(sigma, shape), min(shape), max(shape)
    if m == 0:
        return 0.0
    if not completed[m // 2]:
        return math.nan
    beta = m / n
    cut = math.sqrt(2 * (beta + 1) + 8 * beta / (beta + 1 + math.sqrt(beta**2 + 14 * beta + 1)))
    edge = noise_edge(shape, completed.quantile(0.5).item() / gaussian_median(m, n))
    return float((completed > edge * cut / (1 + math.sqrt(beta))).sum())


def _split(sigma: Tensor, shape: Sequence[int], std: float | None) -> tuple[Float64[Tensor, " m"], float, int]:
    """(sigma completed, std of the noise, number of spikes)."""
    completed = _completed(sigma, shape)
    std = noise_scale(completed, shape) if std is None else std
    return completed, std, int((completed > noise_ceiling(shape, std)).sum())


def _fit(sigma: Float64[Tensor, " m"], shape: Sequence[int], k: int) -> float:
    """std of the noise from what remains without the first k values and a tenth of the rest at either end."""
    expected, ends = gaussian_singular_values((shape[0] - k, shape[1] - k)), (len(sigma) - k) // 10
    middle, expected = sigma[k + ends : len(sigma) - ends], expected[ends : len(expected) - ends]
    return (middle * (expected / expected.square().sum())).sum().item()


def _completed(sigma: Float[Tensor, " k"], shape: Sequence[int]) -> Float64[Tensor, " m"]:
    """sigma descending in fp64 on the CPU, with the zeros that a low-rank form leaves out; rounding level is 0 too."""
    m = min(shape)
    if sigma.ndim != 1 or len(sigma) > m:
        raise ValueError(f"sigma has shape {tuple(sigma.shape)}; expected (m,), m ≤ {m}, for shape {tuple(shape)}")
    if not ((sigma >= 0) & (sigma < math.inf)).all():
        raise ValueError(f"sigma has a negative, nan or infinite entry (of {len(sigma)}): {sigma}")
    sigma = sigma.detach().to("cpu", torch.float64).sort(descending=True).values
    sigma = torch.cat([sigma, sigma.new_zeros(m - len(sigma))])
    return torch.where(sigma > max(shape) * EPS64 * sigma[:1], sigma, 0)
