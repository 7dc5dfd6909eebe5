"""`python -m analysis planted`: which rank number finds the rank of a matrix that was made with one?

Two tables and figures. `planted_ranks`: a signal of known rank is put into noise, iid or with rows of lognormal size
(sd 1) as trained matrices' may be, and every spectral estimator is asked. `planted_everywhere`: a rank in every matrix
of a model at once, from the table of `experiments.planted_everywhere`. Nothing is trained. An estimator errs by
|log2(estimate / rank)| octaves: 0 is right, 1 twice or half of it; a 0 counts as 1/2.
"""

import argparse
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Generator, Tensor

from lorax_lab import spectra
from lorax_lab.errors import ConfigError
from lorax_lab.record.share import from_where
from lorax_lab.spectra.structured import ABOVE
from lorax_lab.streams import generator

from . import style
from .study.records import RECORDS

EVERYWHERE = "planted_everywhere"
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
"""Lines of the figure of noise; its table has every estimator."""
RIGHT = 0.1
"""Within this share of the planted rank an estimate counts as right."""
SPECTRAL = ("effective rank", "stable rank", "participation ratio", "90 % of the energy")
MARGIN = 0.02
"""What a cut may lose of the whole update's share of right answers, where every matrix is cut."""
OF_CUTS = "k*, all matrices cut at once"
OF_EVERYWHERE = (OF_CUTS, *SPECTRAL)
ANSWERED = "right"
"""The quantity of the share of right answers."""
IN_EVERY = {math.inf: "no noise", 3.0: "iid noise, a third of the signal's norm"}


def main(arguments: list[str]) -> int:
    """Draw, write and print. Returns the exit code: 0, or 2 for a wrong input."""
    parser = argparse.ArgumentParser(prog="python -m analysis planted", description=__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS, help=f"matrices of each kind ({DRAWS}: about 2 minutes)")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="where the figures and tables go (figures)")
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the records (experiments/records)")
    options = parser.parse_args(arguments)
    if options.draws < 1:
        allowed = "allowed are numbers ≥ 1; type python -m analysis planted --draws 10"
        raise ConfigError(f"--draws {options.draws}: {allowed}")
    rows = table(options.draws)
    made = {"planted_ranks": (rows, draw(rows))}
    path = options.records / f"{EVERYWHERE}.csv"
    if path.is_file():
        cuts = everywhere_table(pd.read_csv(path))
        made[EVERYWHERE] = cuts, draw_everywhere(cuts)
    else:
        print(f"cuts of every matrix are not drawn: there is no {path}; type: python -m experiments.planted_everywhere")
    for name, (table_, figure) in made.items():
        print(*style.save(table_, figure, options.out / name), sep="\n")
    return 0


def octaves(estimate: float, rank: int) -> float:
    """|log2(estimate / rank)|, a 0 counting as ½; NaN where there is no estimate.

    >>> octaves(8, 2), octaves(0, 1)
    (2.0, 1.0)
    """
    return abs(math.log2(max(estimate, style.LEAST) / rank)) if not math.isnan(estimate) else math.nan


def spread(values: Sequence[float], rank: int) -> dict[str, Any]:
    """Of the estimates over draws: how many have a value, their mean and ends, and their mean error.

    >>> spread([8.0, 2.0, math.nan], 4)
    {'draws': 3, 'told': 2, 'mean': 5.0, 'low': 2.0, 'high': 8.0, 'error': 1.0}
    """
    finite = pd.Series(values, dtype=float).dropna()
    ends = {"mean": float(finite.mean()), "low": float(finite.min()), "high": float(finite.max())}
    error = float(finite.map(lambda value: octaves(value, rank)).mean())
    return {"draws": len(values), "told": len(finite), **ends, "error": error}


