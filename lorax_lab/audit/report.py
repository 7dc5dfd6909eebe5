"""What an audit writes and prints: a table with a row per matrix, and a report of the findings."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from lorax_lab.audit import summary
from lorax_lab.audit.measure import DRAWN
from lorax_lab.audit.noise import told
from lorax_lab.audit.store import Measured
from lorax_lab.audit.updates import Updates
from lorax_lab.console import WIDTH, Console, console
from lorax_lab.record.files import write_csv, write_text, write_whole

if TYPE_CHECKING:
    import pandas as pd


SHOWN = 10
"""How many notes of one kind are printed; the report has all."""


def introduce(updates: Updates, folder: Path, page: str = "report.md") -> None:
    """Print what is measured, and a note on each tensor that is not measured or has another name; `page` has all."""
    console.print(f"{updates.title}: {len(updates.matrices)} matrices, into {folder}", soft_wrap=True, markup=False)
    for kind, notes in itertools.groupby(updates.notes, key=lambda note: note.kind):
        members = list(notes)
        for note in members[:SHOWN]:
            console.print(f"  {note.kind}: {note.name}: {note.detail}", soft_wrap=True, markup=False)
        if len(members) > SHOWN:
            console.print(f"  {kind}: and {len(members) - SHOWN} more, all in {page}", markup=False)


def close(updates: Updates, measured: dict[str, Measured], failures: list[str], folder: Path) -> None:
    """Print the table and the findings; write `audit.csv`, `audit.parquet` and `report.md`."""
    for failure in failures:
        console.print(f"not measured: {failure}", soft_wrap=True, markup=False, style="red")
    if not measured:
        return
    matrices = list(measured.values())
    rows = frame(matrices)
    write_csv(folder / "audit.csv", rows)
    write_whole(folder / "audit.parquet", lambda scratch: rows.to_parquet(scratch, index=False))
    console.print(summary.table(matrices))
    sentences = summary.findings(matrices)
    for sentence in sentences:
        console.print(sentence, markup=False)
    write_text(folder / "report.md", _report(updates, matrices, failures, sentences))
    console.print(f"in {folder}: audit.csv, audit.parquet, report.md", soft_wrap=True, markup=False)
    console.print(f"for the figures type: python -m analysis audit {folder}", soft_wrap=True, markup=False)


def extracted(written: tuple[dict[str, int], list[str]], folder: Path) -> None:
    """Print what the extracted adapter holds and what it leaves out."""
    ranks, left = written
    low, high = min(ranks.values()), max(ranks.values())
    rank = f"rank {low}" if low == high else f"ranks {low} to {high}"
    console.print(f"{folder}: a PEFT adapter on {len(ranks)} matrices, {rank}", soft_wrap=True, markup=False)
    for name in left:
        console.print(f"  left out, an embedding or an output layer: {name}", soft_wrap=True, markup=False)


def frame(measured: list[Measured]) -> pd.DataFrame:
    """One row per matrix, in the order of the layers, and whether its spikes are told."""
    import pandas as pd

    rows = pd.DataFrame([m.row | told(m.row) for m in measured])
    return rows.drop(columns=["directions", DRAWN], errors="ignore")


def _report(updates: Updates, measured: list[Measured], failures: list[str], sentences: list[str]) -> str:
    page = io.StringIO()
    Console(width=WIDTH, file=page, color_system=None).print(summary.table(measured))
    notes = [f"- {note.kind}: {note.name}: {note.detail}" for note in updates.notes]
    notes += [f"  - {name}" for note in updates.notes for name in note.names]
    notes += [f"- not measured: {failure}" for failure in failures]
    parts = [f"# {updates.title}", *sentences, f"```\n{page.getvalue().rstrip()}\n```"]
    parts += ["## What was not measured, or has another name", "\n".join(notes)] if notes else []
    return "\n\n".join(parts) + "\n"
