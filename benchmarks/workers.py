"""Twelve runs side by side against the same one after the other with one thread: how much of the cores is used."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks import one_pass, timed
from lorax_lab.record import load_runs
from lorax_lab.record.provenance import hardware

RUNS = ("rank=4,8,16", "reference=false", "tracking=disabled")
SEEDS = (0, 1, 2, 3)


def measure(settings: tuple[str, ...] = ()) -> dict[str, Any]:
    """Three runs alone, then those of four seeds side by side; whole processes.

    Args:
        settings: overrides of every run.
    """
    cores = int(hardware()["threads"])
    sweep = ["-m", "lorax_lab.run", *RUNS, *settings, "-m"]
    with tempfile.TemporaryDirectory() as scratch:
        alone, together = Path(scratch) / "alone", Path(scratch) / "together"
        timed([*sweep, "seed=0", "workers=1", f"runs_dir={alone}"], OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
        wall, _ = timed([*sweep, f"seed={','.join(map(str, SEEDS))}", f"runs_dir={together}"])
        work = float(load_runs(alone)["time.total_seconds"].sum()) * len(SEEDS)
        inside = float(load_runs(together)["time.total_seconds"].sum())
    return {
        "title": "Twelve runs side by side",
        "rows": [
            one_pass("wall × cores / the runs' own time with one thread, alone", wall * cores, work, "≤ 1.1"),
            one_pass("a run's time beside others / alone", inside, work, ""),
        ],
        "seconds": {"wall": wall, "alone": work, "side by side": inside},
        "note": f"LoRA at r = 4, 8, 16 with {len(SEEDS)} seeds. Alone: one seed, times {len(SEEDS)}. The wall has all "
        "that a sweep does.",
    }
