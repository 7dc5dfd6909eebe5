"""A predicted step as a table: full fine-tuning, LoRA at each rank, and what share of full each takes."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table

from lorax_lab.console import console
from lorax_lab.memory.cards import CARDS, cards_needed
from lorax_lab.memory.ledger import CATEGORIES
from lorax_lab.memory.predict import Prediction
from lorax_lab.memory.step import Step

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
NOTE = """\
memory at the peak of one step; the checkpoint is the weights that were trained. On several cards weights, gradients and
optimizer states are sharded (ZeRO 3), and each card has a batch of its own; 1 GiB of each is left to driver and gaps."""


def show(full: Step, found: dict[Step, Prediction]) -> None:
    """Print the table of `full` and the LoRA steps that differ from it in rank alone."""
    console.print(table(full, found))
    console.print(NOTE, highlight=False)


def table(full: Step, found: dict[Step, Prediction]) -> Table:
    """A row per category, for the whole, the checkpoint and each card; a column per step, with its share of full."""
    length = "" if full.sequence is None else f" × {full.sequence} tokens"
    more = ", checkpointing" if full.checkpointing else ""
    title = f"{full.model}: batch {full.batch}{length}, {full.optimizer}, {full.precision}, {full.attention}{more}"
    shown = Table(title=title, title_justify="left")
    shown.add_column("")
    for step in found:
        shown.add_column("full" if step is full else f"LoRA r={step.rank}", justify="right")
        if step is not full:
            shown.add_column("of full", justify="right")
    for category in CATEGORIES:
        _row(shown, full, found, category.replace("_", " "), lambda p, c=category: p.ledger.by_category[c])
    _row(shown, full, found, "peak", lambda p: p.ledger.peak_bytes)
    shown.add_row("peak falls into", *_cells(full, found, lambda p: p.ledger.phase))
    shown.add_section()
    _row(shown, full, found, "checkpoint", lambda p: p.stored)
    shown.add_row("trained", *_cells(full, found, lambda p: f"{p.trained:,}"))
    for card in CARDS:
        shown.add_row(f"{card} GiB cards", *_cells(full, found, lambda p, c=card: _cards(cards_needed(p, c))))
    return shown


def _row(
    shown: Table, full: Step, found: dict[Step, Prediction], name: str, value: Callable[[Prediction], int]
) -> None:
    whole, cells = value(found[full]), [size(value(found[full]))]
    for step, prediction in found.items():
        if step is not full:
            cells += [size(value(prediction)), _share(value(prediction), whole)]
    shown.add_row(name, *cells)


def _share(part: int, whole: int) -> str:
    """The peaks fall on different moments: where full holds next to nothing of a category, its share says nothing."""
    return f"{part / whole:.1%}" if part <= 10 * whole and whole else ""


def _cells(full: Step, found: dict[Step, Prediction], value: Callable[[Prediction], str]) -> list[str]:
    return [cell for step, p in found.items() for cell in ([value(p)] if step is full else [value(p), ""])]


def _cards(count: int | None) -> str:
    return "none do" if count is None else str(count)


def size(count: float) -> str:
    """
    >>> size(1536), size(3.5 * 2**40)
    ('1.5 KiB', '3.5 TiB')
    """
    power = min(len(UNITS) - 1, max(0, (int(count).bit_length() - 1) // 10))
    return f"{count / 1024**power:,.1f} {UNITS[power]}"
