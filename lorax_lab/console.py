"""What a person sees while runs go on: progress bars, and the table at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

WIDTH = 120
console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=WIDTH)


def _progress(*columns: TextColumn) -> Progress:
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *columns, *times,
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


class TrainBar:
    """A live bar with loss, the validation metric and the time left; a line per validation where the output
    is no terminal."""

    def __init__(self, run_id: str, metric: str) -> None:
        self.run_id, self.metric = run_id, metric
        self.progress = _progress(TextColumn("loss {task.fields[loss]} · {task.fields[score]}"))
        self.loss: float | None = None

    def __enter__(self) -> Callable[[int, int, dict[str, float]], None]:
        self.progress.start()
        self.bar = self.progress.add_task(self.run_id, total=None, loss="—", score="")
        return self.on_step

    def on_step(self, step: int, steps: int, metrics: dict[str, float]) -> None:
        """Show one step; the loss is smoothed over about ten steps."""
        loss = metrics["train/loss"]
        self.loss = loss if self.loss is None else 0.9 * self.loss + 0.1 * loss
        self.progress.update(self.bar, completed=step, total=steps, loss=f"{self.loss:.3f}")
        if self.metric in metrics:
            score = f"{self.metric} {metrics[self.metric]:.3f}"
            self.progress.update(self.bar, score=score)
            if not console.is_terminal:
                console.print(f"{self.run_id}: step {step}/{steps}, loss {self.loss:.3f}, {score}", soft_wrap=True)

    def __exit__(self, *_: object) -> None:
        self.progress.stop()


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for counted work: call what it gives with (done, total)."""
    with _progress() as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class WorkBar:
    """A bar for work of known cost: what is done now, the percentage, the time left. Where the output is no terminal,
    a line at every tenth."""

    def __init__(self, total: int) -> None:
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=True))
        self.progress = Progress(
            BarColumn(), TaskProgressColumn(), *times, TextColumn("{task.description}"),
            console=console, transient=True, disable=not console.is_terminal, speed_estimate_period=600,
        )  # fmt: skip
        self.total, self.done, self.start = max(total, 1), 0, time.monotonic()

    def __enter__(self) -> WorkBar:
        self.progress.start()
        self.bar = self.progress.add_task("", total=self.total)
        return self

    def begin(self, title: str) -> None:
        """Say what is being done."""
        self.progress.update(self.bar, description=title)

    def advance(self, cost: int, title: str) -> None:
        """Count one part as done."""
        before, self.done = self.done, self.done + cost
        self.progress.update(self.bar, completed=self.done)
        if not console.is_terminal and 10 * before // self.total != 10 * self.done // self.total:
            spent = time.monotonic() - self.start
            left = spent * (self.total - self.done) / max(self.done, 1)
            share = f"{self.done / self.total:.0%}"
            console.print(f"{share} done in {spent:.0f} s, about {left:.0f} s left: {title}", soft_wrap=True)

    def __exit__(self, *_: object) -> None:
        self.progress.stop()


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
