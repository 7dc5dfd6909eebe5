"""Runs as a sweep leaves them, for the tests of windows; no process trained them."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from recorded import matrix, run_record

from lorax_lab import windows
from lorax_lab.config import TrackingConfig
from lorax_lab.record.folder import SPECTRA, save_arrays, save_history
from lorax_lab.record.record import write_record
from lorax_lab.record.result import Captured

RUN_ID = "tiny-local-lora-r4-s0-0"
SHARES = Captured(column_share=0.25, row_share=0.25, best=0.5)
MATRICES: dict[str, Any] = {
    name: matrix("query", layer, 2, captured=SHARES)
    for name, layer in (("layer.0.query", 0), ("layer.1.query", 1), ("pooler", None))
}
SIGMA = {name: {"sigma": np.array([4.0, 2.0])} for name in MATRICES}
HISTORY = [
    {"step": 1, "train/loss": 0.7, "train/learning_rate": 0.001},
    {"step": 2, "train/loss": 0.6, "validation/accuracy": 0.5},
]


def recorded(runs_dir: Path, run_id: str = RUN_ID, tracking: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A run's folder as a sweep leaves it, completed unless `changes` say otherwise."""
    folder = runs_dir / run_id
    save_history(folder, HISTORY)
    save_arrays(folder / SPECTRA, SIGMA)
    done = {} if "status" in changes else {"matrices": MATRICES}
    record = run_record(run_id, **done | changes)
    write_record(
        folder,
        replace(record, config=record.config | {"tracking": tracking or {"project": "lorax_lab", "entity": None}}),
    )
    return folder


def show(mode: str, *folders: Path) -> list[str]:
    """Show runs that are over; what is said meanwhile."""
    messages: list[str] = []
    for folder in folders:
        windows.show(folder, TrackingConfig(mode, "lorax_lab", None), messages.append)
    windows.close()
    return messages


def inspected(runs_dir: Path, run_id: str, *flags: str) -> str:
    """The one offline window of a run in JSON, as W&B's own reader sees it."""
    (place,) = runs_dir.glob(f"wandb/offline-run-*-{run_id}")
    words = [sys.executable, "-m", "wandb", "leet", "inspect", *flags, "--json", str(place)]
    return subprocess.check_output(words, text=True)
