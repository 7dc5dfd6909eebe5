"""The measures of one matrix, derived from what is published of it when they are asked for.

Runs that were published before singular values were kept of every method have their measures in columns `recorded.…`:
there these are primary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from lorax_lab.study.tables import Table

SERIES, UPDATE, GAUSSIAN = "series", "update", "gaussian"
"""The column that says whose row it is: the update's, or that of the Gaussian matrix that stood in for it."""
RECORDED = "recorded"
"""What the columns begin with that hold measures of matrices whose singular values were not published."""
NULLS, EDGE = "nulls", "rounding_edge"
NOT_FACTS = ("run_id", SERIES, "matrix")
EPS_FP32, EPS_FP64 = 2.0**-23, 2.0**-52


class Measured(Mapping[str, Any]):
    """The row of one matrix: its place in the model, what was observed of it, and every measure; None where a measure
    has no value."""

    def __init__(self, table: Table, number: int) -> None:
        self._table, self._number = table, number

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Measured:
        """The row of facts that stand in no table yet."""
        return cls(Table({name: [value] for name, value in facts.items()}, {}, 1), 0)

    @property
    def facts(self) -> dict[str, Any]:
        """What is published of the matrix."""
        return {key: value for key, value in self._table.row(self._number).items() if key not in NOT_FACTS}

    def __getitem__(self, key: str) -> Any:
        if key == "shape":
            return [self._fact("out"), self._fact("in")]
        if key in ("module", "layer", "base_norm", "sigma"):
            return self._fact(key)
        return self._row.get(key)

    def __contains__(self, key: object) -> bool:
        return key in self._row

    def _fact(self, key: str) -> Any:
        column = self._table.columns.get(key)
        return None if column is None else column[self._number]

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)

    @cached_property
    def _row(self) -> dict[str, Any]:
        facts = self.facts
        row = {"shape": [facts["out"], facts["in"]], "module": facts["module"], "layer": facts.get("layer")}
        row |= {NULLS: nulls} if (nulls := _nested(facts, NULLS)) else {}
        row |= {"captured": captured} if (captured := _nested(facts, "captured")) else {}
        return {key: _known(value) for key, value in (row | _measures(facts)).items()}


def _nested(facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The parts of facts whose names begin with a name and a dot, nested again."""
    nested: dict[str, Any] = {}
    for key, value in facts.items():
        if key.startswith(f"{name}."):
            *sections, last = key.split(".")[1:]
            part = nested
            for section in sections:
                part = part.setdefault(section, {})
            part[last] = value
    return nested


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _measures(facts: Mapping[str, Any]) -> dict[str, Any]:
    from lorax_lab.spectra import gaussian_null, noise_ceiling

    shape, base_norm = (facts["out"], facts["in"]), facts.get("base_norm", math.nan)
    row: dict[str, Any] = _nested(facts, RECORDED)
    rank = facts.get("product_rank")
    if "sigma" in facts:
        rank = len(facts["sigma"]) if facts.get("is_product") else None
        row |= _of_sigma(facts, shape, base_norm, rank)
    norm = row["frobenius_norm"]
    if "spectral_norm" not in row:  # ‖ΔW‖²_F / σ_1² is the stable rank
        row["spectral_norm"] = norm / math.sqrt(row["stable_rank"]) if row.get("stable_rank") else 0.0
    if "noise_std" in row:
        row["noise_edge"] = noise_ceiling(shape, row["noise_std"])
    row |= {"base_norm": base_norm, "relative_norm": norm / base_norm if base_norm else math.nan}
    row |= {"null": gaussian_null(shape, rank)} | {key: facts[key] for key in (EDGE,) if key in facts}
    return row | _undefined(row)


def _of_sigma(facts: Mapping[str, Any], shape: tuple[int, int], base_norm: float, rank: int | None) -> dict[str, Any]:
    import torch

    from lorax_lab import spectra

    sigma = torch.from_numpy(facts["sigma"].astype(float))
    norm, edge = float(sigma.norm()), facts.get(EDGE)
    eps = EPS_FP64 if edge is None else EPS_FP32 * base_norm / norm if norm and base_norm else EPS_FP32
    row: dict[str, Any] = dict(spectra.summary(sigma, shape, eps))
    if rank is None and len(sigma) == min(shape):
        std = spectra.noise_scale(sigma, shape)
        raw, cleaned = spectra.signal_share(sigma, shape, std)
        row |= {
            "noise_std": std,
            "spikes": float(spectra.spikes(sigma, shape, std)),
            "spike_energy": raw,
            "signal_share": cleaned,
        }
        row |= {"bulk_misfit": spectra.bulk_misfit(sigma, shape, std)}
        try:
            row["gavish_donoho_rank"] = float(spectra.gavish_donoho_rank(sigma, shape))
        except ValueError:
            row["gavish_donoho_rank"] = math.nan
    if edge is not None:
        row |= {"above_rounding": float((sigma > edge).sum())}
        energy = facts.get("rounding_energy")
        if energy is not None:
            row["rounding_share"] = min(1.0, energy / norm**2) if norm else math.nan
    return row


def _undefined(row: Mapping[str, Any]) -> dict[str, str]:
    """Why measures have no value, in words; nothing where all have one."""
    is_zero = not row["frobenius_norm"]
    causes = {
        "ΔW is zero": is_zero,
        "W0 is zero": row["base_norm"] == 0,
        "ΔW has no noise": not is_zero and math.isnan(row.get("gavish_donoho_rank", 0.0)),
    }
    reasons = [reason for reason, holds in causes.items() if holds]
    return {"undefined": " and ".join(reasons)} if reasons else {}
