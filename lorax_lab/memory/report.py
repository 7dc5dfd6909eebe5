"""A predicted step as a table: full fine-tuning, LoRA at each rank, and what share of full each takes."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table

from lorax_lab.config import PRECISIONS
from lorax_lab.console import console
from lorax_lab.memory.gpus import GPU_SIZES, gpus_needed
from lorax_lab.memory.ledger import CATEGORIES
from lorax_lab.memory.operations import Operations
from lorax_lab.memory.predict import Prediction
from lorax_lab.memory.shortage import size
from lorax_lab.memory.step import Step

NOTE = """\
Memory is that at the peak of one step; the checkpoint holds the trained weights. On several GPUs weights, gradients
and optimizer states are sharded (ZeRO 3) and each GPU has its own batch; driver and gaps take 1 GiB of each GPU.
Operations are floating-point ones; what checkpointing computes a second time is not counted."""


def show(full: Step, predictions: dict[Step, Prediction], operations: dict[Step, Operations]) -> None:
    """Print the table of `full` and the LoRA steps that differ from it in rank alone."""
    console.print(table(full, predictions, operations))
    console.print(NOTE, highlight=False)
    if missing := predicted_only(full):
        does = "`python -m lorax_lab.run` has adamw, and trains fp32 weights, in products of fp32 or bf16"
        console.print(f"Predicted only: {', '.join(missing)}; {does}.", soft_wrap=True, markup=False, highlight=False)


def predicted_only(step: Step) -> list[str]:
    """The settings of a step that no run of the lab can have, as they are typed."""
    of_runs = {"optimizer": ("adamw",), "precision": PRECISIONS}
    asked = {key: getattr(step, key) for key in of_runs}
    return [f"{key}={value}" for key, value in asked.items() if value not in of_runs[key]]


def table(full: Step, predictions: dict[Step, Prediction], operations: dict[Step, Operations]) -> Table:
    """A row per category, then the peak, the checkpoint, the sizes of GPU and the parts of the computation.

    A column per step, and beside it its share of full.
    """
    length = "" if full.sequence is None else f" × {full.sequence} tokens"
    more = ", checkpointing" if full.checkpointing else ""
    title = f"{full.model}: batch {full.batch}{length}, {full.optimizer}, {full.precision}, {full.attention}{more}"
    shown = Table(title=title, title_justify="left")
    shown.add_column("")
    for step in predictions:
        shown.add_column("full" if step is full else f"LoRA r={step.rank}", justify="right")
        if step is not full:
            shown.add_column("of full", justify="right")
    for category in CATEGORIES:
        sizes = {step: p.ledger.by_category[category] for step, p in predictions.items()}
        shown.add_row(category.replace("_", " "), *_shares(full, sizes, size))
    shown.add_row("peak", *_shares(full, {step: p.ledger.peak_bytes for step, p in predictions.items()}, size))
    shown.add_row("peak falls into", *_texts([p.ledger.phase for p in predictions.values()]))
    shown.add_section()
    shown.add_row("checkpoint", *_shares(full, {step: p.stored for step, p in predictions.items()}, size))
    shown.add_row("trained", *_texts([f"{p.trained:,}" for p in predictions.values()]))
    for gib in GPU_SIZES:
        shown.add_row(f"{gib} GiB GPUs", *_texts([_count(gpus_needed(p, gib)) for p in predictions.values()]))
    shown.add_section()
    for part in ("forward", "backward", "update", "total"):
        counts = {step: getattr(operations[step], part) for step in predictions}
        shown.add_row(f"{part} operations", *_shares(full, counts, "{:.2e}".format))
    return shown


def _shares(full: Step, counts: dict[Step, int], text: Callable[[int], str]) -> list[str]:
    cells = []
    for step, count in counts.items():
        cells += [text(count)] if step is full else [text(count), _share(count, counts[full])]
    return cells


def _share(part: int, whole: int) -> str:
    """The peaks are at different moments: where full holds next to nothing of a category, a share says nothing."""
    return f"{part / whole:.1%}" if part <= 10 * whole and whole else ""


def _texts(texts: list[str]) -> list[str]:
    """The first column is full's; each other column has an empty share beside it."""
    return [texts[0], *(cell for text in texts[1:] for cell in (text, ""))]


def _count(count: int | None) -> str:
    return "none do" if count is None else str(count)
