"""The table that closes a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from lorax_lab.config import RunConfig
from lorax_lab.store.record import Record


@dataclass(frozen=True)
class Row:
    """A run of the sweep: its configuration, its record where there is one, and its status in words."""

    config: RunConfig
    record: Record | None
    status: str


def table(rows: list[Row], runs_dir: Path) -> Table:
    """One line per run. The task has a column where there are several; the learning rate where a method has several."""
    metric = next((row.record.completed.metric for row in rows if row.record and row.record.result), "accuracy")
    swept = {
        "task": [row.config.task.name for row in rows],
        "learning rate": [f"{row.config.train.learning_rate:g}" for row in rows],
    }
    methods = [row.config.method.name for row in rows]
    if len(set(swept["task"])) == 1:
        del swept["task"]
    if len(set(zip(methods, swept["learning rate"], strict=True))) == len(set(methods)):
        del swept["learning rate"]
    shown = Table(title=f"{len(rows)} runs in {runs_dir}", title_justify="left")
    for heading in swept:
        shown.add_column(heading)
    shown.add_column("method")
    for heading in ("rank", "seed", "trainable", "peak memory", f"test {metric}", "effective rank", "null", "seconds"):
        shown.add_column(heading, justify="right")
    shown.add_column("status")
    for number, row in enumerate(rows):
        shown.add_row(*(values[number] for values in swept.values()), *_cells(row), row.status)
    return shown


def _cells(row: Row) -> list[str]:
    rank = "" if row.config.rank is None else str(row.config.rank)
    first = [row.config.method.name, rank, str(row.config.seed)]
    if row.record is None or row.record.result is None:
        return [*first, *[""] * 6]
    result, split = row.record.result, row.record.split
    return [
        *first,
        f"{result.parameters.trainable:,}",
        f"{result.memory.peak_bytes / 2**20:,.0f} MiB",
        f"{result.score(split):.3f}" + (" (validation)" if split == "validation" else ""),
        f"{result.summary['effective_rank']:.1f}" if result.summary else "",
        f"{result.summary['null.effective_rank']:.1f}" if result.summary else "",
        f"{result.time.total_seconds:.0f}",
    ]
