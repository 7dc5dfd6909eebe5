"""The measures of a run's updates: one row per adapted matrix, and their summary over the model."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorax_lab.measure.row import Row, Storage, flatten, row_of
from lorax_lab.measure.truncation import Decomposition
from lorax_lab.models import layer_number, short_name
from lorax_lab.spectra import LowRank, Update, column_share, row_share, singular_values, structured_nulls, svd

NO_REFERENCE = "the reference's ΔW is zero"
KEPT_DIRECTIONS = 32
"""Singular vectors saved per matrix: enough to compare subspaces later, a few MB per run."""


def decompose(updates: Mapping[str, Update]) -> dict[str, Decomposition]:
    """The SVD of every update, fp64; LoRA's through its factors."""
    return {name: Decomposition(*svd(update)) for name, update in updates.items()}


def measure(
    updates: Mapping[str, Update],
    decompositions: Mapping[str, Decomposition],
    base: Mapping[str, Tensor],
    reference: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Row]:
    """Each matrix's measures and its place in the model.

    For a LoRA update and a `reference` (the full fine-tune's ΔW), also the share of the reference's energy in
    the update's column and row spaces, with a random subspace's expectation and the best any subspace of that
    rank could hold; NaN where either update is zero. A dense update has the rounding floor of weights that were
    computed in `dtype`.
    """
    table = {
        name: _placed(name, update) | _measured(update, decompositions[name].sigma, base[name], dtype)
        for name, update in updates.items()
    }
    for name, update in updates.items():
        if reference is not None and isinstance(update, LowRank):
            table[name] = _beside(table[name], captured(update, reference[name]))
    return table


def with_nulls(
    table: Mapping[str, Row], updates: Mapping[str, Update], stream: Callable[[str], torch.Generator]
) -> dict[str, Row]:
    """The rows with `nulls`, what `structured_nulls` gives for each dense update; about .2 s for 384 × 1536.

    Args:
        stream: of a name, the generator that draws a matrix's nulls.
    """
    return {
        name: row
        if isinstance(update := updates[name], LowRank)
        else row | {"nulls": structured_nulls(update, stream(name))}
        for name, row in table.items()
    }


def _placed(name: str, update: Update) -> Row:
    return {"shape": [int(side) for side in update.shape], "module": short_name(name), "layer": layer_number(name)}


def _measured(update: Update, sigma: Tensor, base: Tensor, dtype: torch.dtype) -> Row:
    shape, base_norm = (int(update.shape[0]), int(update.shape[1])), float(base.double().norm())
    if isinstance(update, LowRank):
        return row_of(sigma, shape, base_norm, rank=len(sigma))
    return row_of(sigma, shape, base_norm, storage=Storage.of((base.double() + update).to(dtype)))


def _beside(row: Row, shares: dict[str, float]) -> Row:
    """The row with `captured`: NaN where its update is zero and spans nothing, or where the reference's is."""
    own = [reason for reason in row.get("undefined", "").split(" and ") if reason not in ("", NO_REFERENCE)]
    reasons = [*own, *([NO_REFERENCE] if math.isnan(shares["best"]) else [])]
    if not row["frobenius_norm"]:
        shares = shares | dict.fromkeys(("column_share", "row_share"), math.nan)
    others = {key: value for key, value in row.items() if key != "undefined"}
    return others | {"captured": shares} | ({"undefined": " and ".join(reasons)} if reasons else {})


def captured(update: LowRank, reference: Tensor) -> dict[str, float]:
    """How much of ‖ΔW_full‖²_F lies in the LoRA update's column and row space, from 0 to 1; a random subspace
    holds `random_…` of it, and the reference's own top directions hold `best`."""
    rank = len(update.A)
    energy = singular_values(reference) ** 2
    return {
        "column_share": column_share(reference, update),
        "row_share": row_share(reference, update),
        "random_column_share": rank / reference.shape[0],
        "random_row_share": rank / reference.shape[1],
        "best": float(energy[:rank].sum() / energy.sum()),
    }


def compared(
    matrices: Mapping[str, Row],
    summary: Mapping[str, Any],
    updates: Mapping[str, Update],
    reference: Mapping[str, Tensor],
) -> tuple[dict[str, Row], dict[str, Any]]:
    """The rows and the summary that `measure` and `summarise` would have given with this reference; all else in them
    stays."""
    rows = dict(matrices) | {
        name: _beside(matrices[name], captured(update, reference[name]))
        for name, update in updates.items()
        if isinstance(update, LowRank)
    }
    added = {name: {"captured": rows[name]["captured"]} if isinstance(updates[name], LowRank) else {} for name in rows}
    means = summarise({name: {"module": row["module"], **added[name]} for name, row in rows.items()})
    by_module = {module: {**old, **means["by_module"][module]} for module, old in summary["by_module"].items()}
    return rows, {**summary, **means, "by_module": by_module}


def summarise(matrices: Mapping[str, Row]) -> dict[str, Any]:
    """Means over all matrices, and under `by_module` over the layers of each module type."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in matrices.values():
        groups[row["module"]].append(row)
    return {
        **_means(list(matrices.values())),
        "by_module": {key: _means(rows) for key, rows in groups.items()},
    }


def _means(rows: list[Row]) -> dict[str, Any]:
    flat = [flatten(row) for row in rows]
    return {
        key: statistics.fmean(row[key] for row in flat)
        for key, value in flat[0].items()
        if isinstance(value, (int, float)) and key != "layer" and all(key in row for row in flat)
    }


def to_save(decompositions: Mapping[str, Decomposition]) -> dict[str, dict[str, np.ndarray]]:
    """What `spectra.npz` keeps: all singular values in fp64, the top `KEPT_DIRECTIONS` vectors in fp32."""
    return {
        name: {
            "sigma": d.sigma.numpy(),
            "U": d.U[:, :KEPT_DIRECTIONS].float().numpy(),
            "Vh": d.Vh[:KEPT_DIRECTIONS].float().numpy(),
        }
        for name, d in decompositions.items()
    }
