"""A training step predicted from its configuration against the same step measured, cell by cell of a grid.

Cells that are recorded in `results/memory_cells.csv` are not measured again; those of more than `TOKENS` tokens are
left out for the model named there.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from lorax_lab.console import bar
from lorax_lab.memory.ledger import CATEGORIES, record_step
from lorax_lab.memory.predict import Step
from lorax_lab.record.files import write_csv
from lorax_lab.train import make_optimizer

CELLS = Path(__file__).parent / "results" / "memory_cells.csv"
RANKS, BATCHES, SEQUENCES = (None, 1, 8, 64), (1, 8, 32), (32, 128, 512)
TOKENS = {"minilm": 1024, "smollm2-135m": 256}
_TEXT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 160}
TINY: dict[str, dict[str, Any]] = {
    "tiny bert": _TEXT | {"model_type": "bert", "vocab_size": 96},
    "tiny gpt2": {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 96},
    "tiny llama": _TEXT | {"model_type": "llama", "vocab_size": 96},
    "tiny vit": _TEXT | {"model_type": "vit", "patch_size": 8},
}
SIDES = {32: 40, 128: 88, 512: 176}
"""Pixels of a square image whose patches of 8 are about as many as these tokens: 25, 121, 484."""


def measure_grid() -> pd.DataFrame:
    """Every cell of the grid, measured unless it is recorded already."""
    rows = pd.read_csv(CELLS).to_dict("records") if CELLS.exists() else []
    recorded = {(row["model"], row["method"], row["batch"], row["sequence"], row["checkpointing"]) for row in rows}
    grid = itertools.product((*TINY, *TOKENS), RANKS, BATCHES, SEQUENCES, (False, True))
    wanted = [cell for cell in grid if cell[2] * cell[3] <= TOKENS.get(cell[0], 2**20)]
    with tempfile.TemporaryDirectory() as folder, bar("measuring") as on_done:
        for number, (model, rank, batch, sequence, checkpointing) in enumerate(wanted):
            on_done(number, len(wanted))
            method = "full" if rank is None else f"lora r={rank}"
            key = (model, method, batch, sequence, checkpointing)
            if key not in recorded:
                step = _step(model, rank, batch, sequence, checkpointing, Path(folder))
                rows.append(dict(zip(KEYS, key, strict=True)) | _cell(step))
                write_csv(CELLS, pd.DataFrame(rows))
    return pd.DataFrame(rows)


KEYS = ("model", "method", "batch", "sequence", "checkpointing")


def _step(model: str, rank: int | None, batch: int, sequence: int, checkpointing: bool, folder: Path) -> Step:
    name, image = model, model == "tiny vit"
    if model in TINY:
        path = folder / f"{model}-{sequence}.json"
        path.write_text(json.dumps(TINY[model] | ({"image_size": SIDES[sequence]} if image else {})))
        name = str(path)
    tokens = None if image else sequence
    return Step(name, rank, batch, tokens, "adamw", "fp32", "sdpa", checkpointing, "classifier", "all-linear")


def _cell(step: Step) -> dict[str, Any]:
    predicted, model = step.predict().ledger, step.build().train()
    optimizer = make_optimizer(model, step.optimizer, 0.0, 0.0)
    real = record_step(model, optimizer, step.make_batch(), step.autocast).ledger()
    row = {"predicted": predicted.peak_bytes, "measured": real.peak_bytes, "phase": real.phase}
    row |= {f"predicted.{c}": predicted.by_category[c] for c in CATEGORIES}
    return row | {f"measured.{c}": real.by_category[c] for c in CATEGORIES}


def measure() -> dict[str, Any]:
    """The largest differences of each model's cells."""
    grid, rows = measure_grid(), []
    for model, cells in grid.groupby("model", sort=False):
        worst = (cells["predicted"] / cells["measured"] - 1).abs().max()
        differences = [(cells[f"predicted.{c}"] - cells[f"measured.{c}"]).abs().max() for c in CATEGORIES]
        spread = f"{len(cells)} cells; any category off by at most {max(differences):,} B"
        rows.append({"what": model, "ratio": 1 + worst, "spread": spread, "aim": "≤ 1.02"})
    note = "Ratios are those of the cell that is furthest off. Every cell is in `results/memory_cells.csv`. "
    note += "The aim is 1.02 at most."
    header = {"title": "Memory of a step, predicted / measured", "note": note}
    return header | {"rows": rows}
