"""Nulls that keep some structure of an update and none of its directions.

Noise need not be iid. Rows of unequal size, or heavy tails, lower every rank and lift singular values above the edge
that iid noise has: by the spectrum alone such noise looks like signal. Each null here keeps one such structure of the
update, at its Frobenius norm, and draws the rest anew:

    scaled     Gaussian entries, each row and each column with its own scale as in the update
    signs      the absolute value of every entry, with signs drawn anew
    permuted   the entries, in an order drawn anew

What an update has beyond all three is neither scale nor tails. It may still be noise with correlated entries, which no
null here keeps: gradients are sums of outer products, and have it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Generator, Tensor

from lorax_lab.spectra.blocks import Blocks, device_of, piece, shape_of, tall
from lorax_lab.spectra.matrix import checked_matrix, scaled, times_power_of_two
from lorax_lab.spectra.measures import MEASURES
from lorax_lab.spectra.null import gaussian_draw, gaussian_singular_values
from lorax_lab.spectra.values import singular_values

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

ABOVE = "above"
"""Beside the measures: how many singular values of the update exceed the largest of every draw."""
ROUNDS, CLOSE, FLOOR = 100, 1e-4, 1e-3
"""Rounds of the fit of scales, at most; the relative change of a scale that ends it; the share of the squares that is
spread over their row and column."""
WHOLE, MOST = 2**20, 2**24
"""Entries up to which a null is drawn at the update's size, and up to which it may be where no smaller size will do:
128 MiB in fp64, and several times that while it is drawn."""
PART, LEAST, HEAVY = 2**18, 256, 5
"""Entries of a smaller draw; rows or columns that it has at least; times the mean that a row or column may hold."""


def structured_spectra(
    delta_weight: Float[Tensor, "out in"] | Blocks, generator: Generator, draws: int = 1
) -> dict[str, list[Float64[Tensor, " m"]]]:
    """The singular values of each draw of each null of `NULLS`, at the update's norm.

    Up to `WHOLE` entries a null is drawn at the update's size. Above, `scaled` and `signs` are drawn from some of its
    rows and columns, evenly chosen by size, and a value's ratio to that of iid noise is read at the same share of all
    values. `permuted` entries are iid, so their spectrum is that of Gaussian noise (`gaussian_draw`). In a layer of
    Llama-3.2-1B's shapes with a planted update, effective ranks were within .2 % of whole draws, energy ranks within
    1.3 % and the largest value within 11 %; on iid noise within .1, .2 and .5 %. Where a row or column holds `HEAVY`
    times the mean, or an entry alone makes a singular value, this fails: such an update is drawn whole, up to `MOST`
    entries. Nulls recorded before this rule were all drawn whole.

    Args:
        delta_weight: (out, in), dense. A product of factors has another null: `gaussian_null` with its rank.
        generator: on the CPU; the same one gives the same numbers.
        draws: of each null, ≥ 1. One is enough in the mean over matrices: over draws an effective rank spreads by .3 %
            or less at 160 × 240, by .8 % where the scales of rows are lognormal with sd 1.

    Returns:
        Nothing for an update that can be drawn in neither way.

    Raises:
        ValueError: draws is below 1, not 2-D, complex, or nan or inf inside.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}; expected a number ≥ 1")
    shape = shape_of(delta_weight)
    part, norm = _part(delta_weight, generator) if math.prod(shape) > WHOLE else (None, 0.0)
    if part is not None:
        drawn = {name: [_drawn_small(name, part, shape, index, generator) for index in range(draws)] for name in NULLS}
        return {name: [sigma * (norm / sigma.norm()) for sigma in spectra] for name, spectra in drawn.items()}
    if math.prod(shape) > max(MOST, WHOLE):
        return {}
    update, exponent = scaled(checked_matrix(piece(delta_weight, 0, 0, shape[0]), "delta_weight"))
    return {
        name: [times_power_of_two(singular_values(draw(update, generator)), exponent) for _ in range(draws)]
        for name, draw in NULLS.items()
    }


def _part(x: Tensor | Blocks, generator: Generator) -> tuple[Float64[Tensor, "k l"] | None, float]:
    """Rows and columns that stand for all of a large update, and ‖ΔW‖_F; None where few hold too much of it."""
    long, short, largest = [], torch.zeros(min(x.shape), dtype=torch.float64, device=device_of(x)), 0.0
    for block in tall(x, "delta_weight"):
        squares = block.square()
        long.append(squares.sum(1))
        short += squares.sum(0)
        largest = max(largest, float(squares.max()))
    sides, mean = (torch.cat(long).cpu(), short.cpu()), float(short.mean()) / max(x.shape)
    share = max(math.sqrt(PART / math.prod(x.shape)), LEAST / len(short))
    if share >= 1 or not 0 < largest <= mean * share * math.sqrt(math.prod(x.shape)):
        return None, 0.0
    if any(float(side.max()) > HEAVY * float(side.mean()) for side in sides):
        return None, 0.0
    long_indices, short_indices = (
        _evenly(side, round(share * len(side)), generator).to(short.device) for side in sides
    )
    dim = 0 if x.shape[0] >= x.shape[1] else 1
    chosen = torch.cat([piece(x, dim, line, line + 1) for line in long_indices.tolist()], dim)
    return chosen.index_select(1 - dim, short_indices).to(torch.float64), math.sqrt(float(short.sum()))


