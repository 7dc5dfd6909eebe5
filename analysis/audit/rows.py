"""What the figures of an audit share: its rows with every column there, noise to compare with, points of a curve."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

Row: TypeAlias = dict[Any, Any]
"""A row of an audit by its column names, as pandas gives it."""
TEXT = ("matrix", "module", "kind", "untrusted")
MEASURES = ("effective_rank", "energy_rank_90")
NULLS = tuple(f"nulls.{name}.effective_rank" for name in ("scaled", "signs", "permuted"))
"""Of noise that keeps an update's scales, magnitudes or entries."""
FACTORS = ("amplification.factor", "amplification.random_factor", "amplification.base_factor")
COUNTS = tuple(f"intruders.{side}.{count}" for count in ("count", "random_count") for side in ("left", "right"))
FITTED = ("noise_std", "noise_edge", "rounding_edge", "spikes", "spikes_told", "bulk_misfit", "above_rounding")
NUMBERS = (
    *("out", "in", "rank", "frobenius_norm", *MEASURES, *(f"null.{name}" for name in MEASURES), *NULLS),
    *(*FITTED, *FACTORS, "amplification.rank", *COUNTS, "intruders.k"),
)
DRAWS = 64
"""The noise of a low-rank update is averaged over this many products."""
PER_OCTAVE = 32
"""Points of a curve between an index and its double. Up to this index the curve has every point."""
MOST = 12
"""Most lines of module types that a reader can tell apart."""


def tidy(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of an audit with every column that a figure asks for: NaN, or no text, where one is absent.

    `layer` becomes Int64; a matrix without a module type is its own.
    """
    table = rows.reset_index(drop=True).reindex(columns=[*dict.fromkeys([*rows.columns, *TEXT, *NUMBERS, "layer"])])
    for name in TEXT:
        table[name] = [value if isinstance(value, str) else "" for value in table[name]]
    for name in NUMBERS:
        table[name] = pd.to_numeric(table[name], errors="coerce").astype(float)
    table["module"] = table["module"].where(table["module"] != "", table["matrix"])
    table["layer"] = pd.to_numeric(table["layer"], errors="coerce").astype("Int64")
    return table


def noise_values(row: Row, spikes: int = 0) -> np.ndarray | None:
    """Singular values of Gaussian noise of a row's shape with entries of std 1, descending; where it has a `rank`,
    the root mean squares of those of products of Gaussian factors. None where the row has no shape.

    Args:
        spikes: directions that a signal takes: the noise has the shape (out − spikes, in − spikes) of the rest.
    """
    if not (row["out"] > 0 and row["in"] > 0):
        return None
    sides = (int(row["out"]), int(row["in"]))
    left = min(spikes, *sides)
    return _noise_values(sides[0] - left, sides[1] - left, int(row["rank"]) if row["rank"] > 0 else None)


@cache
def _noise_values(out_features: int, in_features: int, rank: int | None) -> np.ndarray:
    from lorax_lab.spectra import gaussian_singular_values, product_spectra

    shape = (out_features, in_features)
    if rank is None:
        return gaussian_singular_values(shape).numpy()
    return product_spectra(shape, rank, DRAWS).square().mean(0).sqrt().numpy()


def points(count: int) -> list[int]:
    """Indices from 1 to `count`, all at first and then evenly spaced in their logarithm; the last among them.

    >>> points(3), len(points(4096)), points(4096)[-1]
    ([1, 2, 3], 253, 4096)
    """
    spaced = (round(PER_OCTAVE * 2 ** (step / PER_OCTAVE)) for step in range(PER_OCTAVE * count.bit_length()))
    return sorted({*range(1, min(count, PER_OCTAVE) + 1), *(i for i in spaced if i < count), count} - {0})


def note(text: str, names: Iterable[object], most: int = 3) -> list[str]:
    """A line with the first of these names, each once, and how many more there are; none without names.

    >>> note("still", ["a", "b", "c", "d", "a"]), note("still", [])
    (['still: a, b, c and 1 more'], [])
    """
    once = list(dict.fromkeys(map(str, names)))
    more = f" and {len(once) - most} more" if len(once) > most else ""
    return [f"{text}: {', '.join(once[:most])}{more}"] if once else []
