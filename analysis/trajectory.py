"""`python -m analysis trajectory`: how an update comes to its rank while it trains, from the table that
`experiments.trajectory` writes: a figure and a page."""

import argparse
import math
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from lorax_lab.errors import ConfigError
from lorax_lab.record.files import write_text

from . import style
from .pages import render
from .study.command import DOCS, PAGE
from .study.records import RECORDS
from .study.words import ends

NAME = "trajectory"
EARLY = (16, 32)
"""The steps at which the prediction asks for the overlap with the end."""
SHOWN = {
    "k90": "k90",
    "effective rank": "effective rank",
    "stable rank": "stable rank",
    "columns 4": "overlap of the top 4 with the end",
}


def main(arguments: list[str]) -> int:
    """Draw and write. Returns the exit code: 0, or 2 where there is no table."""
    parser = argparse.ArgumentParser(prog="python -m analysis trajectory", description=__doc__)
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the records (experiments/records)")
    place = "where figure and page go (docs/study/trajectory)"
    parser.add_argument("--out", type=Path, default=DOCS / NAME, help=place)
    options = parser.parse_args(arguments)
    path, out = options.records / f"{NAME}.csv", options.out
    if not path.is_file():
        raise ConfigError(f"there is no {path}; type: python -m experiments.{NAME}")
    rows = table(pd.read_csv(path))
    print(*style.save(rows, draw(rows), out / NAME), sep="\n")
    write_text(out / PAGE, page(rows))
    print(out / PAGE)
    return 0


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per task, method, seed and step, with a column for each number; an overlap's name ends in its k."""
    names = [name if math.isnan(k) else f"{name} {k:.0f}" for name, k in zip(rows["quantity"], rows["k"], strict=True)]
    places = ["task", "method", "seed", "step"]
    wide = rows.assign(name=names).pivot_table("value", places, "name").reset_index()
    columns = dict.fromkeys([*wide, *SHOWN])  # a number that no run has is NaN
    return wide.reindex(columns=list(columns)).rename_axis(columns=None).sort_values(places, ignore_index=True)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel for each number: a line for each task and method, the mean of its seeds, which are points."""
    figure, panels = style.panels(len(SHOWN), 1.9, "step", "", across=2, sharey=False)
    runs = list(dict.fromkeys(zip(table["task"], table["method"], strict=True)))
    lines = means(table)
    for axes, (name, title) in zip(panels, SHOWN.items(), strict=True):
        for (task, method), look, _ in style.lines(runs):
            points, line = (
                rows[(rows["task"] == task) & (rows["method"] == method)].dropna(subset=[name])
                for rows in (table, lines)
            )
            axes.plot(points["step"], points[name], **(look | {"linestyle": "", "markersize": 2.5, "alpha": 0.5}))
            axes.plot(line["step"], line[name], label=f"{task}, {method}", **(look | {"markersize": 0}))
        style.rank_axis(axes, sorted(set(table["step"])))
        axes.set_title(title)
    seeds = table["seed"].nunique()
    text = f"the update after so many steps; lines are means over {seeds} seeds (points), where all have one"
    style.finish(figure, text, panels[-1], columns=3)
    style.lead(figure, claim(table))
    return figure


def claim(table: pd.DataFrame) -> str:
    """How early the top directions are those of the end, in words, with the least and the most of all runs' means."""
    rows = means(table)
    first, step = EARLY
    early, later = (ends(rows.loc[rows["step"] == at, "columns 4"], "{:.0%}") for at in EARLY)
    return f"With the top 4 directions at the end those of step {first} share {early}, those of step {step} {later}"


def means(table: pd.DataFrame) -> pd.DataFrame:
    """The mean over seeds by task, method and step; NaN where a seed has no number."""
    return table.groupby(["task", "method", "step"], as_index=False).mean(numeric_only=True, skipna=False)


def page(table: pd.DataFrame) -> str:
    """The page: the means over seeds; k90, whose sizes are doublings, of each seed."""
    places = ["task", "method", "step"]
    by_seed = {place: list(rows.sort_values("seed")["k90"]) for place, rows in table.groupby(places)}
    rows = [row | {"k90": by_seed[tuple(row[name] for name in places)]} for row in means(table).to_dict("records")]
    runs = len(table.groupby(["task", "method", "seed"]))
    return render("trajectory.md", rows=rows, runs=runs)
