"""The measures of a run's updates: one row per adapted matrix, and their summary over the model."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from lorax_lab.measure.truncation import Directions
from lorax_lab.models import layer_number, short_name
from lorax_lab.spectra import LowRank, Update, column_share, gaussian_null, row_share, summary, svd

KEPT_DIRECTIONS = 32
"""Singular vectors saved per matrix: enough to compare subspaces later, a few MB per run."""
EPS_FP32 = 2.0**-23
Row = dict[str, Any]


def rounding(base_norm: float, update_norm: float) -> float:
    """Relative rounding of the difference of two fp32 matrices of norm `base_norm` that lie `update_norm` apart:
    what is below it counts as zero in the numerical rank.

    >>> rounding(100.0, 1.0) == 100 * 2.0**-23
    True
    """
    return EPS_FP32 * base_norm / update_norm if update_norm else EPS_FP32


def decompose(updates: Mapping[str, Update]) -> dict[str, Directions]:
    """The SVD of every update, fp64; LoRA's through its factors."""
    return {name: Directions(*svd(update)) for name, update in updates.items()}


def measure(
    updates: Mapping[str, Update],
    directions: dict[str, Directions],
    base: dict[str, Tensor],
    reference: dict[str, Tensor] | None = None,
) -> dict[str, Row]:
    """Each matrix's measures, what noise of its shape gives under `null`, and its place in the model.

    For a LoRA update and a `reference` (the full fine-tune's ΔW), also the share of the reference's energy in
    the update's column and row spaces, with a random subspace's expectation and the best any subspace of that
    rank could hold.
    """
    return {name: _row(name, update, directions[name], base[name], reference) for name, update in updates.items()}


def _row(name: str, update: Update, directions: Directions, base: Tensor, reference: dict[str, Tensor] | None) -> Row:
    shape = (int(update.shape[0]), int(update.shape[1]))
    rank = len(directions.sigma) if isinstance(update, LowRank) else None
    norms = float(base.double().norm()), float(directions.sigma.norm())
    measures = summary(directions.sigma, shape) if rank else summary(directions.sigma, shape, rounding(*norms))
    row: Row = {"shape": list(shape), "module": short_name(name), "layer": layer_number(name)}
    row |= measures
    row["relative_norm"] = norms[1] / norms[0]
    row["null"] = gaussian_null(shape, rank)
    if isinstance(update, LowRank) and reference is not None:
        row["captured"] = captured(update, reference[name])
    return row


def captured(update: LowRank, reference: Tensor) -> dict[str, float]:
    """How much of ‖ΔW_full‖²_F lies in the LoRA update's column and row space, from 0 to 1; a random subspace
    holds `random_…` of it, and the reference's own top directions hold `best`."""
    from lorax_lab.spectra import singular_values

    rank = len(update.A)
    energy = singular_values(reference) ** 2
    return {
        "column_share": column_share(reference, update),
        "row_share": row_share(reference, update),
        "random_column_share": rank / reference.shape[0],
        "random_row_share": rank / reference.shape[1],
        "best": float(energy[:rank].sum() / energy.sum()),
    }


def summarise(matrices: dict[str, Row]) -> dict[str, Any]:
    """Means over all matrices, and under `by_module` over the layers of each module type."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in matrices.values():
        groups[row["module"]].append(row)
    return {
        **_means(list(matrices.values())),
        "by_module": {key: _means(rows) for key, rows in groups.items()},
    }


def _means(rows: list[Row]) -> dict[str, Any]:
    flat = [_flatten(row) for row in rows]
    return {key: statistics.fmean(row[key] for row in flat) for key in flat[0] if all(key in row for row in flat)}


def _flatten(row: Row, prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and key != "layer":
            flat[prefix + key] = float(value)
    return flat


def to_save(directions: dict[str, Directions]) -> dict[str, dict[str, np.ndarray]]:
    """What `spectra.npz` keeps: all singular values in fp64, the top `KEPT_DIRECTIONS` vectors in fp32."""
    return {
        name: {
            "sigma": d.sigma.numpy(),
            "U": d.U[:, :KEPT_DIRECTIONS].float().numpy(),
            "Vh": d.Vh[:KEPT_DIRECTIONS].float().numpy(),
        }
        for name, d in directions.items()
    }
