"""The floor under an update read from rounded weights: how large rounding is, and which measures it carries.

W_0 and W_0 + ΔW stored in a narrow format differ by ΔW plus rounding errors, which are noise of full rank: the
effective rank of a rank-8 update in bf16 weights reads 19 to 500.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lorax_lab.spectra.measures import EPS64, summary
from lorax_lab.spectra.null import noise_ceiling, noise_edge

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

FORMATS: dict[str, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp64": torch.float64,
}
"""The formats by name. Eight-bit ones store scaled blocks, whose error no single entry tells."""


def rounding_std(weight: Float[Tensor, "out in"], dtype: torch.dtype | str) -> float:
    """Rms error of storing numbers of this size in `dtype`, √mean(ulp²/12), ulp = 2^(⌊log2 abs(w)⌋ − p + 1).

    p counts the significant bits: 8 in bf16, 11 in fp16, 24 and 53 in fp32 and fp64. Below the smallest normal number
    (6.1e-5 in fp16) ulp stays the smallest subnormal; 0 is stored exactly. Gaussian weights in bf16 give .00166 of
    their std. The error is that of W_0 + ΔW; if W_0 is rounded too, the two make √2 of it. It is uniform, and so of
    this size, where ΔW is an ulp or more. A smaller one is lost in part, and surely where abs(ΔW) < abs(w)/512 in
    bf16: half an ulp is between abs(w)/512 and abs(w)/256.

    Args:
        weight: base or tuned weight, (out, in), any float dtype.
        dtype: of the stored weights: torch.bfloat16, float16, float32, float64, or "bf16", "fp16", "fp32", "fp64".

    Returns:
        In the unit of the weight; NaN for an empty one.

    Raises:
        ValueError: another dtype, or an entry that is not finite or beyond the largest number of the dtype.

    >>> rounding_std(torch.ones(2, 2), "bf16") == 2**-7 / 12**0.5
    True
    """
    info, w = torch.finfo(_format(dtype)), weight.detach().to(torch.float64).abs()
    if not (w <= info.max).all():
        raise ValueError(f"weight has an entry of {w.max().item():.3g}; {info.dtype} holds numbers to {info.max:.3g}")
    exponent = torch.frexp(w).exponent - 1
    ulp = info.eps * torch.exp2(exponent.clamp(min=round(math.log2(info.tiny))).to(torch.float64))
    return _rms(ulp * (w > 0)) / math.sqrt(12)


def rounding_edge(weight: Float[Tensor, "out in"], dtype: torch.dtype | str, copies: int = 1) -> float:
    """Singular value up to which an update read from rounded weights may be rounding alone.

    `edge_of` the `rounding_energy`, about .00166 std(w) (√out + √in) for Gaussian weights in bf16; rows and columns
    of larger weights raise it.

    Args:
        weight: base or tuned weight, (out, in).
        dtype: as `rounding_std`.
        copies: how many of W_0 and W_0 + ΔW were rounded, 1 or 2. 1 for a tuned checkpoint of a base that was in
            `dtype` already, 2 for two copies of wider weights.

    Raises:
        ValueError: copies is not 1 or 2; else as `rounding_std`.

    >>> rounding_edge(torch.ones(100, 100), "fp32") > 20 * rounding_std(torch.ones(100, 100), "fp32")
    True
    """
    if copies not in (1, 2):
        raise ValueError(f"copies is {copies}; expected 1 (only W_0 + ΔW rounded) or 2 (W_0 as well)")
    return math.sqrt(copies) * edge_of(*rounding_energy(weight, _format(dtype)))


def rounding_energy(
    weight: Float[Tensor, "out in"], dtype: torch.dtype
) -> tuple[Float64[Tensor, " out"], Float64[Tensor, " in"]]:
    """Expected squared error of storing a matrix in `dtype`, summed over each row and over each column: Σ ulp²/12.

    It is `rounding_std` by masking all but the bits of the exponent, which is several times as fast. The sums of the
    blocks of a matrix add up to its own. Nothing is checked: for nan and inf the result has no meaning.

    >>> rows, columns = rounding_energy(torch.ones(2, 3), torch.bfloat16)
    >>> columns.tolist() == [2 * 2**-14 / 12] * 3, rows.sum() == columns.sum()
    (True, tensor(True))
    """
    info, wide = torch.finfo(_format(dtype)), weight.detach()
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


def untrusted(
    sigma: Float[Tensor, " m"],
    shape: Sequence[int],
    edge: float,
    tolerance: float = 0.1,
    eps: float = EPS64,
) -> tuple[str, ...]:
    """Measures of `summary` that depend on the values under an edge: they change by more than tolerance without these.

    It compares measure(σ) with measure({σ_i > edge}), and takes the difference relative to the latter. The default of
    10 % lets one direction too many pass on a rank of 10, but not on one of 8.

    Args:
        sigma: (m,), non-negative and finite, any order.
        shape: (out, in) of the update.
        edge: singular value below which nothing is known, such as `rounding_edge`.
        tolerance: relative change that is let pass.
        eps: as `summary`, for numerical_rank: with the default that of any rounded update is untrusted.

    Returns:
        Names in the order of `summary`. All of them if nothing is above the edge, none for edge 0.

    Raises:
        ValueError: edge or tolerance is negative or nan; else as `summary`.

    >>> names = untrusted(torch.tensor([4.0, 3.0] + 30 * [0.1]), (32, 32), edge=0.5)
    >>> "effective_rank" in names, "stable_rank" in names
    (True, False)
    """
    if not (edge >= 0 and tolerance >= 0):
        raise ValueError(f"edge is {edge} and tolerance {tolerance}; expected numbers ≥ 0")
    everything, trusted = summary(sigma, shape, eps), summary(sigma[sigma > edge], shape, eps)
    if not trusted["spectral_norm"]:
        return tuple(everything)
    return tuple(name for name, value in trusted.items() if abs(everything[name] - value) > tolerance * value)


def _format(dtype: torch.dtype | str) -> torch.dtype:
    format_ = FORMATS.get(dtype) if isinstance(dtype, str) else dtype
    if format_ is None or format_ not in FORMATS.values():
        allowed = ", ".join(f"{name!r} ({dtype})" for name, dtype in FORMATS.items())
        raise ValueError(f"dtype is {dtype!r}; expected one of {allowed}")
    return format_


def _rms(x: Tensor) -> float:
    """Root mean square by the largest entry: the square of a subnormal ulp is 0 in fp64."""
    largest = x.max().item() if x.numel() else math.nan
    return largest * (x / largest).square().mean().sqrt().item() if largest else 0.0
