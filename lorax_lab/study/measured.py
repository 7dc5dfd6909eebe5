"""The measures of one matrix, derived from what is published of it when they are asked for.

Runs that were published before singular values were kept of every method have their measures in columns `recorded.…`:
there these are primary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from lorax_lab.study.tables import Row, nested

RECORDED = "recorded"
"""What the columns begin with that hold measures of matrices whose singular values were not published."""
NULLS, EDGE = "nulls", "rounding_edge"
AS_PUBLISHED = ("module", "layer", "base_norm", "sigma")
EPS_FP32 = 2.0**-23
"""Of the weights of runs that were published without it."""


class Measured(Mapping[str, Any]):
    """The row of one matrix: its place in the model, what was observed of it, and every measure; None where a measure
    has no value.

    Args:
        facts: what is published of the matrix.
    """

    def __init__(self, facts: Row) -> None:
        self.facts = facts

    def __getitem__(self, key: str) -> Any:
        if key == "shape":  # what is published is read without deriving a measure
            return [self.facts["out"], self.facts["in"]]
        return self.facts.get(key) if key in AS_PUBLISHED else self._row.get(key)

    def __contains__(self, key: object) -> bool:
        return key in self._row

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)

    @cached_property
    def _row(self) -> Row:
        facts = self.facts
        row = {"shape": self["shape"], "module": facts["module"], "layer": facts.get("layer")}
        row |= {key: part for key, part in nested(facts).items() if key in (NULLS, "captured")} | _measures(facts)
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}


def _measures(facts: Row) -> Row:
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


def _of_recorded(facts: Row, shape: tuple[int, int], base_norm: float) -> Row:
    """The measures of a matrix whose singular values were not published."""
    from lorax_lab.spectra import gaussian_null, noise_ceiling

    row = nested(facts).get(RECORDED, {}) | {key: facts[key] for key in (EDGE,) if key in facts}
    norm, stable = row["frobenius_norm"], row.get("stable_rank")
    row |= {"spectral_norm": norm / math.sqrt(stable) if stable else 0.0}  # ‖ΔW‖²_F / σ_1² is the stable rank
    row |= {"noise_edge": noise_ceiling(shape, row["noise_std"])} if "noise_std" in row else {}
    row |= {"base_norm": base_norm, "relative_norm": norm / base_norm if base_norm else math.nan}
    reasons = ([] if norm else ["ΔW is zero"]) + ([] if base_norm else ["W0 is zero"])
    row |= {"undefined": " and ".join(reasons)} if reasons else {}
    return row | {"null": gaussian_null(shape, facts.get("product_rank"))}
