"""Twelve runs side by side against the same one after the other with one thread: how much of the cores is used."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lorax_lab.record import load_runs
from lorax_lab.record.provenance import hardware

RUNS = ("rank=4,8,16", "reference=false", "tracking=disabled")
SEEDS = (0, 1, 2, 3)


def measure(settings: tuple[str, ...] = ()) -> dict[str, Any]:
    """Three runs alone, then those of four seeds side by side; whole processes.

    Args:
        settings: overrides of every run.
    """
    machine = hardware()
    cores = int(machine["threads"])
    with tempfile.TemporaryDirectory() as scratch:
        alone, together = Path(scratch) / "alone", Path(scratch) / "together"
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        _timed([*RUNS, "seed=0", "workers=1", f"runs_dir={alone}", *settings], one_thread)
        wall = _timed([*RUNS, f"seed={','.join(map(str, SEEDS))}", f"runs_dir={together}", *settings], {})
        work = float(load_runs(alone)["time.total_seconds"].sum()) * len(SEEDS)
        inside = float(load_runs(together)["time.total_seconds"].sum())
    return {
        "title": "Twelve runs side by side",
        "date": time.strftime("%Y-%m-%d"),
        "hardware": machine,
        "rows": [
            _row("wall × cores / the runs' own time with one thread, alone", wall * cores, work, "≤ 1.1"),
            _row("a run's time beside others / alone", inside, work, ""),
        ],
        "seconds": {"wall": wall, "alone": work, "side by side": inside},
        "note": f"LoRA at r = 4, 8, 16 with {len(SEEDS)} seeds. Alone: one seed, times {len(SEEDS)}. The wall has all "
        "that a sweep does.",
    }


def _timed(words: list[str], variables: dict[str, str]) -> float:
    start = time.perf_counter()
    command = [sys.executable, "-m", "lorax_lab.run", *words, "-m"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | variables)
    return time.perf_counter() - start


def _row(what: str, ours: float, theirs: float, aim: str) -> dict[str, Any]:
    return {"what": what, "ratio": ours / theirs, "spread": f"{ours:.0f} s / {theirs:.0f} s, one pass", "aim": aim}
