"""The functional half of `python -m analysis planted`: what the updates of a study with planted ranks say of them.

r* and k* are those of the study's verdict, the spectral ranks those of its tables.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import estimates, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .study.records import Records

STUDY = "planted_ranks"
LEVEL = re.compile(r"planted rank (\d+)(.*)")
R_STAR, K_STAR = "r*, LoRA's rank", "k*, directions of the full update"
SPECTRAL = {
    "effective rank": "effective_rank",
    "stable rank": "stable_rank",
    "participation ratio": "participation_ratio",
    "90 % of the energy": "energy_rank_90",
}
"""Measures of the full update's spectrum, by the names that they have in noise."""
NAMES = (R_STAR, K_STAR, *SPECTRAL)
BESIDE = 2**0.5
"""How far right of their planted rank the levels with noisy labels are drawn."""
APART = 3.0
"""Points between two estimators of one level."""


def records_of(folder: Path) -> tuple[Records | None, str]:
    """The study's records, or why there are none to draw."""
    from .study.records import NoStudy, load
    from .study.validator import breaches

    what = "r* and k* of trained updates are not drawn"
    try:
        records = load(folder / STUDY)
    except NoStudy as error:
        return None, f"{what}: {error}"
    if faults := breaches(records):
        return None, f"{what}: {STUDY} breaks its own protocol, or is not complete: {'; '.join(faults)}"
    return records, ""


def table(records: Records) -> pd.DataFrame:
    """One row per level of the study and estimator.

    Columns: level, rank (planted), noisy (whether labels were drawn anew), estimator, estimate (NaN where none is
    found), low, high (the interval, NaN where it is open), error (octaves from the planted rank), tried (the largest
    size, NaN of the spectrum's), verdict, largest_low (the largest rank that is called low).
    """
    import pandas as pd

    from .study import update
    from .study.verdict import low_rank, of_tasks

    rows: list[dict[str, Any]] = []
    for ruling in of_tasks(records):
        level = LEVEL.fullmatch(ruling.task)
        if level is None:
            continue
        rank, spectra = int(level[1]), update.spectral(records, ruling.task)
        place = {"level": ruling.task, "rank": rank, "noisy": bool(level[2])}
        ends = {"verdict": ruling.verdict, "largest_low": low_rank(records, ruling.task)}
        stars = {R_STAR: ruling.r_star, K_STAR: ruling.k_star}
        found = {name: star.as_numbers() for name, star in stars.items() if star}
        for name, measure in SPECTRAL.items():
            row = update.entry(spectra, measure)
            found[name] = {"estimate": row["mean"], "low": row["low"], "high": row["high"], "tried": math.nan}
        for name, value in found.items():
            rows.append(place | {"estimator": name} | value | {"error": octaves(value["estimate"], rank)} | ends)
    return pd.DataFrame(rows)


def joined(trained: pd.DataFrame, noise: pd.DataFrame) -> pd.DataFrame:
    """The table of trained updates, and without a level the same estimators' rows of `analysis.planted.table`."""
    import pandas as pd

    same = noise[noise["estimator"].isin(NAMES)].rename(columns={"mean": "estimate"})
    columns = ["level", "noisy", "noise", "ratio", "rank", "estimator", "estimate", "low", "high", "error"]
    columns += ["tried", "verdict", "largest_low"]
    return pd.concat([trained, same], ignore_index=True)[columns]


def octaves(estimate: float, rank: int) -> float:
    """|log2(estimate / rank)|, a 0 counting as ½; NaN where there is no estimate.

    >>> octaves(8, 2), octaves(0, 1)
    (2.0, 1.0)
    """
    return abs(math.log2(max(estimate, estimates.LEAST) / rank)) if not math.isnan(estimate) else math.nan


def summary(rows: pd.DataFrame) -> list[str]:
    """A line per level with r*, k* and the verdict, and a line per estimator with its mean error."""
    lines = ["trained updates:"]
    for level, of_level in rows.groupby("level", sort=False):
        by_name = of_level.set_index("estimator")
        stars = ", ".join(f"{name[:2]} {_words(by_name.loc[name])}" for name in NAMES[:2] if name in by_name.index)
        lines.append(f"  {level:<40}{stars}: {by_name['verdict'].iloc[0]}")
    for name, of_name in rows.groupby("estimator", sort=False):
        told = int(of_name["error"].notna().sum())
        lines.append(f"  {name:<40}{_error(of_name)} octaves, told in {told} of {len(of_name)}")
    return lines


