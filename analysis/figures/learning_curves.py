"""What was logged while the runs trained, over the steps; of many runs some. A run that did not complete has no
`metrics.jsonl`: its steps are those of `progress.jsonl`."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lorax_lab.record.comparable import settings_of
from lorax_lab.record.folder import read_history
from lorax_lab.record.progress import PROGRESS, Reader
from lorax_lab.record.record import Record

from .. import constant, style
from ..groups import CannotDraw, Group, spread
from ..variants import COLLAPSED, METHOD_NAMES, collapsed, shared

TITLE = "what was logged while the runs trained: loss, validation score, learning rate"
RUNS = 24
"""Runs that are drawn at most."""
STEP, QUANTITY = "step", "/"
"""The column of the steps, and what the names of logged numbers have in them."""
FIRST = ("train/loss", "validation/")
"""What the names of the numbers begin with that have the first panels."""
RUN, METRIC = "run", "metric"
"""The columns of a run's id, and of the name of the score that one answer for every input is known of."""
OF_RUNS = "of_runs"
"""The column of how many runs there are. A table has it only if some are left out."""
FEW_STEPS = 20
"""Up to so many points a line has marks, since one point alone makes no line."""


def table(group: Group) -> pd.DataFrame:
    """One row per run and step, with a column for each number that was logged; of a group's runs those that did not
    complete come first.

    Raises:
        CannotDraw: no run has steps.
    """
    unfinished = [(run, _columns(run, group)) for run in group.unfinished if _progress(group.runs_dir / run.run_id)]
    runs = group.runs.to_dict("records")
    completed = [(group.records[run["run_id"]], {key: run[key] for key in group.columns}) for run in runs]
    shown = spread(unfinished, RUNS // 3)
    rows = []
    for run, columns in [*shown, *spread(completed, RUNS - len(shown))]:
        folder = group.runs_dir / run.run_id
        try:
            steps = read_history(folder) if run.result else _progress(folder)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a run without its curve is drawn in the other figures all the same
        rows += [group.title | columns | {RUN: run.run_id, METRIC: group.metric} | step for step in steps]
    if not rows:
        raise CannotDraw(f"no run has steps that can be read; type {group.command('rank=4,8,16', 'force=true')}")
    made, count = pd.DataFrame(rows).astype({"rank": "Int64"}), len(unfinished) + len(completed)
    made = made.assign(**{OF_RUNS: count}) if made[RUN].nunique() < count else made
    return constant.with_constant(made, group, "validation")


def _columns(run: Record, group: Group) -> dict[str, Any]:
    """The columns of a run without a result."""
    settings = {COLLAPSED: False} | settings_of(run)
    rank = f" r = {run.rank}" if run.rank else ""
    name = f"{METHOD_NAMES.get(run.method, run.method)}{rank} ({run.status})"
    row = {key: settings.get(key, "") for key in group.columns} | {"rank": run.rank, "seed": run.seed}
    return row | {"method": run.method, "variant": name, "arm": name, "variants": 1}


def _progress(folder: Path) -> list[dict[str, Any]]:
    """The steps of a `progress.jsonl`; none where there is no such file."""
    return [{STEP: row.step} | row.values for row in Reader(folder / PROGRESS).read()]


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel for each number that was logged; an arm's runs have one look, a line for each seed."""
    names = [key for key in map(str, table) if QUANTITY in key and table[key].notna().any()]
    logged = sorted(names, key=lambda key: [not key.startswith(start) for start in FIRST])
    figure, panels = style.panels(len(logged), 1.7, "step", "", across=2, room=1.0, sharey=False)
    arms = list(dict.fromkeys(table["arm"]))
    looks = dict(zip(arms, style.looks(len(arms)), strict=True))
    for axes, key in zip(panels, logged, strict=True):
        for _, rows in table[table[key].notna()].groupby(RUN, sort=False):
            arm = str(rows["arm"].iloc[0])
            look = looks[arm] | ({} if len(rows) <= FEW_STEPS else {"marker": ""})
            in_legend = arm in axes.get_legend_handles_labels()[1]
            axes.plot(rows[STEP], rows[key], label="_" if in_legend else arm, linewidth=0.9, markersize=3, **look)
        axes.set_title(key)
        if key == f"validation/{table[METRIC].iloc[0]}":
            constant.draw_line(axes, table, panels[0])
    first, runs = table.iloc[0], table[RUN].nunique()
    several = ", a line for each seed" if len(set(table["seed"])) > 1 else ""
    left_out = f"\n{runs} of {first[OF_RUNS]:,} runs are shown" if OF_RUNS in table else ""
    text = f"{first['model']} on {first['task']}: learning curves{several}{left_out}"
    return style.finish(figure, text + shared(table) + collapsed(table), panels[0], columns=2)
