"""The console and its progress bars: what a person sees while work goes on, without keys and passwords.

A process that works for another one (`launch/workers.py`) shows nothing: what it would print, and how far its bars are,
goes to that process as messages (`Console.relay`), which shows the bars of all (`WorkerBars`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

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

from lorax_lab.record.redact import redact

WIDTH = 120


OFTEN = 0.2
"""Seconds between two messages about one bar."""
Message = dict[str, Any]
"""`{"say": text, "style": …}` or `{"bar": title, "done": …, "total": …, "more": text}`; plain values."""


class Console(rich.console.Console):
    """Rich's console, which hides secrets before it breaks a text into lines.

    Attributes:
        relay: where the messages of a process go that works for another one; None where it shows its own console.
        shows_bars: whether bars are seen. Where they are not, lines stand for them.
    """

    relay: Callable[[Message], None] | None = None
    shows_bars = False

    def print(self, *objects: Any, **how: Any) -> None:
        """Print as rich does, or hand the text on."""
        if self.relay is None:
            super().print(*objects, **how)
        else:
            self.relay({"say": " ".join(map(str, objects)), "style": how.get("style")})

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
console.shows_bars = console.is_terminal


def _progress(*columns: TextColumn) -> Progress:
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *columns, *times,
        console=console, transient=True, disable=not console.is_terminal or console.relay is not None,
    )  # fmt: skip


class _Relayed:
    """A bar of a process that works for another one; it says how far it is, not more often than can be seen."""

    def __init__(self, title: str) -> None:
        self.title, self.said = title, 0.0

    def at(self, done: int, total: int, more: str = "") -> None:
        """Say how far the work is; the end is always said."""
        now = time.monotonic()
        if console.relay is None or (done < total and now - self.said < OFTEN):
            return
        self.said = now
        console.relay({"bar": self.title, "done": done, "total": total, "more": more})


class WorkerBars:
    """A bar for all runs of a sweep, and one for each that trains. They are shown inside a `with` block."""

    def __init__(self, total: int) -> None:
        self.progress = _progress(TextColumn("{task.fields[more]}"))
        self.whole = self.progress.add_task("runs", total=total, more="")
        self.bars: dict[str, Any] = {}
        self.ended: set[str] = set()

    def __enter__(self) -> WorkerBars:
        self.progress.start()
        return self

    def show(self, run_id: str, title: str, message: Message) -> None:
        """Move the bar of a run, by a message of its worker."""
        if run_id not in self.bars:
            self.bars[run_id] = self.progress.add_task("", total=None, more="")
        description, more = f"{title} · {message['bar']}", message["more"]
        self.progress.update(
            self.bars[run_id], description=description, completed=message["done"], total=message["total"], more=more
        )

    def end(self, run_id: str) -> None:
        """A run is over. It counts once, also where it is compared with its reference later."""
        if run_id in self.bars:
            self.progress.remove_task(self.bars.pop(run_id))
        self.ended.add(run_id)
        self.progress.update(self.whole, completed=len(self.ended))

    def __exit__(self, *_: object) -> None:
        self.progress.stop()


class TrainBar:
    """A live bar with the loss, the validation metric and the time left. Where the output is no terminal, it prints a
    line for each validation instead."""

    def __init__(self, run_id: str, metric: str) -> None:
        self.run_id, self.metric = run_id, metric
        self.progress = _progress(TextColumn("{task.fields[more]}"))
        self.relayed = _Relayed("training")
        self.loss: float | None = None
        self.score = ""

    def __enter__(self) -> Callable[[int, int, Mapping[str, float]], None]:
        self.progress.start()
        self.bar = self.progress.add_task(self.run_id, total=None, more="loss —")
        return self.on_step

    def on_step(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Show one step. The loss is smoothed over about ten steps."""
        loss = metrics["train/loss"]
        self.loss = loss if self.loss is None else 0.9 * self.loss + 0.1 * loss
        if self.metric in metrics:
            self.score = f"{self.metric} {metrics[self.metric]:.3f}"
            if not console.shows_bars:
                console.print(f"{self.run_id}: step {step}/{steps}, loss {self.loss:.3f}, {self.score}", soft_wrap=True)
        more = f"loss {self.loss:.3f} · {self.score}"
        self.progress.update(self.bar, completed=step, total=steps, more=more)
        self.relayed.at(step, steps, more)

    def __exit__(self, *_: object) -> None:
        self.progress.stop()


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar for work that can be counted. The block calls what it is given with (done, total); the total is None where
    nobody knows it."""
    relayed = _Relayed(title)
    with _progress() as progress:
        task = progress.add_task(title, total=None)

        def at(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)
            if total is not None:
                relayed.at(done, total)

        yield at


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
