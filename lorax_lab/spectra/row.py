"""One matrix's row of measures: the same names and the same numbers in a run, a published line and an audit.

`row_of` derives it from the singular values and the few facts that need the weights (`base_norm`, `Rounding`). These
are what a record keeps: a row is made when it is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorax_lab.spectra.measures import EPS64, summary
from lorax_lab.spectra.noise import bulk_misfit, gavish_donoho_rank, noise_scale, signal_share, spikes
from lorax_lab.spectra.null import gaussian_null, noise_ceiling
from lorax_lab.spectra.rounding import edge_of, rounding_energy, untrusted

Row = dict[str, Any]


@dataclass(frozen=True)
class Rounding:
    """How the weights were stored that an update is the difference of.

    Args:
        eps: relative rounding error of their format, 2^-23 for fp32.
        edge: singular value up to which the update may be rounding alone (`edge_of`).
        energy: the squared rounding errors to be expected, summed over the matrix (`rounding_energy`).
    """

    eps: float
    edge: float
    energy: float

    @classmethod
    def of_weight(cls, weight: Tensor) -> Rounding:
        """A tuned weight of which the base is exact: training started from it."""
        return cls.of_sums(torch.finfo(weight.dtype).eps, *rounding_energy(weight, weight.dtype))

    @classmethod
    def of_sums(cls, eps: float, rows: Tensor, columns: Tensor) -> Rounding:
        """From the expected squared errors, summed over each row (out,) and over each column (in,)."""
        return cls(eps, edge_of(rows, columns), float(rows.sum()))


def row_of(
    sigma: Tensor, shape: Sequence[int], base_norm: float, rank: int | None = None, rounding: Rounding | None = None
) -> Row:
    """Every measure of one update by name, and under `null` what Gaussian noise of its shape gives.

    A dense update also has what stands above noise (`noise_std` is fitted to the bulk, so spikes do not raise it) and,
    where it was stored, what stands above rounding. A low-rank product has no bulk to take the noise from. Where a
    measure is NaN, `undefined` says why: ΔW or W0 is zero, no W0 was given, or ΔW has no bulk, as it is numerically
    low-rank.

    Args:
        sigma: all singular values, descending, fp64; min(out, rank, in) of them for a low-rank product.
        shape: (out, in).
        base_norm: ‖W0‖_F; NaN where there is no base, and the relative norm is then NaN too, as for a base of zeros.
        rank: of the product that the update is kept as, None for a dense update.
        rounding: of the weights that a dense update is the difference of; None where it was computed in fp64.
    """
    norm = float(sigma.norm())
    row: Row = {**summary(sigma, shape, _relative_rounding(rounding, base_norm, norm)), "base_norm": base_norm}
    row["relative_norm"] = norm / base_norm if base_norm else math.nan
    row |= {"null": gaussian_null(shape, rank), "untrusted": ""}
    row |= _above_noise(sigma, shape) if rank is None else {}
    row |= _above_rounding(sigma, shape, norm, rounding) if rank is None and rounding else {}
    return row | _undefined(row)


def _relative_rounding(rounding: Rounding | None, base_norm: float, norm: float) -> float:
    """`numerical_rank`'s eps: how much rounding a difference of norm `norm` has, of two matrices of norm `base_norm`.

    That rank leaves out all that rounding could make in the worst case, while `above_rounding` leaves out what
    independent roundings do make.
    """
    if rounding is None:
        return EPS64
    return rounding.eps * base_norm / norm if norm else rounding.eps


def _undefined(row: Row) -> Row:
    """Why measures of the row are NaN, in words under `undefined`; nothing where the update and its base explain none.

    >>> _undefined({"frobenius_norm": 0.0, "base_norm": 2.0}), _undefined({"frobenius_norm": 1.0, "base_norm": 2.0})
    ({'undefined': 'ΔW is zero'}, {})
    """
    is_zero = not row["frobenius_norm"]
    causes = {
        "ΔW is zero": is_zero,
        "W0 is zero": row["base_norm"] == 0,
        "no W0 was given": math.isnan(row["base_norm"]),
        "ΔW has no noise": not is_zero and math.isnan(row.get("gavish_donoho_rank", 0.0)),
    }
    reasons = [reason for reason, holds in causes.items() if holds]
    return {"undefined": " and ".join(reasons)} if reasons else {}


def _above_noise(sigma: Tensor, shape: Sequence[int]) -> Row:
    """What stands above the noise that is fitted to the bulk; a new measure of this kind is a line here."""
    std = noise_scale(sigma, shape)
    raw, cleaned = signal_share(sigma, shape, std)
    return {
        "noise_std": std,
        "noise_edge": noise_ceiling(shape, std),
        "spikes": float(spikes(sigma, shape, std)),
        "spike_energy": raw,
        "signal_share": cleaned,
        "bulk_misfit": bulk_misfit(sigma, shape, std),
        "gavish_donoho_rank": gavish_donoho_rank(sigma, shape),
    }


def _above_rounding(sigma: Tensor, shape: Sequence[int], norm: float, rounding: Rounding) -> Row:
    """What stands above rounding, and which measures depend on what does not. The numerical rank is not among those:
    it counts only what is above rounding already."""
    flagged = [name for name in untrusted(sigma, shape, rounding.edge) if name != "numerical_rank"]
    return {
        "rounding_edge": rounding.edge,
        "above_rounding": float((sigma > rounding.edge).sum()),
        "rounding_share": min(1.0, rounding.energy / norm**2) if norm else math.nan,
        "untrusted": " ".join(flagged),
    }
