"""`python -m analysis planted`: which rank number finds the rank of a matrix that was made with one?

A signal of known rank is put into noise, and every spectral estimator is asked. Nothing is trained. The noise is iid,
or its rows differ in size (lognormal, sd 1), as trained matrices' may. An estimator errs by |log2(estimate / rank)|
octaves: 0 is right, 1 twice or half of it; a 0 counts as ½. Where the records of the study `planted_ranks` are, r* and
k* of trained updates are drawn beside it; where the table of `experiments.planted_everywhere` is, so is a rank in every
matrix at once.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.errors import ConfigError, answer

from . import planted_everywhere, planted_trained, style
from .estimates import planted_axes, ranges
from .folders import check_out
from .study.records import RECORDS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Generator, Tensor

NAME = "planted"
SIDE = 384
RANKS = (1, 2, 4, 8, 16, 32, 64, SIDE)
NOISES = {"iid": "iid noise", "rows": "rows of lognormal size"}
RATIOS = (3.0, 0.5)
"""‖signal‖_F over ‖noise‖_F."""
DRAWS, NULL_DRAWS = 10, 3
WEAKEST = 0.5
"""The smallest singular value of a signal, relative to its largest; the others lie evenly between."""
TOLD = "directions above the edge, where told"
SHOWN = (
    *("effective rank", "stable rank", "participation ratio", "90 % of the energy", "Gavish & Donoho"),
    *("directions above the edge", "above redrawn signs"),
)
"""Lines of the figure; the table has every estimator."""
RIGHT = 0.1
"""Within this share of the planted rank an estimate counts as right."""


def main(arguments: list[str]) -> int:
    """Draw, write and print. Returns the exit code: 0, or 2 for a wrong input."""
    parser = argparse.ArgumentParser(prog=f"python -m analysis {NAME}", description=__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS, help=f"matrices of each kind ({DRAWS}: about 2 minutes)")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="where the figure and the table go (figures)")
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the records (experiments/records)")
    options = parser.parse_args(arguments)
    return answer(lambda: _main(options))


def _main(options: argparse.Namespace) -> int:
    if options.draws < 1:
        raise ConfigError(
            f"--draws {options.draws}: allowed are numbers ≥ 1; type python -m analysis planted --draws 10"
        )
    check_out(options.out)
    rows = table(options.draws)
    _save(rows, draw(rows), options.out / f"{NAME}_ranks", summary(rows))
    records, reason = planted_trained.records_of(options.records)
    if records:
        trained = planted_trained.table(records)
        joined = planted_trained.joined(trained, rows)
        _save(joined, planted_trained.draw(joined), options.out / f"{NAME}_trained", planted_trained.summary(trained))
    else:
        print(reason)
    read, reason = planted_everywhere.read(options.records)
    if read is not None:
        every = planted_everywhere.table(read)
        words = planted_everywhere.summary(every)
        _save(every, planted_everywhere.draw(every), options.out / planted_everywhere.NAME, words)
    else:
        print(reason)
    return 0


def _save(rows: pd.DataFrame, figure: Figure, stem: Path, summary: list[str]) -> None:
    for path in style.save(rows, figure, stem):
        print(path)
    for line in summary:
        print(line)


def table(draws: int = DRAWS, ranks: tuple[int, ...] = RANKS, side: int = SIDE) -> pd.DataFrame:
    """One row per noise, ratio, planted rank and estimator.

    Columns: noise, ratio (‖signal‖ / ‖noise‖), rank (planted), estimator, draws, told (of how many draws it has a
    value), mean, low, high (of the estimates: their mean, least and most), error (mean octaves from the planted rank).
    """
    import pandas as pd

    rows = []
    for noise in NOISES:
        for ratio in RATIOS:
            for rank in ranks:
                found = [estimates(*planted(noise, ratio, rank, draw, side)) for draw in range(draws)]
                place = {"noise": noise, "ratio": ratio, "rank": rank}
                rows += [place | {"estimator": name} | _spread([one[name] for one in found], rank) for name in found[0]]
    return pd.DataFrame(rows)


def planted(noise: str, ratio: float, rank: int, draw: int, side: int = SIDE) -> tuple[Tensor, Generator]:
    """A matrix with a signal of this rank, and the generator that goes on to draw its nulls."""
    import torch

    from lorax_lab.streams import generator

    stream = generator(draw, f"planted/{noise}/{ratio:g}/{rank}")

    def gaussian(*size: int) -> Tensor:
        return torch.randn(size, generator=stream, dtype=torch.float64)

    U, V = (torch.linalg.qr(gaussian(side, rank)).Q for _ in range(2))
    signal = U * torch.linspace(1, WEAKEST, rank, dtype=torch.float64) @ V.T
    rest = gaussian(side, side) * (gaussian(side, 1).exp() if noise == "rows" else 1.0)
    return ratio * signal / signal.norm() + rest / rest.norm(), stream


def estimates(update: Tensor, stream: Generator) -> dict[str, float]:
    """Every estimator's rank of a matrix; NaN where it is not told."""
    from lorax_lab import spectra
    from lorax_lab.spectra.structured import ABOVE

    shape = (int(update.shape[0]), int(update.shape[1]))
    sigma = spectra.singular_values(update)
    std, count = spectra.noise_scale(sigma, shape), float(spectra.spikes(sigma, shape))
    told = spectra.tells_spikes(spectra.bulk_misfit(sigma, shape, std), std, shape)
    nulls = spectra.structured_nulls(update, stream, NULL_DRAWS)
    of_sigma: dict[str, Callable[[Tensor], float]] = {
        "effective rank": spectra.effective_rank,
        "energy-entropy rank": spectra.energy_entropy_rank,
        "participation ratio": spectra.participation_ratio,
        "stable rank": spectra.stable_rank,
        "90 % of the energy": lambda s: spectra.energy_rank(s, 0.9),
        "99 % of the energy": lambda s: spectra.energy_rank(s, 0.99),
        "σ above 1 % of the largest": lambda s: spectra.numerical_rank(s, tolerance=0.01),
        "σ above 10 % of the largest": lambda s: spectra.numerical_rank(s, tolerance=0.1),
        "Gavish & Donoho": lambda s: spectra.gavish_donoho_rank(s, shape),
    }
    return {
        **{name: float(measure(sigma)) for name, measure in of_sigma.items()},
        "directions above the edge": count,
        TOLD: count if told else math.nan,
        "above rows and columns scaled": nulls["scaled"][ABOVE],
        "above redrawn signs": nulls["signs"][ABOVE],
        "above permuted entries": nulls["permuted"][ABOVE],
    }


