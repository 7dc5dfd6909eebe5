"""Brackets for measures of a spectrum of which the top and ‖A‖_F are known: every measure that the energies decide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float64


@dataclass(frozen=True)
class Bracket:
    """A number between low and high."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """high / low; 1 where both are equal, also at 0."""
        return 1.0 if self.low == self.high else self.high / self.low if self.low else math.inf

    def holds(self, value: float) -> bool:
        """Whether low ≤ value ≤ high."""
        return self.low <= value <= self.high


@dataclass(frozen=True, eq=False)
class TopSpectrum:
    """The top k of a spectrum and what is certain about the rest.

    Args:
        U: (out, k), sigma: (k,), Vh: (k, in): Ritz values and vectors, sigma descending and at most the true values.
        high: (k,), at least the true values, with probability 1 − `krylov.FAILURE`.
        norm: ‖A‖_F, exact.
        shape: (out, in).
    """

    U: Float64[Tensor, "out k"]
    sigma: Float64[Tensor, " k"]
    Vh: Float64[Tensor, "k in"]
    high: Float64[Tensor, " k"]
    norm: float
    shape: tuple[int, int]

    def energy(self, j: int) -> Bracket:
        """Σ_{i≤j} σ_i² / ‖A‖²_F for any j from 0 to min(out, in)."""
        low, high = self._curves()
        return Bracket(float(low[j]), float(high[j]))

    def energy_rank(self, share: float) -> Bracket:
        """Smallest number of directions that hold `share` of ‖A‖²_F. It is low if they hold as much as they can, high
        if they hold as little as they can."""
        low, high = self._curves()
        target = share * (1 - 1e-12)
        return Bracket(int((high < target).sum()), int((low < target).sum()))

    def stable_rank(self) -> Bracket:
        """‖A‖²_F / σ_1²."""
        low, high = self._shares()
        return Bracket(max(1 / float(high[0]), 1.0), 1 / float(low[0]))

    def participation_ratio(self) -> Bracket:
        """(Σσ²)² / Σσ⁴: what is left adds least to Σσ⁴ if it is spread evenly over the rest, and most in pieces as
        large as they can be."""
        low, high = self._shares()
        left, k, m = max(1 - float(low.sum()), 0.0), len(low), min(self.shape)
        least_sum = float(low.square().sum())
        most = min(float(high.square().sum()) + left * float(high[-1]), least_sum + 2 * left * float(high[0]))
        even = left / (m - k) if m > k else 0.0
        least = least_sum + (left * even if even <= float(low[-1]) else 0.0)
        return Bracket(max(1 / most, 1.0), min(1 / least, float(m)))

    def brackets(self) -> dict[str, Bracket]:
        """Every measure that the top of the spectrum and ‖A‖_F can bound, by its name in `MEASURES`; the two
        entropies need every value."""
        energy = {f"energy_rank_{percent}": self.energy_rank(percent / 100) for percent in (50, 90, 95, 99)}
        return {"stable_rank": self.stable_rank(), "participation_ratio": self.participation_ratio()} | energy

    def _shares(self) -> tuple[Tensor, Tensor]:
        """Lower and upper ends of σ_i² / ‖A‖²_F for i ≤ k."""
        return (self.sigma / self.norm).square().cpu(), (self.high / self.norm).square().cpu()

    def _curves(self) -> tuple[Float64[Tensor, " m1"], Float64[Tensor, " m1"]]:
        """Least and most energy that the first j = 0..m directions can hold. Beyond k each direction holds at least an
        even part of the remaining energy, since the values descend, and at most σ_k²."""
        low, high = self._shares()
        beyond = torch.arange(1, min(self.shape) - len(low) + 1, dtype=torch.float64)
        least, most = low.cumsum(0), torch.minimum(high.cumsum(0), low.cumsum(0) + max(1 - float(low.sum()), 0.0))
        least = torch.cat([least, least[-1] + (1 - least[-1]).clamp(min=0) * beyond / max(len(beyond), 1)])
        most = torch.cat([most, most[-1] + high[-1] * beyond]).clamp(max=1.0)
        start = torch.zeros(1, dtype=torch.float64)
        assert len(least) == len(most) == min(self.shape), f"{len(least)} of {min(self.shape)} values"
        return torch.cat([start, least]), torch.cat([start, most])
