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
EPS_FP32 = 2.0**-23
"""Of the weights of runs that were published without it."""


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
    import torch

    from lorax_lab.spectra import Rounding, row_of

    shape, base_norm = (facts["out"], facts["in"]), facts.get("base_norm", math.nan)
    if "sigma" not in facts:
        return _of_recorded(facts, shape, base_norm)
    rounding = None
    if EDGE in facts:
        rounding = Rounding(facts.get("rounding_eps", EPS_FP32), facts[EDGE], facts.get("rounding_energy", math.nan))
    sigma = torch.from_numpy(facts["sigma"].astype(float))
    row = row_of(sigma, shape, base_norm, facts.get("product_rank"), rounding)
    return row if "rounding_energy" in facts else {key: value for key, value in row.items() if key != "rounding_share"}


def _of_recorded(facts: Mapping[str, Any], shape: tuple[int, int], base_norm: float) -> dict[str, Any]:
    """The measures of a matrix whose singular values were not published."""
    from lorax_lab.spectra import gaussian_null, noise_ceiling

    row = _nested(facts, RECORDED) | {key: facts[key] for key in (EDGE,) if key in facts}
    norm, stable = row["frobenius_norm"], row.get("stable_rank")
    row |= {"spectral_norm": norm / math.sqrt(stable) if stable else 0.0}  # ‖ΔW‖²_F / σ_1² is the stable rank
    row |= {"noise_edge": noise_ceiling(shape, row["noise_std"])} if "noise_std" in row else {}
    row |= {"base_norm": base_norm, "relative_norm": norm / base_norm if base_norm else math.nan}
    reasons = ([] if norm else ["ΔW is zero"]) + ([] if base_norm else ["W0 is zero"])
    row |= {"undefined": " and ".join(reasons)} if reasons else {}
    return row | {"null": gaussian_null(shape, facts.get("product_rank"))}
