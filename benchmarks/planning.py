"""What a large store costs: 1,000 recorded jobs planned, 2,000 records read and drawn."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lorax_lab.config.identity import plain
from lorax_lab.launch.plan import Run, plan
from lorax_lab.record import load_runs
from lorax_lab.record.provenance import hardware
from lorax_lab.record.record import Record, read_record, write_record

JOBS, RECORDS = 1000, 2000
SMALL = [
    "train.max_steps=2", "train.validations=1", "task.train_examples=64", "task.validation_examples=32",
    "task.test_examples=32",
]  # fmt: skip


def measure() -> dict[str, Any]:
    """Two small runs are made; their records, under other seeds, fill two stores."""
    with tempfile.TemporaryDirectory() as scratch:
        small, jobs, all_runs = (Path(scratch) / name for name in ("small", "jobs", "all"))
        _run("lorax_lab.run", *SMALL, "rank=4", "tracking=disabled", f"runs_dir={small}", "-m")
        made = {record.method: record for record in map(read_record, _folders(small))}
        typed = _fill(jobs, JOBS, made)
        _fill(all_runs, RECORDS, made)
        planned = [_run("lorax_lab.run", *typed) for _ in range(2)]
        read = []
        for _ in range(2):
            start = time.perf_counter()
            assert len(load_runs(all_runs)) == RECORDS
            read.append(time.perf_counter() - start)
        drawn = _run("analysis", "--runs", str(all_runs), "--out", f"{scratch}/figures", expected=1)
    return {
        "title": "A large store",
        "date": time.strftime("%Y-%m-%d"),
        "hardware": hardware(),
        "rows": [
            _row(f"8 s / {JOBS:,} recorded jobs, the second time", 8.0, planned[1], f"{planned[0]:.1f} s at first"),
            _row(f"8 s / {RECORDS:,} records drawn", 8.0, drawn, "one pass"),
            _row(f"1 s / `load_runs` of {RECORDS:,}, the second time", 1.0, read[1], f"{read[0]:.1f} s at first"),
        ],
        "note": "Whole processes, but for `load_runs`. The records are of two small runs, under other seeds, with 36 "
        "matrices each. Drawn are all figures but the singular values, whose arrays these records lack. The first "
        "time every record is checked in full.",
    }


def _fill(store: Path, count: int, made: dict[str, Record]) -> list[str]:
    """Write so many records; returns the words that plan them."""
    seeds = ",".join(map(str, range(count // 4)))
    words = [*SMALL, "rank=4,8,16", f"seed={seeds}", "tracking=disabled", f"runs_dir={store}"]
    runs = plan(words, multirun=True)
    assert len(runs) == count
    for run in runs:
        write_record(run.folder, _of(run, made[run.config.method.name]))
    return [*words, "-m"]


def _of(run: Run, made: Record) -> Record:
    result = dataclasses.replace(made.completed, reference=run.reference)
    settings = {"config": plain(run.config), "rank": run.config.rank, "seed": run.config.seed}
    return dataclasses.replace(made, run_id=run.run_id, result=result, **settings)


def _folders(store: Path) -> list[Path]:
    return [path.parent for path in store.glob("*/record.json")]


def _run(module: str, *words: str, expected: int = 0) -> float:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", module, *words], stdout=subprocess.DEVNULL)
    assert done.returncode == expected, done
    return time.perf_counter() - start


def _row(what: str, limit: float, seconds: float, more: str) -> dict[str, Any]:
    return {"what": what, "ratio": limit / seconds, "spread": f"{seconds:.1f} s; {more}", "aim": "≥ 1"}