def _ranges(axes: Axes, rows: pd.DataFrame, names: Sequence[str]) -> None:
    """A line for each estimator over the planted rank, with the range over draws, and the diagonal."""
    ranks = sorted({int(rank) for rank in rows["rank"]})
    style.rank_axis(axes, ranks)
    style.estimate_axis(axes, ranks[-1])
    axes.plot(ranks, ranks, color="0.75", linewidth=4, label="the planted rank", zorder=1)
    for name, look in zip(names, style.looks(len(names)), strict=True):
        points = rows[rows["estimator"] == name].sort_values("rank")
        ends = (points[column].clip(lower=style.LEAST) for column in ("mean", "low", "high"))
        style.bars(axes, points["rank"], *ends, capsize=1.5, elinewidth=0.7, label=name, **look)


# ---- a signal in noise


def table(draws: int = DRAWS, ranks: tuple[int, ...] = RANKS, side: int = SIDE) -> pd.DataFrame:
    """One row per noise, ratio, planted rank and estimator.

    Columns: noise, ratio (‖signal‖ / ‖noise‖), rank (planted), estimator, draws, told (of how many draws it has a
    value), mean, low, high (of the estimates: their mean, least and most), error (mean octaves from the planted rank).
    """
    rows = []
    for noise, ratio, rank in product(NOISES, RATIOS, ranks):
        of_draws = [estimates(*planted(noise, ratio, rank, draw, side)) for draw in range(draws)]
        place = {"noise": noise, "ratio": ratio, "rank": rank}
        rows += [place | {"estimator": name} | spread([one[name] for one in of_draws], rank) for name in of_draws[0]]
    return pd.DataFrame(rows)


def planted(noise: str, ratio: float, rank: int, draw: int, side: int = SIDE) -> tuple[Tensor, Generator]:
    """A matrix with a signal of this rank, and the generator that goes on to draw its nulls."""
    stream = generator(draw, f"planted/{noise}/{ratio:g}/{rank}")

    def gaussian(*size: int) -> Tensor:
        return torch.randn(size, generator=stream, dtype=torch.float64)

    U, V = (torch.linalg.qr(gaussian(side, rank)).Q for _ in range(2))
    signal = U * torch.linspace(1, WEAKEST, rank, dtype=torch.float64) @ V.T
    rest = gaussian(side, side) * (gaussian(side, 1).exp() if noise == "rows" else 1.0)
    return ratio * signal / signal.norm() + rest / rest.norm(), stream


def estimates(update: Tensor, stream: Generator) -> dict[str, float]:
    """Every estimator's rank of a matrix; NaN where it is not told."""
    shape = (int(update.shape[0]), int(update.shape[1]))
    sigma = spectra.singular_values(update)
    std, count = spectra.noise_scale(sigma, shape), float(spectra.spikes(sigma, shape))
    is_told = spectra.tells_spikes(spectra.bulk_misfit(sigma, shape, std), std, shape)
    drawn = spectra.structured_spectra(update, stream, NULL_DRAWS)
    above = {null: spectra.measures_of_null(sigma, of_null)[ABOVE] for null, of_null in drawn.items()}
    return {
        "effective rank": float(spectra.effective_rank(sigma)),
        "energy-entropy rank": float(spectra.energy_entropy_rank(sigma)),
        "participation ratio": float(spectra.participation_ratio(sigma)),
        "stable rank": float(spectra.stable_rank(sigma)),
        "90 % of the energy": float(spectra.energy_rank(sigma, 0.9)),
        "99 % of the energy": float(spectra.energy_rank(sigma, 0.99)),
        "σ above 1 % of the largest": float((sigma > 0.01 * sigma[0]).sum()),
        "σ above 10 % of the largest": float((sigma > 0.1 * sigma[0]).sum()),
        "Gavish & Donoho": spectra.gavish_donoho_rank(sigma, shape),
        "directions above the edge": count,
        TOLD: count if is_told else math.nan,
        "above rows and columns scaled": above["scaled"],
        "above redrawn signs": above["signs"],
        "above permuted entries": above["permuted"],
    }