def _evenly(sizes: Float64[Tensor, " n"], count: int, generator: Generator) -> Tensor:
    """As many indices, one drawn from each of as many groups that are neighbours in size."""
    drawn = (torch.arange(count) + torch.rand(count, generator=generator, dtype=torch.float64)) / count
    return sizes.argsort(stable=True)[(drawn * len(sizes)).long().clamp(max=len(sizes) - 1)]


def _drawn_small(
    null: str, part: Float64[Tensor, "k l"], shape: tuple[int, int], index: int, generator: Generator
) -> Float64[Tensor, " m"]:
    """The values of one draw, not yet at the update's norm: at each share of all values the same ratio to iid noise."""
    if null == "permuted":
        return gaussian_draw(shape, index)
    sigma, noise = singular_values(NULLS[null](part, generator)).cpu(), gaussian_singular_values(shape)
    ratio = sigma / gaussian_singular_values(part.shape)
    at, given = ((np.arange(len(values)) + 0.5) / len(values) for values in (noise, sigma))
    return (noise * torch.from_numpy(np.interp(at, given, ratio))).sort(descending=True).values


def measures_of_null(update_sigma: Float64[Tensor, " m"], drawn: Sequence[Float64[Tensor, " m"]]) -> dict[str, float]:
    """The means of `MEASURES` over the spectra of one null's draws, and how many of the update's own values are
    `ABOVE` the largest of them all."""
    means = {name: sum(float(measure(sigma)) for sigma in drawn) / len(drawn) for name, measure in MEASURES.items()}
    largest = max(float(sigma[0]) if len(sigma) else 0.0 for sigma in drawn)
    return means | {ABOVE: float((update_sigma > largest).sum())}


def scaled_noise(update: Float64[Tensor, "out in"], generator: Generator) -> Float64[Tensor, "out in"]:
    """Gaussian entries with the standard deviations of `scales`.

    >>> draw = scaled_noise(torch.tensor([[3.0, 0.0], [4.0, 0.0]]).double(), torch.Generator().manual_seed(0))
    >>> round(draw.norm().item(), 6), draw[:, 1].abs().tolist()
    (5.0, [0.0, 0.0])
    """
    rows, columns = scales(update)
    draw = torch.randn(update.shape, generator=generator, dtype=torch.float64).to(update.device) * rows * columns
    size = draw.norm()
    return draw * (update.norm() / size) if size else draw


def scales(update: Float64[Tensor, "out in"]) -> tuple[Float64[Tensor, "out 1"], Float64[Tensor, "1 in"]]:
    """(√a, √b), scales of rows and columns: those of Gaussian noise of variance a_i b_j that is likeliest the update.

    They solve a_i = mean_j x²_ij / b_j and b_j = mean_i x²_ij / a_i, by taking the two in turns (Sinkhorn & Knopp 1967,
    on the squares). Every row then counts alike for the columns' scales. Row norms and column norms would be another
    profile: where few rows hold the energy, their own entries make the columns' norms. `FLOOR` of each square is taken
    from that profile, so that the turns end where entries are zero; a row or column of zeros has scale 0.
    """
    a, b = update.square().sum(1, keepdim=True), update.square().sum(0, keepdim=True)
    energy = (1 - FLOOR) * update.square() + FLOOR * a * (b / a.sum())
    for _ in range(ROUNDS):
        before = a
        b = _mean(energy, a, dim=0)
        a = _mean(energy, b, dim=1)
        if bool(((a - before).abs() <= CLOSE * a).all()):
            break
    return a.sqrt(), b.sqrt()


def redrawn_signs(update: Float64[Tensor, "out in"], generator: Generator) -> Float64[Tensor, "out in"]:
    """The update with the sign of every entry drawn anew.

    >>> redrawn_signs(torch.tensor([[3.0, -4.0]]).double(), torch.Generator().manual_seed(0)).abs().tolist()
    [[3.0, 4.0]]
    """
    signs = 2 * torch.randint(2, update.shape, generator=generator, dtype=torch.float64) - 1
    return update * signs.to(update.device)


def permuted_entries(update: Float64[Tensor, "out in"], generator: Generator) -> Float64[Tensor, "out in"]:
    """The update's entries in an order drawn anew.

    >>> sorted(permuted_entries(torch.tensor([[3.0, -4.0]]).double(), torch.Generator().manual_seed(0))[0].tolist())
    [-4.0, 3.0]
    """
    order = torch.randperm(update.numel(), generator=generator).to(update.device)
    return update.flatten()[order].view(update.shape)


NULLS: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "scaled": scaled_noise,
    "signs": redrawn_signs,
    "permuted": permuted_entries,
}
"""A new null is a line here, at the end: the draws of those before it stay."""


def _mean(energy: Tensor, scale: Tensor, dim: int) -> Tensor:
    """The mean of energy / scale along `dim` over the rows or columns that are not zero."""
    return torch.where(scale > 0, energy / scale, 0).sum(dim, keepdim=True) / (scale > 0).sum().clamp(min=1)
