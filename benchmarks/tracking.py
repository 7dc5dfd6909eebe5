"""What a window on the runs costs: the same runs with `tracking=offline` and with `tracking=disabled`."""

from __future__ import annotations

import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

from scipy.stats import t

from benchmarks import timed
from lorax_lab.record import load_runs

RUN = ("-m", "lorax_lab.run", "rank=4", "reference=false")
SIZES = ("task.train_examples=640", "task.validation_examples=200", "task.test_examples=400")
SEEDS = (1, 2, 3, 4, 5)
MODES = ("disabled", "offline")
TOGETHER, SWEEPS = 3, 4
"""Runs of a sweep, and how often it is made."""
INSIDE, COMMAND, SWEEP = "inside the run", "whole command of one run", "a sweep of three runs, for each"


def measure(settings: tuple[str, ...] = SIZES, seeds: tuple[int, ...] = SEEDS, sweeps: int = SWEEPS) -> dict[str, Any]:
    """Single runs of each seed in both modes by turns, then the first three seeds as one sweep, both modes by turns;
    whole processes.

    Args:
        settings: overrides of every run.
        sweeps: how often the sweep is made in each mode.
    """
    together = seeds[:TOGETHER]
    seconds: dict[str, dict[str, list[float]]] = {
        what: {mode: [] for mode in MODES} for what in (INSIDE, COMMAND, SWEEP)
    }
    with tempfile.TemporaryDirectory() as scratch:
        for seed in (0, *seeds):  # of seed 0 nothing is kept: its files are not yet in the page cache
            for mode in MODES:
                folder = Path(scratch) / f"{mode}-{seed}"
                wall, _ = timed([*RUN, *settings, f"seed={seed}", f"tracking={mode}", f"runs_dir={folder}"])
                if seed:
                    seconds[COMMAND][mode].append(wall)
                    seconds[INSIDE][mode].append(float(load_runs(folder)["time.total_seconds"].iloc[0]))
        for number in range(sweeps):
            for mode in MODES:
                runs = f"runs_dir={Path(scratch) / f'{mode}-sweep-{number}'}"
                words = [f"seed={','.join(map(str, together))}", f"tracking={mode}", runs, "-m"]
                seconds[SWEEP][mode].append(timed([*RUN, *settings, *words])[0] / len(together))
    return {
        "title": "Runs with a window, and without",
        "rows": [_row(what, *(of[mode] for mode in MODES)) for what, of in seconds.items()],
        "seconds": seconds,
        "note": f"LoRA of rank 4, {', '.join(settings)}; {len(seeds)} seeds, and {sweeps} sweeps; in brackets the 95 % "
        "interval over pairs. W&B offline.",
    }


def _row(what: str, without: list[float], with_window: list[float]) -> dict[str, Any]:
    ours, bare = statistics.mean(with_window), statistics.mean(without)
    added = [a - b for a, b in zip(with_window, without, strict=True)]
    spread = f"{ours:.1f} s / {bare:.1f} s: {ours - bare:+.1f} s"
    if len(added) > 1:
        half = t.ppf(0.975, len(added) - 1) * statistics.stdev(added) / math.sqrt(len(added))
        spread += f" [{ours - bare - half:+.1f}, {ours - bare + half:+.1f}]"
    return {"what": f"with / without: {what}", "ratio": ours / bare, "spread": spread, "aim": "+1 s"}
