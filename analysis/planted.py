"""`python -m analysis planted`: which rank number finds the rank of a matrix that was made with one?

Three tables and figures. `planted_ranks`: a signal of known rank is put into noise, iid or with rows of lognormal size
(sd 1) as trained matrices' may be, and every spectral estimator is asked. `planted_trained`: r* and k* of updates that
were trained on labels of a planted rank, where the records of the study `planted_ranks` are. `planted_everywhere`: a
rank in every matrix of a model at once, where the table of `experiments.planted_everywhere` is. Nothing is trained. An
estimator errs by |log2(estimate / rank)| octaves: 0 is right, 1 twice or half of it; a 0 counts as 1/2.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Generator, Tensor

from lorax_lab import spectra
from lorax_lab.errors import ConfigError, answer
from lorax_lab.spectra.structured import ABOVE
from lorax_lab.streams import generator

from . import style
from .axes import ARROWS, LEAST, estimate_axis, estimate_points
from .folders import check_out
from .study import update
from .study.records import RECORDS, NoStudy, Records, load
from .study.validator import breaches
from .study.verdict import low_rank, of_tasks

TRAINED, EVERYWHERE = "planted_ranks", "planted_everywhere"
"""The study of trained updates, and the table of a rank in every matrix."""
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
LEVEL = re.compile(r"planted rank (\d+)(.*)")
R_STAR, K_STAR = "r*, LoRA's rank", "k*, directions of the full update"
SPECTRAL = {
    "effective rank": "effective_rank",
    "stable rank": "stable_rank",
    "participation ratio": "participation_ratio",
    "90 % of the energy": "energy_rank_90",
}
"""Measures of the full update's spectrum, by the names that they have in noise."""
OF_TRAINED = (R_STAR, K_STAR, *SPECTRAL)
NOISY = 2**0.5
"""How far right of their planted rank the levels with noisy labels are drawn."""
APART = 3.0
"""Points between two estimators of one level."""
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
    return answer(lambda: _main(options.draws, options.out, options.records))


def _main(draws: int, out: Path, records: Path) -> int:
    if draws < 1:
        raise ConfigError(f"--draws {draws}: allowed are numbers ≥ 1; type python -m analysis planted --draws 10")
    check_out(out)
    rows = table(draws)
    made = {"planted_ranks": (rows, draw(rows))}
    try:
        both = joined(trained_table(trained_records(records)), rows)
        made["planted_trained"] = both, draw_trained(both)
    except NoStudy as error:
        print(f"r* and k* of trained updates are not drawn: {error}")
    path = records / f"{EVERYWHERE}.csv"
    if path.is_file():
        cuts = everywhere_table(pd.read_csv(path))
        made[EVERYWHERE] = cuts, draw_everywhere(cuts)
    else:
        print(f"cuts of every matrix are not drawn: there is no {path}; type: python -m experiments.planted_everywhere")
    for name, (table_, figure) in made.items():
        print(*style.save(table_, figure, out / name), sep="\n")
    return 0