def standing(rows: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Each estimator, the best first: in how many cells below full rank its mean is right, and how many there are."""
    low = rows[rows["rank"] < rows["rank"].max()]
    near = ((low["mean"] / low["rank"] - 1).abs() <= RIGHT).groupby(low["estimator"], sort=False).sum()
    cells = low.groupby("estimator")["rank"].size()
    order = near.sort_values(ascending=False, kind="stable")
    return [(str(name), int(right), int(cells[name])) for name, right in order.items()]


def summary(rows: pd.DataFrame) -> list[str]:
    """A line per estimator as in `standing`, with its mean error and the share of matrices in which it is told."""
    low = rows[rows["rank"] < rows["rank"].max()]
    lines = [f"within {RIGHT:.0%} of a planted rank up to {low['rank'].max()}; mean error in octaves:"]
    for name, right, cells in standing(rows):
        of = low[low["estimator"] == name]
        told = of["told"].sum() / of["draws"].sum()
        note = f"   (told in {told:.0%})" if told < 1 else ""
        lines.append(f"  {name:<40}{right:>3} of {cells}   {of['error'].mean():.2f}{note}")
    return lines


def _spread(values: list[float], rank: int) -> dict[str, Any]:
    known = [value for value in values if not math.isnan(value)]
    spread = {"draws": len(values), "told": len(known)}
    if not known:
        return spread | dict.fromkeys(("mean", "low", "high", "error"), math.nan)
    error = sum(abs(math.log2(max(value, 0.5) / rank)) for value in known) / len(known)
    return spread | {"mean": sum(known) / len(known), "low": min(known), "high": max(known), "error": error}


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel per noise and ratio: the estimates over the planted rank, their range over draws, and the diagonal."""
    figure = style.canvas(style.PAGE, 6.4)
    grid = figure.subplots(len(RATIOS), len(NOISES), sharex=True, sharey=True)
    for line, ratio in zip(grid, RATIOS, strict=True):
        for axes, noise in zip(line, NOISES, strict=True):
            ranges(axes, table[(table["noise"] == noise) & (table["ratio"] == ratio)], SHOWN)
            axes.set_title(f"{NOISES[noise]}; ‖signal‖ = {ratio:g} ‖noise‖")
    ranks = sorted({int(rank) for rank in table["rank"]})
    planted_axes(grid[0][0], ranks)
    for axes in grid[-1]:
        axes.set_xlabel("planted rank, directions")
    for line in grid:
        line[0].set_ylabel("estimated rank, directions")
    best, right, cells = standing(table)[0]
    draws = int(table["draws"].max())
    style.title(
        figure,
        f"A signal of known rank in {ranks[-1]} × {ranks[-1]} noise, and the rank that each number says: means and "
        f"ranges over {draws} draws. Below full rank most often right: {best}, in {right} of {cells} cells",
    )
    style.legend(figure, grid[0][0], columns=3)
    return figure
