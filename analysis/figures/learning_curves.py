"""What was logged while the runs trained, over the steps; of many runs some. A run that did not complete has no
`metrics.jsonl`: its steps are those of `progress.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lorax_lab.record.folder import read_history
from lorax_lab.record.record import Record

from .. import constant, style
from ..groups import CannotDraw, Group, settings_of, spread
from ..variants import COLLAPSED, METHOD_NAMES, collapsed, shared

TITLE = "what was logged while the runs trained: loss, validation score, learning rate"
RUNS = 24
"""Runs that are drawn at most."""
STEP, QUANTITY = "step", "/"
"""The column of the steps, and what the names of logged numbers have in them."""
FIRST = ("train/loss", "validation/")
"""What the names of the numbers begin with that have the first panels."""
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
    rows = {run["run_id"]: run for run in group.runs.to_dict("records")}
    shown = [(run, _unfinished(run, group)) for run in group.unfinished if _progress(group.runs_dir / run.run_id)]
    done = [(group.records[run_id], {key: row[key] for key in group.columns}) for run_id, row in rows.items()]
    chosen = spread(shown, RUNS // 3)
    made = curves([*chosen, *spread(done, RUNS - len(chosen))], group.runs_dir)
    if made is None:
        raise CannotDraw(f"no run has steps that can be read; type {group.command('rank=4,8,16', 'force=true')}")
    for place, (name, value) in enumerate(group.title.items()):
        made.insert(place, name, value)
    if (count := len(shown) + len(done)) > RUNS:
        made[OF_RUNS] = count
    return constant.with_constant(made.astype({"rank": "Int64"}), group, "validation")


def curves(runs: Iterable[tuple[Record, dict[str, Any]]], runs_dir: Path) -> pd.DataFrame | None:
    """One row per run and step: what is said of each run, then what was logged; None where no run has steps."""
    rows = []
    for record, columns in runs:
        folder = runs_dir / record.run_id
        try:
            steps = read_history(folder) if record.result else _progress(folder)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a run without its curve is drawn in the other figures all the same
        rows += [columns | step for step in steps]
    return pd.DataFrame(rows) if rows else None


def of_unfinished(runs: Sequence[Record], runs_dir: Path) -> pd.DataFrame | None:
    """As `table`, of runs that no group has, since none of its runs is completed."""
    chosen = spread([run for run in runs if _progress(runs_dir / run.run_id)], RUNS)
    names = (f"{run.config['task']['name']}, {_arm(run)}" for run in chosen)
    return curves([(run, {"arm": name, "seed": run.seed}) for run, name in zip(chosen, names, strict=True)], runs_dir)


def _unfinished(run: Record, group: Group) -> dict[str, Any]:
    """The columns of a run without a result."""
    settings = {COLLAPSED: False} | settings_of(run)
    row = {key: settings.get(key, "") for key in group.columns} | {"rank": run.rank, "seed": run.seed}
    return row | {"method": run.method, "variant": _arm(run), "arm": _arm(run), "variants": 1}


def _arm(run: Record) -> str:
    rank = f" r = {run.rank}" if run.rank else ""
    return f"{METHOD_NAMES.get(run.method, run.method)}{rank} ({run.status})"


def _progress(folder: Path) -> list[dict[str, Any]]:
    """The steps of a `progress.jsonl`; of a step that was made again the last. A line cut short is left out."""
    steps: dict[int, dict[str, Any]] = {}
    try:
        lines = (folder / "progress.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    for line in lines:
        try:
            row = json.loads(line)
            steps[int(row[STEP])] = {key: value for key, value in row.items() if key == STEP or QUANTITY in key}
        except (ValueError, KeyError, TypeError):
            continue
    return [steps[step] for step in sorted(steps)]


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """A panel for each number that was logged; an arm's runs have one look, a line for each seed."""
    logged = sorted((key for key in map(str, table) if QUANTITY in key and table[key].notna().any()), key=_place)
    across = min(2, len(logged))
    down = -(-len(logged) // across)
    figure = style.canvas(style.PAGE, 1.0 + 1.7 * down)
    panels = list(figure.subplots(down, across, sharex=True, squeeze=False).flat)
    arms = list(dict.fromkeys(table["arm"]))
    looks = dict(zip(arms, style.looks(len(arms)), strict=True))
    for axes, key in zip(panels, logged, strict=False):
        drawn = table[table[key].notna()]
        for (arm, _), rows in drawn.groupby(["arm", "seed"], sort=False):
            look = looks[str(arm)] if len(rows) <= FEW_STEPS else looks[str(arm)] | {"marker": ""}
            in_legend = arm in axes.get_legend_handles_labels()[1]
            axes.plot(rows[STEP], rows[key], label="_" if in_legend else arm, linewidth=0.9, markersize=3, **look)
        axes.set_title(key)
        if key.startswith("validation/"):
            constant.draw_line(axes, table, panels[0])
    for axes in panels[len(logged) :]:
        axes.remove()
    for axes in panels[max(0, len(logged) - across) : len(logged)]:
        axes.set_xlabel("step")
        axes.tick_params(labelbottom=True)
    style.title(figure, _heading(table))
    style.legend(figure, panels[0], columns=2)
    return figure


def _place(key: str) -> int:
    return next((place for place, start in enumerate(FIRST) if key.startswith(start)), len(FIRST))


def _heading(table: pd.DataFrame) -> str:
    first, runs = table.iloc[0], table[["arm", "seed"]].drop_duplicates().shape[0]
    if "model" not in table:
        return "learning curves of runs without a result that are in no other figure"
    several = ", a line for each seed" if len(set(table["seed"])) > 1 else ""
    left_out = f"\n{runs} of {first[OF_RUNS]:,} runs are shown" if OF_RUNS in table else ""
    return f"{first['model']} on {first['task']}: learning curves{several}{left_out}{shared(table)}{collapsed(table)}"