def _words(row: Any) -> str:
    ends = [f"{row[key]:g}" if not math.isnan(row[key]) else "above" for key in ("low", "high")]
    if math.isnan(row["estimate"]):
        return f"not found [{ends[0]}]"
    return f"{row['estimate']:g} [{ends[0]}, {ends[1]}]"


def _error(rows: pd.DataFrame) -> str:
    mean = rows["error"].mean()
    return "—" if math.isnan(mean) else f"{mean:.2f}"


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """Left, each estimate of the trained updates over the planted rank, with its interval; right, the mean error of
    each beside its error in the matrices with noise, which are the rows without a level."""
    trained, made = table[table["level"].notna()], table[table["level"].isna()]
    figure = style.canvas(style.PAGE, 4.4)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _estimates(left, trained)
    _errors(right, trained, made)
    high = list(dict.fromkeys(trained.loc[trained["verdict"] == "not supported", "level"]))
    stars = trained[trained["estimator"].isin(NAMES[:2])]
    near = int((stars["error"] <= 1).sum())
    style.title(
        figure,
        f"Updates trained on labels of a planted rank: r* or k* is within a factor of 2 of it in {near} of "
        f"{len(stars)} cases. Low rank not supported: {', '.join(high) or 'nowhere'}",
    )
    style.legend(figure, left, columns=3)
    return figure


def _estimates(axes: Axes, rows: pd.DataFrame) -> None:
    ranks = sorted({int(rank) for rank in rows["rank"]})
    axes.plot(ranks, ranks, color="0.75", linewidth=4, label="the planted rank", zorder=1)
    axes.axhline(rows["largest_low"].min(), color="0.4", linewidth=0.8, linestyle="--", label="called low up to here")
    for number, (name, look) in enumerate(zip(NAMES, style.looks(len(NAMES)), strict=True)):
        of_name = rows[rows["estimator"] == name].sort_values("rank", kind="stable")
        shift = style.spread_out(number, len(NAMES), APART)
        noisy = of_name["noisy"].astype(bool)
        for of, beside, own in ((~noisy, 1.0, {"label": name}), (noisy, BESIDE, {"mfc": "white", "linestyle": ""})):
            rows_of = of_name[of]
            estimates.points(axes, rows_of["rank"] * beside, rows_of, shift, **(look | own))
    style.rank_axis(axes, ranks)
    estimates.axis(axes, max(2.0 * max(ranks), float(rows[["estimate", "high"]].max().max())))
    axes.set(xlabel="planted rank, directions", ylabel="estimated rank, directions")
    hollow = "hollow, beside: noisy labels; " if rows["noisy"].any() else ""
    axes.set_title(f"{hollow}{estimates.ARROWS}")


def _errors(axes: Axes, trained: pd.DataFrame, made: pd.DataFrame) -> None:
    """An estimator that finds no rank at some level has no mean: that of the others would flatter it."""
    labels = []
    for place, name in enumerate(NAMES):
        found = trained.loc[trained["estimator"] == name, "error"].notna()
        short = name.partition(",")[0]
        labels.append(short if found.all() else f"{short}, found in {found.sum()} of {len(found)}")
        for rows, look, height in ((trained, "o", -0.12), (made, "s", 0.12)):
            errors = rows.loc[rows["estimator"] == name, "error"].dropna()
            fill: dict[str, Any] = {"color": "0.15" if look == "o" else "0.55", "marker": look, "linestyle": ""}
            axes.plot(errors, [place + height] * len(errors), **(fill | {"markersize": 2.5, "alpha": 0.5}))
            if len(errors) and (rows is made or found.all()):
                label = {"o": "trained updates", "s": "signals in noise"}[look] if place == len(NAMES) - 1 else None
                axes.plot([errors.mean()], [place + height], **fill, label=label, markersize=6)
    axes.set_yticks(range(len(NAMES)), labels)
    axes.invert_yaxis()
    axes.set_xlim(left=-0.15)
    axes.set(xlabel="error, octaves")
    axes.set_title("small: one level or matrix\nlarge: their mean")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.14), ncols=2)
