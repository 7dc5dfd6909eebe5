"""Learning curves, from the `metrics.jsonl` of runs; of many runs some, and of long ones some points. A run that did
not complete has no such file: its steps are those of `progress.jsonl`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.store.folder import read_history
from lorax_lab.store.progress import PROGRESS, Reader
from lorax_lab.store.record import Record

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
    import pandas as pd

    chosen, every = _chosen(group)
    tables, unread = [], []
    for record, arm in chosen:
        try:
            history = _history(group.runs_dir / record.run_id, record.status)
        except UNREADABLE:
            unread.append(record.run_id)
            continue
        if history:
            about = {"arm": arm, "seed": record.seed, "run_id": record.run_id}
            tables.append(pd.DataFrame([about | row for row in _thinned(history)]))
    if not tables:
        return None
    table, notes = pd.concat(tables, ignore_index=True), []
    if len(chosen) < every:
        notes.append(f"{len(chosen)} of {every:,} runs are shown, spread over arms and seeds")
    if any(len(part) == POINTS for part in tables):
        notes.append(f"long curves are thinned to about {POINTS} steps, in the CSV too")
    if unread:
        notes.append(f"no steps that can be read: {', '.join(unread)}")
    table = constant.with_constant(table, group, "validation")
    title = f"Learning curves of {group.title['model']} on {group.title['task']}"
    return Plot(NAME, title, views(table, f"validation/{group.metric}"), table, command, tuple(notes))


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
    others = [(run, f"{run.method}{f' r = {run.rank}' if run.rank else ''} ({run.status})") for run in group.unfinished]
    others = [(run, arm) for run, arm in others if (group.runs_dir / run.run_id / PROGRESS).is_file()]
    shown = spread(others, RUNS // 3)
    return [*spread(done, RUNS - len(shown)), *shown], len(done) + len(others)


def _thinned(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most `POINTS` steps, evenly spread; a step at which the model was validated is rather kept than its
    neighbours."""
    if len(history) <= POINTS:
        return list(history)
    scored = [i for i, row in enumerate(history) if any(key.startswith(FIRST[1]) for key in row)]
    kept = set(spread(scored, POINTS // 2))
    kept |= set(spread([i for i in range(len(history)) if i not in kept], POINTS - len(kept)))
    return [history[i] for i in sorted(kept)]
