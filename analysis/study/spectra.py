"""Do the measures of a line's matrices follow from its singular values, from each other, and from their shapes?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any

from lorax_lab.study.answers import LOSSES, PSEUDO_VALUES
from lorax_lab.study.published import Line

ROUNDING = 1e-4
"""Relative error of what is computed from measures of six digits."""
COARSE = 3e-3
"""Relative error of what is computed from singular values of four digits."""
SHARE = 1e-3
"""By how much the share of the energy in the first values may be off for the same reason."""
DRAWN = 0.25
"""Relative error of a measure of one drawn matrix: of the largest singular value of a small one."""
FLOATS = (
    "effective_rank",
    "energy_entropy_rank",
    "stable_rank",
    "participation_ratio",
    "frobenius_norm",
    "spectral_norm",
)
SHARES = {"energy_rank_50": 0.5, "energy_rank_90": 0.9, "energy_rank_95": 0.95, "energy_rank_99": 0.99}
EDGES = {"spikes": "noise_edge", "above_rounding": "rounding_edge"}
ORDER = ("stable_rank", "participation_ratio", "energy_entropy_rank", "effective_rank")
PRODUCT = "lora"
OF_EXAMPLES = (LOSSES, PSEUDO_VALUES)
"""What only lines have that are made since singular values are kept."""
FORMS = ("full", PRODUCT)
"""The methods of which the form of the update is known here: dense, or a product of the run's rank."""


def of_line(line: Line) -> Iterator[str]:
    """What contradicts, a sentence for each kind, with the first matrix of which it holds."""
    sigma, matrices = line.get("sigma") or {}, line.get("matrices") or {}
    if line.get("functional") and not sigma and any(key in line for key in OF_EXAMPLES):
        yield "the singular values of the full update are gone"
    if sigma and sigma.keys() != matrices.keys():
        yield "singular values and measures are of different matrices"
        return
    faults: dict[str, str] = {}
    for name, row in matrices.items():
        for fault in (*_of_row(line, name, row), *(_of_sigma(row, tuple(sigma[name])) if name in sigma else ())):
            faults.setdefault(fault, name)
        if drawn := (line.get("gaussian") or {}).get(name):
            for fault in _of_row(line, name, drawn):
                faults.setdefault(f"{fault} (noise in the update's place)", name)
            if not _is_noise(drawn):
                faults.setdefault("noise in the update's place has not the ranks of noise", name)
    drawn = line.get("gaussian") or {}
    if (drawn or line["config"]["measure"] == "controls") and drawn.keys() != matrices.keys():
        yield "noise was not drawn for the matrices that were measured"
    yield from (f"{fault} in {name}" for fault, name in faults.items())


def rank_in(line: Line, matrix: str) -> int | None:
    """The rank that a run gives a matrix: its own where `method.ranks` names it, else the run's, which full fine-tuning
    has not."""
    own = [str(text).rpartition(":") for text in line["config"]["method"].get("ranks") or ()]
    named = [int(rank) for end, _, rank in own if f".{matrix}".endswith(f".{end}")]
    run: int | None = line["rank"]
    return named[0] if named else run


def _of_row(line: Line, name: str, row: dict[str, Any]) -> Iterator[str]:
    """Relations between the measures of one matrix; those without a value are left out."""
    known = {key: value for key, value in row.items() if value is not None}
    if {"stable_rank", "frobenius_norm", "spectral_norm"} <= known.keys():
        stable = (known["frobenius_norm"] / known["spectral_norm"]) ** 2
        if not math.isclose(stable, known["stable_rank"], rel_tol=ROUNDING):
            yield "the stable rank is not that of the norms"
    ordered = [known[key] for key in ORDER if key in known]
    if any(low > high * (1 + ROUNDING) for low, high in pairwise(ordered)):
        yield "the ranks are not in the order that they have of every matrix"
    counts = [known[key] for key in SHARES if key in known]
    if counts != sorted(counts):
        yield "the energy ranks do not rise"
    rank = rank_in(line, name)
    highest = min(row["shape"]) if line["method"] != PRODUCT else min(*row["shape"], rank or 0)
    if any(not 0 <= known[key] <= highest * (1 + ROUNDING) for key in (*ORDER, *SHARES, *EDGES) if key in known):
        yield "a rank is above the matrix's smaller side, or above its own"
    relative = known["frobenius_norm"] / known["base_norm"] if known.get("base_norm") else None
    if relative is not None and not math.isclose(relative, known.get("relative_norm", math.nan), rel_tol=ROUNDING):
        yield "the relative norm is not that of the norms"
    if line["method"] in FORMS:
        null = _null(tuple(row["shape"]), rank)
        if any(not math.isclose(value, null[k], rel_tol=ROUNDING) for k, value in row["null"].items() if k in null):
            yield "the ranks of noise are not those of noise of this shape"


def _is_noise(row: dict[str, Any]) -> bool:
    """Whether measures lie about as near to those of noise as one draw does."""
    pairs = [(row[key], row["null"][key]) for key in ORDER if row.get(key) is not None and key in row["null"]]
    return all(math.isclose(value, null, rel_tol=DRAWN) for value, null in pairs)


def _of_sigma(row: dict[str, Any], sigma: tuple[float, ...]) -> Iterator[str]:
    if list(sigma) != sorted(sigma, reverse=True) or len(sigma) > min(row["shape"]) or min(sigma, default=0) < 0:
        yield "the singular values do not fall, or are too many"
        return
    measured = _measures(sigma)
    for key in FLOATS:
        if row.get(key) is not None and not math.isclose(row[key], measured[key][0], rel_tol=COARSE):
            yield f"{key} is not that of the singular values"
    for key in SHARES:
        if row.get(key) is not None and not measured[key][0] <= row[key] <= measured[key][1]:
            yield f"{key} is not that of the singular values"
    for key, edge in EDGES.items():
        if row.get(key) is not None and row.get(edge) is not None:
            high, low = (sum(value > row[edge] * way for value in sigma) for way in (1 - COARSE, 1 + COARSE))
            if not low <= row[key] <= high:
                yield f"{key} is not the number of singular values above its edge"


@lru_cache(maxsize=4096)
def _measures(sigma: tuple[float, ...]) -> dict[str, tuple[float, float]]:
    """Of each measure the least and the largest value that it can have for the rounding of the singular values."""
    import torch

    from lorax_lab.spectra import summary
    from lorax_lab.spectra.measures import energy_rank

    values = torch.tensor(sigma, dtype=torch.float64)
    found = summary(values, (len(sigma), len(sigma)))
    bounds = {key: (found[key], found[key]) for key in FLOATS}
    for key, share in SHARES.items():
        bounds[key] = (energy_rank(values, share - SHARE), energy_rank(values, share + SHARE))
    return bounds


@lru_cache(maxsize=1024)
def _null(shape: tuple[int, int], rank: int | None) -> dict[str, float]:
    from lorax_lab.spectra import gaussian_null

    return gaussian_null(shape, rank)
