"""What the figures of an audit share: its rows with every column there, noise to compare with, points of a curve."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Row: TypeAlias = dict[Any, Any]
"""A row of an audit by its column names, as pandas gives it."""
TEXT = ("matrix", "module", "kind", "untrusted")
MEASURES = ("effective_rank", "energy_rank_90")
NULLS = ("scaled", "signs", "permuted")
"""Noise that keeps an update's scales, magnitudes or entries."""
NUMBERS = (
    "out",
    "in",
    "rank",
    "frobenius_norm",
    *MEASURES,
    *(f"null.{name}" for name in MEASURES),
    *(f"nulls.{name}.effective_rank" for name in NULLS),
    "energy_rank_90.low",
    "noise_std",
    "noise_edge",
    "bulk_misfit",
    "spikes",
    "spike_energy",
    "rounding_edge",
    "above_rounding",
    *(f"amplification.{name}" for name in ("factor", "random_factor", "base_factor", "rank")),
    *(f"intruders.{side}.{name}" for side in ("left", "right") for name in ("count", "random_count")),
    "intruders.k",
)
DRAWS = 4
"""The noise of a low-rank update is averaged over this many products, whose values spread by a few per cent."""
PER_OCTAVE = 32
"""Points of a curve between an index and its double. Up to this index the curve has every point."""
MOST = 12
"""Most lines of module types that a reader can tell apart."""


def tidy(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of an audit with every column that a figure asks for: NaN, or no text, where one is absent.

    `layer` becomes Int64; a matrix without a module type is its own.
    """
    import pandas as pd

    table = rows.reset_index(drop=True).reindex(columns=[*dict.fromkeys([*rows.columns, *TEXT, *NUMBERS, "layer"])])
    for name in TEXT:
        table[name] = [value if isinstance(value, str) else "" for value in table[name]]
    for name in NUMBERS:
        table[name] = pd.to_numeric(table[name], errors="coerce").astype(float)
    table["module"] = table["module"].where(table["module"] != "", table["matrix"])
    table["layer"] = pd.to_numeric(table["layer"], errors="coerce").astype("Int64")
    return table


def told(row: Row | pd.Series[Any]) -> bool:
    """Whether a row's spikes are directions above noise: its bulk is that of iid noise, or it has no noise."""
    from lorax_lab.spectra import tells_spikes

    shape = (int(row["out"]), int(row["in"])) if row["out"] > 0 and row["in"] > 0 else (0, 0)
    return tells_spikes(row["bulk_misfit"], row["noise_std"], shape)


def noise_values(row: Row, spikes: int = 0) -> np.ndarray | None:
    """Singular values of Gaussian noise of a row's shape with entries of std 1, descending; where it has a `rank`,
    the root mean squares of those of products of Gaussian factors. None where the row has no shape.

    Args:
        spikes: directions that a signal takes: the noise has the shape (out − spikes, in − spikes) of the rest.
    """
    if not (row["out"] > 0 and row["in"] > 0):
        return None
    rank, spikes = int(row["rank"]) if row["rank"] > 0 else None, min(spikes, int(row["out"]), int(row["in"]))
    return _noise_values(int(row["out"]) - spikes, int(row["in"]) - spikes, rank)


@cache
def _noise_values(out_features: int, in_features: int, rank: int | None) -> np.ndarray:
    import torch

    from lorax_lab.spectra import LowRank, gaussian_singular_values, low_rank_singular_values

    if rank is None:
        return gaussian_singular_values((out_features, in_features)).numpy()
    generator = torch.Generator().manual_seed(0)

    def gaussian(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    draws = [LowRank(gaussian(out_features, rank), gaussian(rank, in_features)) for _ in range(DRAWS)]
    return torch.stack(low_rank_singular_values(draws)).square().mean(0).sqrt().numpy()


def known_whole(row: Row, sigma: np.ndarray) -> bool:
    """Whether these singular values hold all of an update's energy."""
    norm = row["frobenius_norm"]
    return len(sigma) >= min(row["out"], row["in"]) or bool((sigma**2).sum() >= norm**2 * (1 - 1e-9))


def points(count: int) -> list[int]:
    """Indices from 1 to `count`, all at first and then evenly spaced in their logarithm; the last among them.

    >>> points(3), len(points(4096)), points(4096)[-1]
    ([1, 2, 3], 253, 4096)
    """
    if count <= PER_OCTAVE:
        return list(range(1, count + 1))
    first, indices = list(range(1, PER_OCTAVE)), []
    step = 0
    while (index := round(PER_OCTAVE * 2 ** (step / PER_OCTAVE))) < count:
        indices.append(index)
        step += 1
    return list(dict.fromkeys([*first, *indices, count]))


def strongest(table: pd.DataFrame, weight: str) -> list[str]:
    """The module types with the largest sums of a column, at most `MOST`, in the order of the table."""
    sums = table.groupby("module", sort=False)[weight].sum()
    return [str(name) for name in sums.index if name in set(sums.nlargest(MOST).index)]


def outside(table: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """Notes on the module types of the table that `rows` leave out: some lie outside the layers, some have no room."""
    out = table[~table.index.isin(rows.index)]
    reasons = {"outside the layers": out["layer"].isna(), "too many for the page": out["layer"].notna()}
    names = {reason: list(dict.fromkeys(out[mask]["module"])) for reason, mask in reasons.items()}
    return [f"{reason}, in the table only: {listed(modules)}" for reason, modules in names.items() if modules]


def listed(names: list[str], most: int = 3) -> str:
    """The first names, and how many more there are.

    >>> listed(["a", "b", "c", "d"]), listed(["a", "b"])
    ('a, b, c and 1 more', 'a, b')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
