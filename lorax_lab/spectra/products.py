"""Whether the spectrum of a low-rank product is that of noise: of Gaussian factors of its shape and rank.

The edge of Marchenko & Pastur is that of a matrix with iid entries. A product B A has none: its entries are correlated,
and its r values all stand above the edge that such noise of its size would have. Its own null is a product too. Where A
is near its random start and B is a sum of noise, as of gradients without a signal, ΔW has the spectrum of that null.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lorax_lab.spectra.matrix import LowRank
from lorax_lab.spectra.measures import effective_rank, stable_rank

if TYPE_CHECKING:
    from jaxtyping import Float64

DRAWS, SMALL = 1024, 32
"""Products drawn for each shape and rank; a quarter of them above rank `SMALL`, where they take seconds."""
LEAST = 1e-12
"""The least share of its rank by which an effective rank is taken to fall short of it."""
ORTHOGONAL = 1e-3
"""Largest cosine between the columns of a factor that an SVD made; random ones of 4,096 entries have .016."""


def _evenness(sigma: Tensor) -> float:
    """−log of the share of its rank by which the effective rank falls short of it: its own logarithm is bounded by that
    of the rank, and far from normal."""
    return -math.log(max(1 - effective_rank(sigma) / len(sigma), LEAST))


def _breadth(sigma: Tensor) -> float:
    return math.log(stable_rank(sigma))


STATISTICS = {"effective_rank": _evenness, "stable_rank": _breadth}
"""What is compared: the one sees all of a spectrum, the other its largest value. Neither depends on the scale; both are
near normal on noise."""


class ProductTest(NamedTuple):
    """How some products differ from noise of their shapes and ranks."""

    p: float
    """Of both statistics, two-sided, corrected for their number; in [0, 1]. NaN where no product has two values."""
    z: dict[str, float]
    """By statistic, in standard deviations; below 0 where the energy lies in fewer directions than noise's."""


def product_test(spectra: Sequence[Float64[Tensor, " m"]], forms: Sequence[tuple[int, int, int]]) -> ProductTest:
    """Test the sum over products of each of `STATISTICS` against its distribution on noise.

    z = Σ(x_i − μ_i) / s. The variance s² counts the scatter of each product and that of μ, a mean over draws.

    Args:
        spectra: singular values of each product, descending. Products with fewer than two values tell nothing.
        forms: (out, in, rank) of each.

    >>> noise = product_spectra((64, 32), 4)[:8]
    >>> product_test(list(noise), [(64, 32, 4)] * 8).p > 0.01
    True
    >>> product_test([torch.tensor([9.0, 1.0, 0.1, 0.1])] * 8, [(64, 32, 4)] * 8).p < 1e-6
    True
    """
    pairs = [(sigma, form) for sigma, form in zip(spectra, forms, strict=True) if len(sigma) > 1 and sigma[0] > 0]
    if not pairs:
        return ProductTest(math.nan, dict.fromkeys(STATISTICS, math.nan))
    counts = {form: sum(form == its_form for _, its_form in pairs) for form in dict.fromkeys(form for _, form in pairs)}
    z = {}
    for name, statistic in STATISTICS.items():
        total, variance = 0.0, 0.0
        for form, count in counts.items():
            mean, std = _moments(form)[name]
            total += sum(statistic(sigma) - mean for sigma, its_form in pairs if its_form == form)
            variance += std**2 * (count + count**2 / _draws(form[2]))
        z[name] = total / math.sqrt(variance)
    return ProductTest(min(1.0, len(z) * math.erfc(max(map(abs, z.values())) / math.sqrt(2))), z)


def product_spectra(shape: Sequence[int], rank: int, draws: int | None = None) -> Float64[Tensor, "draws m"]:
    """Singular values of products of Gaussian factors B (out, rank) and A (rank, in), descending in each row.

    Only the triangles of both factors are drawn, after Bartlett (1933): the diagonal of a Gaussian (n, r) matrix's R is
    chi distributed with n, n − 1, … degrees of freedom, above it are normal entries. The same arguments always give the
    same numbers, from a generator of their own.

    Args:
        draws: as many as a test takes where it is None.
    """
    generator, count = np.random.default_rng((0, *map(int, shape), int(rank))), draws or _draws(rank)

    def triangle(side: int) -> Tensor:
        if side <= rank:
            return torch.from_numpy(generator.standard_normal((count, side, rank)))
        drawn = np.triu(generator.standard_normal((count, rank, rank)), 1)
        drawn[:, range(rank), range(rank)] = np.sqrt(generator.chisquare(side - np.arange(rank), (count, rank)))
        return torch.from_numpy(drawn)

    return torch.linalg.svdvals(triangle(shape[0]) @ triangle(shape[1]).mT)


def _draws(rank: int) -> int:
    return DRAWS if rank <= SMALL else DRAWS // 4


def made_by_svd(update: LowRank) -> bool:
    """Whether an SVD made the factors: the columns of B and the rows of A are orthogonal.

    Such a product is what a truncation left over. What was cut away is not in it, so no null is its own.

    >>> made_by_svd(LowRank(torch.eye(6, 2), torch.eye(2, 5))), made_by_svd(LowRank(torch.ones(6, 2), torch.eye(2, 5)))
    (True, False)
    """
    return all(_largest_cosine(factor) < ORTHOGONAL for factor in (update.B, update.A.T))


def has_orthogonal_factor(update: LowRank) -> bool:
    """Whether B or A has orthogonal directions, or the later half of B, where PEFT appends the start of a converted
    PiSSA, OLoRA, CorDA or LoRA-GA.

    The product of random factors is no null of such a product.

    >>> has_orthogonal_factor(LowRank(torch.eye(6, 2), torch.ones(2, 5)))
    True
    >>> has_orthogonal_factor(LowRank(torch.ones(6, 2), torch.ones(2, 5)))
    False
    """
    start = update.B[:, update.B.shape[1] // 2 :]
    factors = [update.B, update.A.T, *([start] if start.shape[1] > 1 else [])]
    return any(_largest_cosine(factor) < ORTHOGONAL for factor in factors)


def _largest_cosine(factor: Tensor) -> float:
    columns = factor.to(torch.float64)
    columns = columns / columns.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
    cosines = (columns.T @ columns).fill_diagonal_(0.0)
    return float(cosines.abs().max()) if cosines.numel() else 0.0


@cache
def _moments(form: tuple[int, int, int]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of each statistic on noise."""
    spectra, moments = product_spectra(form[:2], form[2]), {}
    for name, statistic in STATISTICS.items():
        values = torch.tensor([statistic(sigma) for sigma in spectra]).double()
        moments[name] = (float(values.mean()), float(values.std()))
    return moments
