"""The floor under an update read from rounded weights: how large rounding is, and which measures it carries.

W_0 and W_0 + ΔW stored in a narrow format differ by ΔW plus rounding errors, which are noise of full rank: the
effective rank of a rank-8 update in bf16 weights reads 19 to 500.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lorax_lab.spectra.measures import summary
from lorax_lab.spectra.null import noise_ceiling, noise_edge

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

TOLERANCE = 0.1
"""The relative change of a measure that is let pass."""


def rounding_energy(
    weight: Float[Tensor, "out in"], dtype: torch.dtype
) -> tuple[Float64[Tensor, " out"], Float64[Tensor, " in"]]:
    """Expected squared error of storing a matrix in `dtype`, summed over each row and over each column: Σ ulp²/12.

    ulp = 2^(⌊log2 abs(w)⌋ − p + 1), p the significant bits: 8 in bf16, 11 in fp16, 24 and 53 in fp32 and fp64. Below
    the smallest normal number (6.1e-5 in fp16) ulp stays the smallest subnormal; 0 is stored exactly. The root of the
    mean over Gaussian weights in bf16 is .00166 of their std. The error is that of W_0 + ΔW; if W_0 is rounded too, the
    two make √2 of it. It is uniform, and so of this size, where ΔW is an ulp or more. A smaller one is lost in part,
    and surely where abs(ΔW) < abs(w)/512 in bf16: half an ulp is between abs(w)/512 and abs(w)/256.

    The sums of the blocks of a matrix add up to its own. For nan and inf the result has no meaning.

    >>> rows, columns = rounding_energy(torch.ones(2, 3), torch.bfloat16)
    >>> columns.tolist() == [2 * 2**-14 / 12] * 3, rows.sum() == columns.sum()
    (True, tensor(True))
    """
    info, wide = torch.finfo(dtype), weight.detach()
    wide = wide if wide.dtype == torch.float64 else wide.float()
    bits, mask = (torch.int64, 0x7FF << 52) if wide.dtype == torch.float64 else (torch.int32, 0xFF << 23)
    power = (wide.contiguous().view(bits) & mask).view(wide.dtype)  # 2^⌊log2 abs(w)⌋
    energy = power.clamp_(min=info.tiny).mul_(wide != 0).square_()
    return energy.sum(1).double() * (info.eps**2 / 12), energy.sum(0).double() * (info.eps**2 / 12)


def edge_of(rows: Float64[Tensor, " out"], columns: Float64[Tensor, " in"]) -> float:
    """Largest singular value of independent errors of unequal size, √max_i Σ_j v_ij + √max_j Σ_i v_ij.

    v_ij is the variance of entry (i, j), rows and columns their sums (Bandeira & van Handel 2016, whose bound has
    this as its leading term). Errors of one size make it `noise_edge`; it is raised by as much as `noise_ceiling` is
    above that.

    >>> round(edge_of(torch.full((9,), 16.0), torch.full((16,), 9.0)) / noise_ceiling((9, 16), 1.0), 12)
    1.0
    """
    shape = (len(rows), len(columns))
    if not min(shape) or not rows.any():
        return 0.0
    return (rows.max().sqrt() + columns.max().sqrt()).item() * noise_ceiling(shape, 1.0) / noise_edge(shape, 1.0)


def untrusted(sigma: Float[Tensor, " m"], shape: Sequence[int], edge: float) -> tuple[str, ...]:
    """Measures of `summary` that depend on the values under an edge: they change by more than 10 % without these.

    It compares measure(σ) with measure({σ_i > edge}), and takes the difference relative to the latter: one direction
    too many passes on a rank of 10, but not on one of 8. The numerical rank is that of fp64, which any rounding raises.

    Args:
        edge: singular value below which nothing is known, such as `edge_of` the `rounding_energy`.

    Returns:
        Names in the order of `summary`. All of them if nothing is above the edge, none for edge 0.

    >>> names = untrusted(torch.tensor([4.0, 3.0] + 30 * [0.1]), (32, 32), edge=0.5)
    >>> "effective_rank" in names, "stable_rank" in names
    (True, False)
    """
    everything, trusted = summary(sigma, shape), summary(sigma[sigma > edge], shape)
    if not trusted["spectral_norm"]:
        return tuple(everything)
    return tuple(name for name, value in trusted.items() if abs(everything[name] - value) > TOLERANCE * value)
