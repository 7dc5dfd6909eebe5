"""The table that closes a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table


def table(rows: list[tuple[dict[str, Any], str]], runs_dir: Path) -> Table:
    """The closing table; a row is (record, status), of a run without a record its configuration, method, rank and seed
    alone. The task has a column where there are several, the learning rate where one method has several."""
    metric = next((record["metric"] for record, _ in rows if "metric" in record), "accuracy")
    swept = {
        "task": [record["config"]["task"]["name"] for record, _ in rows],
        "learning rate": [f"{record['config']['train']['learning_rate']:g}" for record, _ in rows],
    }
    methods = [record["config"]["method"]["name"] for record, _ in rows]
    if len(set(swept["task"])) == 1:
        del swept["task"]
    if len(set(zip(methods, swept["learning rate"], strict=True))) == len(set(methods)):
        del swept["learning rate"]
    shown = Table(title=f"{len(rows)} runs in {runs_dir}", title_justify="left")
    for heading in swept:
        shown.add_column(heading)
    shown.add_column("method")
    for heading in (
        "rank",
        "seed",
        "trainable",
        "peak memory",
        f"test {metric}",
        "effective rank",
        "null",
        "seconds",
    ):
        shown.add_column(heading, justify="right")
    shown.add_column("status")
    for number, (record, status) in enumerate(rows):
        shown.add_row(*(values[number] for values in swept.values()), *_cells(record), status)
    return shown


def _cells(record: dict[str, Any]) -> list[str]:
    rank = "" if record["rank"] is None else str(record["rank"])
    first = [record["method"], rank, str(record["seed"])]
    if "metrics" not in record:
        return [*first, *[""] * 6]
    summary, split = record["summary"], "validation" if record["config"]["measure"] == "trial" else "test"
    score = record["metrics"][f"{split}/{record['metric']}"]
    return [
        *first,
        f"{record['parameters']['trainable']:,}",
        f"{record['memory']['peak_bytes'] / 2**20:,.0f} MiB",
        f"{score:.3f}" + (" (validation)" if split == "validation" else ""),
        f"{summary['effective_rank']:.1f}" if summary else "",
        f"{summary['null.effective_rank']:.1f}" if summary else "",
        f"{record['time']['total_seconds']:.0f}",
    ]
