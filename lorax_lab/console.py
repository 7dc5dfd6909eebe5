"""The console and its progress bars: what a person sees while work goes on, without keys and passwords."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.text import Text

from lorax_lab.store.redact import redact

WIDTH = 120


class Console(rich.console.Console):
    """Rich's console, which hides secrets before it breaks a text into lines."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The segments of anything that can be shown; every text in it comes through here."""
        if isinstance(renderable, str):
            how = options or self.options
            renderable = self.render_str(renderable, highlight=how.highlight, markup=how.markup)
        if isinstance(renderable, Text) and (shown := redact(renderable.plain)) != renderable.plain:
            renderable = renderable.copy()
            renderable.plain = shown
        yield from super().render(renderable, options)


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
    """A live bar with the loss, the validation metric and the time left. Where the output is no terminal, it prints a
    line for each validation instead."""

    def __init__(self, run_id: str, metric: str) -> None:
        self.run_id, self.metric = run_id, metric
        self.progress = _progress(TextColumn("loss {task.fields[loss]} · {task.fields[score]}"))
        self.loss: float | None = None

    def __enter__(self) -> Callable[[int, int, dict[str, float]], None]:
        self.progress.start()
        self.bar = self.progress.add_task(self.run_id, total=None, loss="—", score="")
        return self.on_step

    def on_step(self, step: int, steps: int, metrics: dict[str, float]) -> None:
        """Show one step. The loss is smoothed over about ten steps."""
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
    """A bar for work that can be counted. The block calls what it is given with (done, total)."""
    with _progress() as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class WorkBar:
    """A bar for work of known cost: its present part, the percentage, the time left. Where the output is no terminal,
    it prints a line at every tenth."""

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
        """Show what is being done."""
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
