"""Intruder dimensions and amplification: what an update does with the singular vectors of its base. All of W0's smaller
side cost several times what the spectrum of an update does."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from lorax_lab import spectra
from lorax_lab.audit.updates import Difference, Matrix
from lorax_lab.models.tensor_files import norm
from lorax_lab.spectra import LowRank, Row

TOP = 10
"""How many singular vectors of W_tuned may be intruders, as in Shuttleworth et al. 2024."""
AMPLIFIED = 8
"""How many directions of a dense update are measured for amplification; a LoRA has those of its rank."""
FP32_EPS = 2.0**-23


def directions_of(matrix: Matrix, update_norm: float, device: torch.device) -> Row:
    """Columns `amplification.*` and, where there is a tuned matrix, `intruders.left.*` and `intruders.right.*`. Empty
    for an adapter without a base, and for an update or a base that is zero."""
    if matrix.base is None or not update_norm:
        return {}
    short, sigma = spectra.short_directions(OnDevice(matrix.base, device))
    if not sigma.any():
        return {}
    row = _amplification(matrix, update_norm, sigma, device)
    return row if matrix.tuned is None else row | _intruders(matrix.base, matrix.tuned, short, sigma, device)


class OnDevice:
    """The blocks of a stored matrix or a difference on a device."""

    def __init__(self, stored: Tensor | Difference, device: torch.device) -> None:
        self.stored, self.shape, self.device = stored, tuple(stored.shape), device

    def block(self, dim: int, start: int, stop: int) -> Tensor:
        """Rows (dim 0) or columns (dim 1) from start to stop."""
        return spectra.piece(self.stored, dim, start, stop).to(self.device)


def _amplification(matrix: Matrix, update_norm: float, sigma: Tensor, device: torch.device) -> Row:
    assert matrix.base is not None, matrix.name
    U, Vh = _top(matrix, device)
    turned = tuple(matrix.base.shape) != matrix.shape  # a base that stores (in, out)
    projected = (Vh if turned else U.T) @ spectra.times(OnDevice(matrix.base, device), U if turned else Vh.T)
    base_norm = float(torch.linalg.vector_norm(sigma))
    amplified = spectra.amplification(update_norm, projected, base_norm, sigma[: len(projected)], matrix.shape)
    return {f"amplification.{key}": value for key, value in dataclasses.asdict(amplified).items()}


def _top(matrix: Matrix, device: torch.device) -> tuple[Tensor, Tensor]:
    update = matrix.update()
    if isinstance(update, LowRank):
        U, sigma, Vh = spectra.svd(update)
        rank = spectra.numerical_rank(sigma, update.shape, eps=FP32_EPS)
        return U[:, :rank].to(device), Vh[:rank].to(device)
    U, _, Vh = spectra.top_directions(OnDevice(update, device), min(AMPLIFIED, *matrix.shape))
    return U, Vh


def _intruders(base: Tensor, tuned: Tensor, short: Tensor, sigma: Tensor, device: torch.device) -> Row:
    source = OnDevice(tuned, device)
    U, sigma_tuned, Vh = spectra.top_directions(source, min(TOP, *tuned.shape))
    tuned_norm, tall = norm(tuned), base.shape[0] >= base.shape[1]
    short_side, long_side = (Vh.T, U) if tall else (U, Vh.T)
    has_direction = sigma > 1e-6 * sigma[0]
    cosines_short = short[:, has_direction].T @ short_side
    cosines_long = spectra.cosines_through(
        short, sigma, spectra.times(OnDevice(base, device), long_side, transposed=tall)
    )
    sides = {"right" if tall else "left": cosines_short, "left" if tall else "right": cosines_long}
    row: Row = {}
    for side, cosines in sides.items():
        counted = spectra.intruders(cosines, sigma_tuned, tuned_norm, base.shape[0 if side == "left" else 1])
        for key in ("count", "energy_share", "random_count", "random_energy_share", "random_max_cosine"):
            row[f"intruders.{side}.{key}"] = getattr(counted, key)
    return row | {"intruders.k": len(sigma_tuned)}