def octaves(estimate: float, rank: int) -> float:
    """|log2(estimate / rank)|, a 0 counting as ½; NaN where there is no estimate.

    >>> octaves(8, 2), octaves(0, 1)
    (2.0, 1.0)
    """
    return abs(math.log2(max(estimate, LEAST) / rank)) if not math.isnan(estimate) else math.nan


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
    estimate_axis(axes, ranks[-1])
    axes.plot(ranks, ranks, color="0.75", linewidth=4, label="the planted rank", zorder=1)
    for name, look in zip(names, style.looks(len(names)), strict=True):
        points = rows[rows["estimator"] == name].sort_values("rank")
        ends = (points[column].clip(lower=LEAST) for column in ("mean", "low", "high"))
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
    nulls = spectra.structured_nulls(update, stream, NULL_DRAWS)
    return {
        "effective rank": float(spectra.effective_rank(sigma)),
        "energy-entropy rank": float(spectra.energy_entropy_rank(sigma)),
        "participation ratio": float(spectra.participation_ratio(sigma)),
        "stable rank": float(spectra.stable_rank(sigma)),
        "90 % of the energy": float(spectra.energy_rank(sigma, 0.9)),
        "99 % of the energy": float(spectra.energy_rank(sigma, 0.99)),
        "σ above 1 % of the largest": float(spectra.numerical_rank(sigma, tolerance=0.01)),
        "σ above 10 % of the largest": float(spectra.numerical_rank(sigma, tolerance=0.1)),
        "Gavish & Donoho": float(spectra.gavish_donoho_rank(sigma, shape)),
        "directions above the edge": count,
        TOLD: count if is_told else math.nan,
        "above rows and columns scaled": nulls["scaled"][ABOVE],
        "above redrawn signs": nulls["signs"][ABOVE],
        "above permuted entries": nulls["permuted"][ABOVE],
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
    text = (
        f"A signal of known rank in {table['rank'].max()} × {table['rank'].max()} noise, and the rank that each number "
    )
    text += f"says: means and ranges over {table['draws'].max()} draws. Below full rank most often right: {best}, in "
    return style.finish(figure, f"{text}{right} of {cells} cells", grid[0][0], columns=3)


# ---- trained updates


def trained_records(folder: Path) -> Records:
    """The records of the study `TRAINED`.

    Raises:
        NoStudy: there are none, or they are not complete.
    """
    records = load(folder / TRAINED)
    if faults := breaches(records):
        raise NoStudy(f"{TRAINED} breaks its own protocol, or is not complete: {'; '.join(faults)}")
    return records


def trained_table(records: Records) -> pd.DataFrame:
    """One row per level of the study and estimator.

    Columns: level, rank (planted), noisy (whether labels were drawn anew), estimator, estimate (NaN where none is
    found), low, high (the interval, NaN where it is open), error (octaves from the planted rank), tried (the largest
    size, NaN of the spectrum's), verdict, largest_low (the largest rank that is called low).
    """
    rows: list[dict[str, Any]] = []
    for ruling in of_tasks(records):
        level = LEVEL.fullmatch(ruling.task)
        if level is None:
            continue
        spectra = update.spectral(records, ruling.task)
        ranks = {R_STAR: ruling.r_star.as_numbers()} if ruling.r_star else {}
        ranks[K_STAR] = ruling.k_star.as_numbers()
        for name, measure in SPECTRAL.items():
            row = update.entry(spectra, measure)
            ranks[name] = {"estimate": row["mean"], "low": row["low"], "high": row["high"], "tried": math.nan}
        place = {"level": ruling.task, "rank": int(level[1]), "noisy": bool(level[2])}
        ends = {"verdict": ruling.verdict, "largest_low": low_rank(records, ruling.task)}
        for name, numbers in ranks.items():
            error = octaves(numbers["estimate"], int(level[1]))
            rows.append(place | {"estimator": name} | numbers | {"error": error} | ends)
    return pd.DataFrame(rows)


def joined(trained: pd.DataFrame, noise: pd.DataFrame) -> pd.DataFrame:
    """The table of trained updates, and without a level the same estimators' rows of `table`."""
    same = noise[noise["estimator"].isin(OF_TRAINED)].rename(columns={"mean": "estimate"})
    columns = ["level", "noisy", "noise", "ratio", "rank", "estimator", "estimate", "low", "high", "error"]
    columns += ["tried", "verdict", "largest_low"]
    return pd.concat([trained, same], ignore_index=True)[columns]


@style.styled
def draw_trained(table: pd.DataFrame) -> Figure:
    """Left, each estimate of the trained updates over the planted rank, with its interval; right, the mean error of
    each beside its error in the matrices with noise, which are the rows without a level."""
    trained, drawn = table[table["level"].notna()], table[table["level"].isna()]
    figure = style.canvas(style.PAGE, 4.4)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _estimates(left, trained)
    _errors(right, trained, drawn)
    high = list(dict.fromkeys(trained.loc[trained["verdict"] == "not supported", "level"]))
    stars = trained[trained["estimator"].isin(OF_TRAINED[:2])]
    text = "Updates trained on labels of a planted rank: r* or k* is within a factor of 2 of it in "
    text += (
        f"{(stars['error'] <= 1).sum()} of {len(stars)} cases. Low rank not supported: {', '.join(high) or 'nowhere'}"
    )
    return style.finish(figure, text, left, columns=3)


def _estimates(axes: Axes, rows: pd.DataFrame) -> None:
    ranks = sorted({int(rank) for rank in rows["rank"]})
    axes.plot(ranks, ranks, color="0.75", linewidth=4, label="the planted rank", zorder=1)
    axes.axhline(rows["largest_low"].min(), color="0.4", linewidth=0.8, linestyle="--", label="called low up to here")
    for name, look, shift in style.lines(OF_TRAINED, APART):
        estimates = rows[rows["estimator"] == name].sort_values("rank", kind="stable")
        noisy = estimates["noisy"].astype(bool)
        hollow: dict[str, Any] = {"mfc": "white", "linestyle": ""}
        for points, moved, fill in ((estimates[~noisy], 1.0, {"label": name}), (estimates[noisy], NOISY, hollow)):
            estimate_points(axes, points["rank"] * moved, points, shift, **(look | fill))
    style.rank_axis(axes, ranks)
    estimate_axis(axes, max(2.0 * max(ranks), float(rows[["estimate", "high"]].max().max())))
    axes.set(xlabel="planted rank, directions", ylabel="estimated rank, directions")
    axes.set_title(("hollow, beside: noisy labels; " if rows["noisy"].any() else "") + ARROWS)


def _errors(axes: Axes, trained: pd.DataFrame, drawn: pd.DataFrame) -> None:
    """An estimator that finds no rank at some level has no mean: that of the others would flatter it."""
    labels = []
    for place, name in enumerate(OF_TRAINED):
        of_levels, of_draws = (rows.loc[rows["estimator"] == name, "error"] for rows in (trained, drawn))
        short, has_estimate = name.partition(",")[0], of_levels.notna()
        labels.append(short if has_estimate.all() else f"{short}, found in {has_estimate.sum()} of {len(has_estimate)}")
        for errors, label, marker, grey, height in (
            (of_levels, "trained updates", "o", "0.15", -0.12),
            (of_draws, "signals in noise", "s", "0.55", 0.12),
        ):
            fill: dict[str, Any] = {"color": grey, "marker": marker, "linestyle": ""}
            axes.plot(errors, [place + height] * len(errors), markersize=2.5, alpha=0.5, **fill)
            if len(errors) and (errors is of_draws or has_estimate.all()):
                shown = label if place == len(OF_TRAINED) - 1 else None  # once in the legend
                axes.plot([errors.mean()], [place + height], **fill, label=shown, markersize=6)
    axes.set_yticks(range(len(OF_TRAINED)), labels)
    axes.invert_yaxis()
    axes.set_xlim(left=-0.15)
    axes.set(xlabel="error, octaves")
    axes.set_title("small: one level or matrix\nlarge: their mean")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.14), ncols=2)


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
        ranks = {OF_CUTS: [k_star(dict(zip(right.columns, scores, strict=True))) for _, scores in right.iterrows()]}
        ranks |= {name: list(cell.loc[cell["quantity"] == name, "value"]) for name in OF_EVERYWHERE[1:]}
        ends = {"whole": right.iloc[:, -1].mean(), "without": right.iloc[:, 0].mean()}
        for name, values in ranks.items():
            made.append({"ratio": ratio, "rank": planted, "estimator": name} | spread(values, planted) | ends)
    return pd.DataFrame(made).drop(columns="told")


def k_star(right: Mapping[Any, float]) -> float:
    """The smallest k from which on every cut that was tried loses at most `MARGIN` against the largest k, the whole.

    >>> k_star({0: 0.3, 1: 0.9, 2: 0.8, 4: 0.9, 8: 0.91})
    4
    """
    floor = right[max(right)] - MARGIN
    short = [k for k, score in right.items() if score < floor]
    return int(min(k for k in right if k > max(short, default=-1)))


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
    errors = [f"{stars.loc[stars['ratio'] == ratio, 'error'].mean():.2f}" for ratio in IN_EVERY]
    text = (
        f"MiniLM, an update of known rank in every matrix at once: k* is {errors[0]} octaves from it without noise and "
    )
    text += f"{errors[1]} with noise, in the mean below full rank; means and ranges over {rows['draws'].max()} draws"
    return style.finish(figure, text, panels[0], columns=3)
