"""Random matrices, and matrices whose singular values are known, for the laws of the numerics."""

import torch
from torch import Tensor

from lorax_lab.spectra import measures_of_null, singular_values, structured_spectra


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=draws(seed), dtype=torch.float64)


def orthonormal(d: int, k: int, seed: int = 0) -> Tensor:
    """k orthonormal columns (d, k)."""
    return torch.linalg.qr(gaussian(d, k, seed=seed)).Q


def with_values(sigma: list[float] | Tensor, out: int, into: int, seed: int = 0) -> Tensor:
    """A matrix of these singular values."""
    values = torch.as_tensor(sigma, dtype=torch.float64)
    return orthonormal(out, len(values), seed) * values @ orthonormal(into, len(values), seed + 1).T


def structured_nulls(update: Tensor, generator: torch.Generator, draws: int = 1) -> dict[str, dict[str, float]]:
    """The measures of each null of an update."""
    spectra = structured_spectra(update, generator, draws)
    return {null: measures_of_null(singular_values(update), drawn) for null, drawn in spectra.items()}
