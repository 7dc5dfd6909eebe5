"""Learning curves, from the `metrics.jsonl` of runs; of many runs some, and of long ones some points. A run that did
not complete has no such file: its steps are those of `progress.jsonl`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.record.folder import read_history
from lorax_lab.record.record import Record
from lorax_lab.windows.progress import PROGRESS, Reader

from .. import constant
from ..constant import CONSTANT, IS
from ..groups import Group, spread
from .plot import Plot, View, axis, constant_level, looks, plain, scatter

if TYPE_CHECKING:
    import pandas as pd

NAME = "learning_curves"
RUNS, POINTS = 24, 120
"""Runs of a group, and points of a curve, that are drawn at most."""
STEP = "step"
FIRST = ("train/loss", "validation/")
"""What the names of the curves begin with that come first."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError)


def plot(group: Group, command: str) -> Plot | None:
    """The curves of a group's runs, those that did not complete among them; None where no run has any."""
    chosen, every = _chosen(group)
    table, notes = _table(chosen, every, group.runs_dir)
    if table is None:
        return None
    table = constant.with_constant(table, group, "validation")
    title = f"Learning curves of {group.title['model']} on {group.title['task']}"
    return Plot(NAME, title, views(table, f"validation/{group.metric}"), table, command, notes)


def of_unfinished(runs: Sequence[Record], runs_dir: Path, command: str) -> Plot | None:
    """The curves of runs that are in no group, since none of its runs is completed; None where no run has any."""
    several = len({str(run.config["task"]["name"]) for run in runs}) > 1
    arms = [f"{run.config['task']['name']}, {_arm(run)}" if several else _arm(run) for run in runs]
    steps = [(run, arm) for run, arm in zip(runs, arms, strict=True) if _has_steps(run, runs_dir)]
    table, notes = _table(spread(steps, RUNS), len(steps), runs_dir)
    title = "Learning curves of runs without a result that are in no figure above"
    return None if table is None else Plot(NAME, title, views(table, ""), table, command, notes)


def _table(
    chosen: Sequence[tuple[Record, str]], every: int, runs_dir: Path
) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
    """One row per run and step, and what is to be noted; no table where no run has steps."""
    import pandas as pd

    tables, unread = [], []
    for record, arm in chosen:
        try:
            history = _history(runs_dir / record.run_id, record.status)
        except UNREADABLE:
            unread.append(record.run_id)
            continue
        if history:
            about = {"arm": arm, "seed": record.seed, "run_id": record.run_id}
            tables.append(pd.DataFrame([about | row for row in _thinned(history)]))
    notes = []
    if len(chosen) < every:
        notes.append(f"{len(chosen)} of {every:,} runs are shown, spread over arms and seeds")
    if any(len(part) == POINTS for part in tables):
        notes.append(f"long curves are thinned to about {POINTS} steps, in the CSV too")
    if unread:
        notes.append(f"no steps that can be read: {', '.join(unread)}")
    return (pd.concat(tables, ignore_index=True) if tables else None), tuple(notes)


def _history(folder: Path, status: str) -> list[dict[str, Any]]:
    if status == "completed":
        return list(read_history(folder))
    reader = Reader(folder / PROGRESS)
    reader.read()
    return [{STEP: row.step} | row.values for row in reader.rows]


def views(table: pd.DataFrame, score: str) -> list[View]:
    """A view for each number that is logged, a line for each run.

    Args:
        score: the number of which what one answer for every input scores is a level.
    """
    logged = [str(key) for key in table if key not in ("arm", "seed", "run_id", STEP, CONSTANT, IS)]
    logged.sort(key=lambda key: next((i for i, start in enumerate(FIRST) if key.startswith(start)), len(FIRST)))
    arms = list(dict.fromkeys(table["arm"]))
    look = dict(zip(arms, looks(len(arms)), strict=True))
    several = len(set(table["seed"])) > 1
    made = []
    for key in logged:
        traces = []
        for (arm, seed, _), rows in table.groupby(["arm", "seed", "run_id"], sort=False):
            rows = rows[rows[key].notna()]
            if rows.empty:
                continue
            name = f"{arm}, seed {seed}" if several else arm
            mode = "lines+markers" if len(rows) <= 20 else "lines"
            hover = f"step %{{x:,}}: %{{y:.5g}}<extra>{plain(name)}</extra>"
            settings: dict[str, Any] = look[arm] | {"mode": mode, "hovertemplate": hover}
            traces.append(scatter(name, rows[STEP], rows[key], **settings))
        if traces and key == score:
            traces += constant_level(table, (float(table[STEP].min()), float(table[STEP].max())))
        if traces:
            made.append(View(key, traces, {"xaxis": axis("step"), "yaxis": axis(key)}))
    return made


def _chosen(group: Group) -> tuple[list[tuple[Record, str]], int]:
    """The runs whose curves are shown, each with its arm, and how many there are: all that did not complete come
    first, then the others, spread evenly."""
    arms = dict(zip(group.runs["run_id"], group.runs["arm"], strict=True))
    done = [(group.records[run_id], arm) for run_id, arm in arms.items()]
    others = [(run, _arm(run)) for run in group.unfinished if _has_steps(run, group.runs_dir)]
    shown = spread(others, RUNS // 3)
    return [*spread(done, RUNS - len(shown)), *shown], len(done) + len(others)


def _arm(run: Record) -> str:
    """What the legend calls a run without a result."""
    return f"{run.method}{f' r = {run.rank}' if run.rank else ''} ({run.status})"


def _has_steps(run: Record, runs_dir: Path) -> bool:
    return (runs_dir / run.run_id / PROGRESS).is_file()


def _thinned(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most `POINTS` steps, evenly spread; a step at which the model was validated is rather kept than its
    neighbours."""
    if len(history) <= POINTS:
        return list(history)
    scored = [i for i, row in enumerate(history) if any(key.startswith(FIRST[1]) for key in row)]
    kept = set(spread(scored, POINTS // 2))
    kept |= set(spread([i for i in range(len(history)) if i not in kept], POINTS - len(kept)))
    return [history[i] for i in sorted(kept)]