def standing(rows: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Each estimator, the best first: in how many cells below full rank its mean is right, and how many there are."""
    low = rows[rows["rank"] < rows["rank"].max()]
    right = ((low["mean"] / low["rank"] - 1).abs() <= RIGHT).groupby(low["estimator"], sort=False).sum()
    cells = low.groupby("estimator")["rank"].size()
    order = right.sort_values(ascending=False, kind="stable")
    return [(str(name), int(count), int(cells[name])) for name, count in order.items()]


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel per noise and ratio: the estimates over the planted rank, their range over draws, and the diagonal."""
    figure = style.canvas(style.PAGE, 6.4)
    grid = figure.subplots(len(RATIOS), len(NOISES), sharex=True, sharey=True)
    for axes, (ratio, noise) in zip(grid.flat, product(RATIOS, NOISES), strict=True):
        _ranges(axes, table[(table["noise"] == noise) & (table["ratio"] == ratio)], SHOWN)
        axes.set_title(f"{NOISES[noise]}; ‖signal‖ = {ratio:g} ‖noise‖")
        axes.set(xlabel="planted rank, directions", ylabel="estimated rank, directions")
        axes.label_outer()
    best, right, cells = standing(table)[0]
    side, draws = table["rank"].max(), table["draws"].max()
    text = f"A signal of known rank in {side} × {side} noise, and the rank that each number says: means and ranges "
    text += f"over {draws} draws. Below full rank most often right: {best}, in {right} of {cells} cells"
    return style.finish(figure, text, grid[0][0], columns=3)


# ---- a rank in every matrix


def everywhere_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per noise, planted rank and estimator.

    Columns: ratio (‖signal‖ over ‖noise‖), rank (planted), estimator, draws, mean, low, high (of the estimates: their
    mean, least and most), error (mean octaves from the planted rank), whole, without (share of right answers with the
    whole update and with none, mean over draws).
    """
    made = []
    for (ratio, _), cell in rows.groupby(["ratio", "rank"], sort=False):
        planted = int(cell["rank"].iloc[0])
        right = cell[cell["quantity"] == ANSWERED].pivot_table(index="draw", columns="k", values="value")
        of_whole_update = right.iloc[:, -1]
        cuts = (dict(zip(map(int, right.columns), scores, strict=True)) for _, scores in right.iterrows())
        ranks: dict[str, list[Any]] = {}
        ranks[OF_CUTS] = [
            from_where(cut, score - MARGIN, True) for cut, score in zip(cuts, of_whole_update, strict=True)
        ]
        ranks |= {name: list(cell.loc[cell["quantity"] == name, "value"]) for name in SPECTRAL}
        ends = {"whole": of_whole_update.mean(), "without": right.iloc[:, 0].mean()}
        for name, values in ranks.items():
            made.append({"ratio": ratio, "rank": planted, "estimator": name} | spread(values, planted) | ends)
    return pd.DataFrame(made).drop(columns="told")


@style.styled
def draw_everywhere(rows: pd.DataFrame) -> Figure:
    """A panel per noise: the estimates over the planted rank, their range over draws, and the diagonal."""
    figure = style.canvas(style.PAGE, 4.0)
    panels = figure.subplots(1, len(IN_EVERY), sharex=True, sharey=True)
    for axes, (ratio, words) in zip(panels, IN_EVERY.items(), strict=True):
        _ranges(axes, rows[rows["ratio"] == ratio], OF_EVERYWHERE)
        axes.set_title(words)
        axes.set_xlabel("planted rank, directions")
    stars = rows[(rows["estimator"] == OF_CUTS) & (rows["rank"] < rows["rank"].max())]
    draws = rows["draws"].max()
    errors = [f"{stars.loc[stars['ratio'] == ratio, 'error'].mean():.2f}" for ratio in IN_EVERY]
    text = f"MiniLM, an update of known rank in every matrix at once: k* is {errors[0]} octaves from it without noise "
    text += f"and {errors[1]} with noise, in the mean below full rank; means and ranges over {draws} draws"
    return style.finish(figure, text, panels[0], columns=3)
