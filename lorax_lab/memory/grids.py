"""The fixed grids of steps behind the figures of what fine-tuning takes, and their predictions as tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lorax_lab.memory.architectures import PRESETS
from lorax_lab.memory.operations import closed_form
from lorax_lab.memory.step import Step
from lorax_lab.record.files import write_csv

if TYPE_CHECKING:
    import pandas as pd

RANK = 8
MODEL = "llama-3.2-1b"
"""The model of the two grids that vary one model's step."""
COMMON = Step(
    model=MODEL,
    rank=RANK,
    batch=1,
    sequence=512,
    optimizer="adamw",
    precision="bf16",
    attention="flash",
    checkpointing=False,
    head="auto",
    target_modules="all-linear",
)


def presets() -> list[Step]:
    """Every preset, full and LoRA."""
    return [replace(COMMON, model=model, rank=rank) for model in PRESETS for rank in (None, RANK)]


def batches() -> list[Step]:
    """One model over batch and sequence, full and LoRA."""
    sizes = [(2**batch, 128 * 2**sequence) for batch in range(7) for sequence in range(7)]
    return [replace(COMMON, batch=b, sequence=s, rank=rank) for b, s in sizes for rank in (None, RANK)]


def ranks() -> list[Step]:
    """One model over LoRA's rank, and full."""
    return [replace(COMMON, rank=rank) for rank in (None, *(2**power for power in range(10)))]


GRIDS = {"step_presets": presets, "step_batches": batches, "step_ranks": ranks}
"""The steps of each table, by its name."""


def write_tables(folder: Path, on_done: Callable[[int, int], None]) -> list[Path]:
    """Predict every grid and write each as `<name>.csv` into `folder`; returns the files."""
    grids = {name: steps() for name, steps in GRIDS.items()}
    table, start, files = predictions([step for steps in grids.values() for step in steps], on_done), 0, []
    for name, steps in grids.items():
        files.append(folder / f"{name}.csv")
        rows = table.iloc[start : start + len(steps)]
        write_csv(files[-1], rows)
        start += len(steps)
    return files


def predictions(steps: list[Step], on_done: Callable[[int, int], None]) -> pd.DataFrame:
    """One row per step: its settings, the bytes of its peak in all and by category, and its operations."""
    import pandas as pd

    rows = []
    for number, step in enumerate(steps):
        on_done(number, len(steps))
        prediction, operations = step.predict(), closed_form(step)
        row = asdict(step) | {"target_modules": " ".join(step.target_modules)}
        row |= {"peak": prediction.ledger.peak_bytes, "trained": prediction.trained, "operations": operations.total}
        rows.append(row | prediction.ledger.by_category)
    return pd.DataFrame(rows).astype({"rank": "Int64"}).drop(columns="layers")
