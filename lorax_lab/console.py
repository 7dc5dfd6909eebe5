"""The console and its progress bars: what a person sees while work goes on."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lorax_lab.errors import LONGEST_TRACE, printable

WIDTH = 120
Show = Callable[..., None]
"""Shows how far a run is: `show(title, done, total, more="", line="")`; `more` is what else is to be said, and `line`
stands for the bar where the output is no terminal."""


def unseen(*_: object, **__: object) -> None:
    """Show nothing."""


console = Console(highlight=False)
if not console.is_terminal:
    console.width = WIDTH


def say(text: str, style: str | None = None) -> None:
    """Print a line as it is: brackets are no markup, and a terminal breaks it, not we. What steers a terminal is shown
    by its code."""
    console.print(printable(text, LONGEST_TRACE), style=style, soft_wrap=True, markup=False)


class Bars(Progress):
    """Bars, each with its title, how much is done, what `more` is to be said, and the time. They are shown inside a
    `with` block."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[more]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=console, transient=True, disable=not console.is_terminal, speed_estimate_period=600,
        )  # fmt: skip


class WorkerBars(Bars):
    """A bar for all runs of a sweep, and one for each that trains. Where the output is no terminal, lines stand for
    them."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.runs = self.add_task("runs", total=total, more="")
        self.bars: dict[str, Any] = {}
        self.ended: set[str] = set()

    def show(self, run_id: str, run: str, title: str, done: int, total: int, more: str = "", line: str = "") -> None:
        if line and not console.is_terminal:
            say(line)
        if run_id not in self.bars:
            self.bars[run_id] = self.add_task("", total=None, more="")
        self.update(self.bars[run_id], description=f"{run} · {title}", completed=done, total=total, more=more)

    def end(self, run_id: str) -> None:
        """A run is over. It counts once, also where it is compared with its reference later."""
        if run_id in self.bars:
            self.remove_task(self.bars.pop(run_id))
        self.ended.add(run_id)
        self.update(self.runs, completed=len(self.ended))


class Steps:
    """A sink of training steps that shows the loss, smoothed over about ten steps, and the last validation score."""

    def __init__(self, run_id: str, show: Show) -> None:
        self.run_id, self.show = run_id, show
        self.loss: float | None = None
        self.score = ""

    def __call__(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        loss = metrics["train/loss"]
        self.loss = loss if self.loss is None else 0.9 * self.loss + 0.1 * loss
        score = next((f"{key} {value:.3f}" for key, value in metrics.items() if key.startswith("validation/")), "")
        self.score = score or self.score
        line = f"{self.run_id}: step {step}/{steps}, loss {self.loss:.3f}, {score}" if score else ""
        self.show("training", step, steps, f"loss {self.loss:.3f} · {self.score}", line)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar for work that can be counted. The block calls what it is given with (done, total); the total is None where
    nobody knows it."""
    with Bars() as progress:
        task = progress.add_task(title, total=None, more="")
        yield lambda done, total: progress.update(task, completed=done, total=total)
