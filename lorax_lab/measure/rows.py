"""What is measured of a run's updates: of each adapted matrix the facts that need its weights, and its spectrum.

The measures are derived from these whenever they are read (`record.measures`).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lorax_lab import spectra
from lorax_lab.measure.truncation import Decomposition
from lorax_lab.models import layer_number, mapped, short_name
from lorax_lab.record.measures import STAND_IN
from lorax_lab.record.result import Captured, Matrix, Rounding
from lorax_lab.spectra import LowRank, Update

KEPT_DIRECTIONS = 32
"""Singular vectors saved per matrix: enough to compare subspaces later, a few MB per run."""


def decompose(updates: Mapping[str, Update], folder: Path | None = None) -> dict[str, Decomposition]:
    """The SVD of every update, matrix by matrix where it lies: σ in fp64, U and Vh in fp32, LoRA's through its factors.
    Large ones of a processor's are `mapped` to files in a folder.

    A batch of one shape would gain nothing: LAPACK and cuSOLVER take its matrices one after another.
    """
    return {name: _decomposed(update, folder) for name, update in updates.items()}


def _decomposed(update: Update, folder: Path | None) -> Decomposition:
    U, sigma, Vh = spectra.svd(update) if isinstance(update, LowRank) else spectra.all_directions(update)
    return Decomposition(_held(U, folder), sigma, _held(Vh, folder))


def _held(factor: Tensor, folder: Path | None) -> Tensor:
    """The factor in fp32. The cuts need those of all matrices, so that on the processor large ones are mapped."""
    return mapped(factor.float(), folder) if factor.device.type == "cpu" else factor.float()


def measure(
    updates: Mapping[str, Update],
    base: Mapping[str, Tensor],
    reference: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Matrix]:
    """Each matrix's place in the model and what of it needs the weights.

    For a LoRA update and a `reference` (the full fine-tune's ΔW), also the share of the reference's energy in the
    update's column and row spaces. A dense update has the rounding floor of weights that were computed in `dtype`.
    """
    table = {name: _measured(name, update, base[name], dtype) for name, update in updates.items()}
    return table if reference is None else compared(table, updates, reference)


def compared(
    matrices: Mapping[str, Matrix], updates: Mapping[str, Update], reference: Mapping[str, Tensor]
) -> dict[str, Matrix]:
    """The matrices as `measure` would have given them with this reference; all else in them stays."""
    return {
        name: dataclasses.replace(matrix, captured=captured(update, reference[name]))
        if isinstance(update := updates[name], LowRank)
        else matrix
        for name, matrix in matrices.items()
    }


def with_stand_ins(
    matrices: Mapping[str, Matrix], noise: Mapping[str, Tensor], base: Mapping[str, Tensor]
) -> dict[str, Matrix]:
    """The matrices with how rounding would have stored the Gaussian matrices that stood in for their updates."""
    return {
        name: dataclasses.replace(matrix, stand_in=_rounding(noise[name], base[name], torch.float32))
        for name, matrix in matrices.items()
    }


def _measured(name: str, update: Update, base: Tensor, dtype: torch.dtype) -> Matrix:
    return Matrix(
        module=short_name(name),
        layer=layer_number(name),
        shape=(int(update.shape[0]), int(update.shape[1])),
        base_norm=float(base.double().norm()),
        rank=min(update.B.shape[1], *update.shape) if isinstance(update, LowRank) else None,
        rounding=None if isinstance(update, LowRank) else _rounding(update, base, dtype),
    )


def _rounding(update: Tensor, base: Tensor, dtype: torch.dtype) -> Rounding:
    tuned = (update + base.to(update.device)).to(dtype)
    return Rounding(**dataclasses.asdict(spectra.Rounding.of_weight(tuned)))


def captured(update: LowRank, reference: Tensor) -> Captured:
    """How much of ‖ΔW_full‖²_F lies in the LoRA update's column and row space, from 0 to 1, and the `best` that the
    reference's own top directions of that rank hold."""
    reference = reference.to(update.B.device)
    energy = spectra.singular_values(reference) ** 2
    best, is_zero = float(energy[: len(update.A)].sum() / energy.sum()), not spectra.singular_values(update).any()
    shares = [math.nan if is_zero else share(reference, update) for share in (spectra.column_share, spectra.row_share)]
    return Captured(*(None if math.isnan(share) else share for share in (*shares, best)))


def structured(
    updates: Mapping[str, Update], stream: Callable[[str], torch.Generator]
) -> dict[str, dict[str, np.ndarray]]:
    """The spectra of `structured_spectra` for each dense update by null; about .2 s for 384 × 1536.

    Args:
        stream: of a name, the generator that draws a matrix's nulls.
    """
    return {
        name: {null: draws[0].cpu().numpy() for null, draws in spectra.structured_spectra(update, stream(name)).items()}
        for name, update in updates.items()
        if isinstance(update, Tensor)
    }


def to_save(
    decompositions: Mapping[str, Decomposition],
    stand_ins: Mapping[str, Tensor] | None = None,
    nulls: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """What `spectra.npz` keeps of each matrix: all singular values in fp64, the top `KEPT_DIRECTIONS` vectors in fp32,
    and the singular values of the noise that was drawn for it, `stand_ins` and `nulls`."""
    return {
        name: {
            "sigma": d.sigma.cpu().numpy(),
            "U": d.U[:, :KEPT_DIRECTIONS].cpu().numpy().copy(),
            "Vh": d.Vh[:KEPT_DIRECTIONS].cpu().numpy().copy(),
            **({STAND_IN: spectra.singular_values(stand_ins[name]).cpu().numpy()} if stand_ins else {}),
            **(nulls or {}).get(name, {}),
        }
        for name, d in decompositions.items()
    }
