"""`python -m lorax_lab.memory model=llama-2-70b rank=8`: what a training step holds, full and with LoRA.

It also says how many GPUs the step needs. Nothing is trained, and no weight is read.
"""

from __future__ import annotations

import itertools
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from lorax_lab.errors import ConfigError, answer, suggest
from lorax_lab.record.redact import guard

if TYPE_CHECKING:
    from rich.table import Table

    from lorax_lab.memory.predict import Prediction, Step

HELP = """\
What does a training step hold in memory, and how many GPUs does it need? The answer is a table of full fine-tuning
beside LoRA, predicted from the shape of the model alone. No weight is read and nothing is trained.

overrides, with their defaults (several values, separated by commas, are shown side by side):
{settings}
presets:
{presets}

examples:
  python -m lorax_lab.memory model=llama-2-70b rank=8 batch=1 sequence=2048
  python -m lorax_lab.memory model=llama-3.2-1b rank=1,8,64 precision=bf16
  python -m lorax_lab.memory model=llama-3-8b rank=16 batch=1 sequence=2048 precision=nf4 checkpointing=true
"""
NOTE = """\
Memory is that at the peak of one step; the checkpoint holds the trained weights. On several GPUs weights, gradients
and optimizer states are sharded (ZeRO 3) and each GPU has its own batch; driver and gaps take 1 GiB of each GPU."""


def main(arguments: list[str] | None = None) -> int:
    """Predict and print. Returns the exit code: 0 done, 2 a setting that is not allowed, 130 stopped."""
    from lorax_lab.config.overrides import CONF
    from lorax_lab.memory.architectures import PRESETS

    words = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(words):
        settings = (CONF / "memory.yaml").read_text(encoding="utf-8").replace(": ", "=")
        print(HELP.format(settings=settings, presets=textwrap.fill(", ".join(PRESETS), 110)))
        return 0
    return answer(lambda: _show(steps(words)))


def steps(words: list[str]) -> list[Step]:
    """Every step of the grid that words such as `rank=1,8` make, each with a rank; the rest is from `conf/memory.yaml`.
    A ConfigError names an unknown key, or a value that is not possible."""
    from omegaconf import OmegaConf

    from lorax_lab.config.overrides import CONF, values_of
    from lorax_lab.memory.predict import Step

    settings: Any = OmegaConf.to_container(OmegaConf.load(CONF / "memory.yaml"))
    grid: dict[str, list[Any]] = {key: [value] for key, value in settings.items()}
    for word in words:
        key, equals, _ = word.partition("=")
        if key not in settings or not equals:
            raise ConfigError(f"{word} is not possible; settings are written key=value: {suggest(key, list(settings))}")
        grid[key] = values_of(word)
        if any(isinstance(part, dict) for part in grid[key]) or (key == "rank" and None in grid[key]):
            raise ConfigError(f"{word} is not possible; allowed are plain values, such as {key}={settings[key]}")
    return [Step(**dict(zip(grid, values, strict=True))) for values in itertools.product(*grid.values())]


def _show(grid: list[Step]) -> int:
    from lorax_lab.console import bar, console

    for step in grid:
        step.shape()
    tables = {full: [full, *(s for s in dict.fromkeys(grid) if s.full == full)] for full in (s.full for s in grid)}
    wanted = list(itertools.chain(*tables.values()))
    answers: dict[Step, Prediction] = {}
    with bar("predicting") as on_done:
        for number, step in enumerate(wanted):
            on_done(number, len(wanted))
            answers[step] = step.predict()
    for columns in tables.values():
        console.print(table({step: answers[step] for step in columns}))
        console.print(NOTE, highlight=False)
    return 0


def table(answers: dict[Step, Prediction]) -> Table:
    """A row per category, then the peak, the checkpoint and the GPUs; a column per step, full fine-tuning first, and
    beside each other one its share of full."""
    from rich.table import Table

    from lorax_lab.memory.free import size
    from lorax_lab.memory.ledger import CATEGORIES
    from lorax_lab.memory.predict import GPU_SIZES, NF4, gpus_needed

    full, predictions = next(iter(answers)), list(answers.values())
    words = [f"batch {full.batch}", f"{full.sequence} tokens" * (full.sequence is not None), full.optimizer]
    words += [full.precision, full.attention, "checkpointing" * full.checkpointing]
    shown = Table("", title=f"{full.model}: {', '.join(filter(None, words))}", title_justify="left")
    trained_whole = "full, bf16-true" if full.precision == NF4 else "full"
    for step in answers:
        shown.add_column(trained_whole if step is full else f"LoRA r={step.rank}", justify="right")
        if step is not full:
            shown.add_column("of full", justify="right")

    def add(name: str, texts: list[str], counts: list[int] | None = None) -> None:
        shares = [""] * len(texts)
        if counts and counts[0]:  # where full holds next to nothing of a category, a share says nothing
            shares = [f"{count / counts[0]:.1%}" if count <= 10 * counts[0] else "" for count in counts]
        shown.add_row(name, texts[0], *itertools.chain(*zip(texts[1:], shares[1:], strict=True)))

    held = [p.ledger.by_category | {"peak": p.ledger.peak_bytes, "checkpoint": p.stored} for p in predictions]
    for name in (*CATEGORIES, "peak", "checkpoint"):
        counts = [row[name] for row in held]
        add(name.replace("_", " "), [size(count) for count in counts], counts)
    add("peak falls into", [p.ledger.phase for p in predictions])
    add("trained", [f"{p.trained:,}" for p in predictions])
    for gib in GPU_SIZES:
        add(f"{gib} GiB GPUs", [str(gpus_needed(p, gib) or "none do") for p in predictions])
    return shown


if __name__ == "__main__":
    guard()
    sys.exit(main())
