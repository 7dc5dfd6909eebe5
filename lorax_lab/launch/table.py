"""The table that closes a sweep: a column for each dial that differs, the results of each run, and why a run has none.

Runs that were scored on different splits or by different metrics are not put under one heading: each says which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from lorax_lab.config import RunConfig
from lorax_lab.config.identity import plain
from lorax_lab.record import measures, variation
from lorax_lab.record.direction import labelled, scored_on
from lorax_lab.record.record import Record
from lorax_lab.record.result import UNDEFINED

if TYPE_CHECKING:
    from rich.console import Group

MEASURED = ("trainable", "peak memory", "effective rank", "of noise", "seconds")
ALWAYS = ("method.name", "rank")
"""Dials that have a column even where all runs are alike in them."""
COLUMNS = 7
"""Most settings that have a column each. If there are more, those that are no main dial share one column, a line each,
and measured columns give way: a page has 120 letters. They also give way where runs are scored by several metrics."""


@dataclass(frozen=True)
class Row:
    """A run of the sweep: its configuration, its record where there is one, and its status in words."""

    config: RunConfig
    record: Record | None
    status: str


def table(rows: list[Row], runs_dir: Path) -> Group:
    """One line per run. Below the table stand the scores of untrained models, and the whole reason why a run has no
    result, is flagged as collapsed, or has a measure without a value."""
    from rich.console import Group

    named = _settings(rows)
    notes = [_notes(row, runs_dir) for row in rows]
    reasons = [f"{_pairs(values)}, {note}" for values, said in zip(named, notes, strict=True) for note in said]
    shown = Table(title=f"{len(rows)} runs in {runs_dir}", title_justify="left")
    columns = _scores([row.record for row in rows])
    if len(named[0]) > COLUMNS:
        named = [_in_one(values) for values in named]
    elif "scored" not in columns:
        columns |= _measured([row.record for row in rows], runs_dir)
    columns["status"] = ["collapsed" if _collapsed(row) else row.status.partition(":")[0] for row in rows]
    for heading in named[0]:
        shown.add_column(Text(heading), overflow="fold")
    for heading in columns:
        words = heading in ("scored", "status")
        shown.add_column(Text(heading), justify="left" if words else "right", no_wrap=words, overflow="fold")
    for values, *cells in zip(named, *columns.values(), strict=True):
        shown.add_row(*map(Text, [*values.values(), *cells]))
    return Group(shown, *(Text(line, overflow="fold") for line in [*_baselines(rows), *reasons]))


def _collapsed(row: Row) -> list[str]:
    return row.record.result.collapsed if row.record and row.record.result else []


def _notes(row: Row, runs_dir: Path) -> list[str]:
    """What is to be said of a run in words."""
    notes = [row.status] if ":" in row.status else []
    if reasons := _collapsed(row):
        notes.append(f"collapsed: {'; '.join(reasons)}")
    if row.record and row.record.result:
        notes += undefined(measures.rows(runs_dir / row.record.run_id))
    return notes


def undefined(matrices: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Why measures have no value, in how many of a run's matrices: `ΔW is zero in 12 of 12 matrices`."""
    counts = Counter(row[UNDEFINED] for row in matrices.values() if UNDEFINED in row)
    return [
        f"{reason} in {count} of {len(matrices)} matrices, so measures have no value there"
        for reason, count in counts.items()
    ]


def _settings(rows: list[Row]) -> list[dict[str, str]]:
    """Each run's values by heading: the main dials, whatever else differs, and last the seed."""
    runs = [variation.settings(plain(row.config)) for row in rows]
    differing = variation.dials(runs)
    main = [key for key in variation.MAIN if key in differing or key in ALWAYS]
    headings = variation.headings([*main, *(key for key in differing if key not in main), variation.SEED])
    return [{headings[key]: value for key, value in run.items()} for run in variation.labels(runs, headings)]


def _pairs(values: dict[str, str], between: str = ", ") -> str:
    return between.join(f"{heading} {value}" for heading, value in values.items() if value)


def _in_one(values: dict[str, str]) -> dict[str, str]:
    """The same, with all but the main dials and the seed in one cell, a line each."""
    headings = variation.headings(variation.MAIN).values()
    *first, last = values.items()
    main = [(key, value) for key, value in first if key in headings]
    return dict([*main, ("settings", _pairs(dict(pair for pair in first if pair not in main), "\n")), last])


def _scores(records: list[Record | None]) -> dict[str, list[str]]:
    """The scores under a heading that says what they are: `test accuracy` where they all are that (`training accuracy`
    of a memorised task), else a column of its own says so of each."""
    done = [record if record and record.result else None for record in records]
    scored = [_score_name(record) if record else "" for record in done]
    scores = [f"{record.completed.score(record.split):.3f}" if record else "" for record in done]
    kinds = set(scored) - {""}
    return {"scored": scored, "score": scores} if len(kinds) > 1 else {next(iter(kinds), "score"): scores}


def _score_name(record: Record) -> str:
    split = scored_on(record.config, record.split)
    return labelled(f"{split} {record.completed.metric}", record.completed.higher_is_better)


def _baselines(rows: list[Row]) -> list[str]:
    """What the models of the sweep score on the test split before training, a line for each model and task."""
    lines: dict[str, None] = {}
    for row in rows:
        result = row.record.result if row.record else None
        if result and result.baselines:
            scores = ", ".join(f"{key.replace('/', ' ')} {_score(value)}" for key, value in result.baselines.items())
            lines[f"before training, {Path(row.config.model).name} on {row.config.task.name}: {scores}"] = None
    return list(lines)


def _score(value: float | None, digits: int = 3) -> str:
    return "—" if value is None else f"{value:.{digits}f}"


def _measured(records: list[Record | None], runs_dir: Path) -> dict[str, list[str]]:
    rows = [_measures(record, runs_dir) for record in records]
    return {heading: [row[number] if row else "" for row in rows] for number, heading in enumerate(MEASURED)}


def _measures(record: Record | None, runs_dir: Path) -> list[str]:
    """In the order of `MEASURED`; empty for a run without a result."""
    if record is None or record.result is None:
        return []
    result, summary = record.result, measures.means(runs_dir / record.run_id)
    return [
        f"{result.parameters.trainable:,}",
        f"{result.memory.peak_bytes / 2**20:,.0f} MiB",
        _score(summary["effective_rank"], 1) if summary else "",
        _score(summary["null.effective_rank"], 1) if summary else "",
        f"{result.time.total_seconds:.0f}",
    ]
