"""The singular values of a run's update beside those of noise, averaged over the layers of each type of module."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from lorax_lab.record.record import Record
from lorax_lab.record.result import Matrix

if TYPE_CHECKING:
    import numpy as np

DENSE = 64
"""So many singular values are shown one by one; behind them, ever fewer of them are."""
DRAWS = 8
"""Products of Gaussian factors that are drawn for the null of a low-rank update."""
LIKE_NOISE = ("full", "lora", "peft/lora", "peft/rslora")
"""Methods whose null is known: dense Gaussian noise, or a product of two Gaussian factors. What another method makes of
noise depends on its form: a LoHa of noise alone has .46 of dense noise's effective rank at 32², and .05 at 384²."""


def share_of_noise(row: Mapping[str, Any], method: str) -> float | None:
    """The effective rank of one matrix's row as a share of noise's. None where either is missing, and where noise tells
    nothing: of rank 1 everything has an effective rank of 1, and most methods have no null."""
    value, null = row.get("effective_rank"), row.get("null", {}).get("effective_rank")
    return None if value is None or not has_null(method, null) else value / null


def has_null(method: str, null: float | None) -> bool:
    """Whether the effective rank of a method's update may be held against that of noise, which is `null`.

    >>> has_null("full", 190.5), has_null("lora", 1.0), has_null("peft/pissa", 3.4), has_null("peft/loha", 23.4)
    (True, False, False, False)
    """
    return method in LIKE_NOISE and null is not None and null > 1 + 1e-9


class Line(NamedTuple):
    """Singular values (m,), descending, of an update and of noise, means over layers."""

    sigma: np.ndarray
    null: np.ndarray


def mean_spectra(record: Record, spectra: dict[str, dict[str, np.ndarray]]) -> dict[str, Line]:
    """Singular values by type of module, averaged over its layers.

    Args:
        spectra: as `load_spectra` gives them.
    """
    import numpy as np

    modules: dict[str, list[Line]] = {}
    for name, matrix in record.completed.matrices.items():
        sigma = spectra[name]["sigma"]
        modules.setdefault(matrix.module, []).append(Line(sigma, _null(sigma, matrix)))
    lines = {}
    for module, those in modules.items():
        m = min(len(line.sigma) for line in those)
        parts = zip(*(([line.sigma[:m], line.null[:m]]) for line in those), strict=True)
        lines[module] = Line(*(np.mean(part, axis=0) for part in parts))
    return lines


def _null(sigma: np.ndarray, matrix: Matrix) -> np.ndarray:
    """Singular values of noise beside an update's: for a dense update Gaussian noise of its shape, at the level that
    is fitted to its bulk; for a low-rank one a product of Gaussian factors of its rank and its norm."""
    import numpy as np

    if matrix.rank is None:
        import torch  # takes two seconds

        from lorax_lab.spectra import noise_scale

        return _noise(matrix.shape, None) * noise_scale(torch.from_numpy(sigma), matrix.shape)
    null = _noise(matrix.shape, matrix.rank)
    norm = np.linalg.norm(null)
    return null * (np.linalg.norm(sigma) / norm) if norm else null


@lru_cache(maxsize=64)
def _noise(shape: tuple[int, int], rank: int | None) -> np.ndarray:
    """Singular values of Gaussian noise, entries of std 1, or of the product of factors of a rank."""
    import numpy as np

    if rank is None:
        from lorax_lab.spectra import gaussian_singular_values  # imports torch, which takes two seconds

        return gaussian_singular_values(shape).numpy()
    draw = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):  # of B A the singular values are those of R_B R_Aᵀ
        out, into = (np.asarray(np.linalg.qr(draw.standard_normal((side, rank)), mode="r")) for side in shape)
        drawn.append(np.linalg.svd(out @ into.T, compute_uv=False)[:rank])
    return np.asarray(np.mean(drawn, axis=0))


def shown_indices(count: int) -> list[int]:
    """The indices, from 1, of the singular values that a curve shows: all up to `DENSE`, then about 16 for each
    doubling, and the last.

    >>> shown_indices(3), len(shown_indices(4096))
    ([1, 2, 3], 161)
    """
    shown, step = list(range(1, min(count, DENSE) + 1)), DENSE + 1.0
    while step < count:
        shown.append(int(step))
        step = max(step + 1, step * 2 ** (1 / 16))
    return shown + ([count] if count > DENSE else [])
