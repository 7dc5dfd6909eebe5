"""Figures, tables and verdict of a study from 1,000 records: the published ones, copied under other tasks' names."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from analysis.__main__ import main
from analysis.study.records import RECORDS, load
from lorax_lab.record.provenance import hardware
from lorax_lab.study.declaration import Declaration, write_declaration
from lorax_lab.study.published import Line, write_lines

MAIN = "rank_sweep"
COUNT = 1000
LIMIT = 30.0
"""Most seconds that it may take."""


def measure() -> dict[str, Any]:
    """Seconds of `python -m analysis study` on the copies, without the start of the interpreter."""
    records = load(RECORDS / MAIN)
    lines, tasks, number = list[Line](), dict[str, tuple[str, ...]](), 0
    while len(lines) < COUNT:
        for task in records.conditions:
            of_task = [*records.of(task, "trial"), *records.of(task, "final")]
            name = f"{task} {number}"
            tasks[name] = (f"task={name}",)
            lines += [_renamed(line, name, number) for line in of_task]
        number += 1
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_lines(folder / MAIN, lines)
        write_declaration(folder / MAIN, _of_tasks(records.declared, tasks))
        start = time.perf_counter()
        status = main(["study", "--records", scratch, "--out", scratch, "--verdict", f"{scratch}/VERDICT.md"])
        seconds = time.perf_counter() - start
    assert status == 0
    row = {"what": f"limit / regenerating {len(lines):,} records", "ratio": LIMIT / seconds}
    return {
        "title": f"Regenerating a study of {len(lines):,} records: {len(tasks)} tasks",
        "date": date.today().isoformat(),
        "hardware": hardware(),
        "rows": [row | {"spread": f"{seconds:.1f} s, one pass", "aim": "≥ 1"}],
        "note": f"The limit is {LIMIT:.0f} s. Every figure (PNG, PDF), table (CSV, LaTeX) and the verdict.",
    }


def _renamed(line: Line, task: str, number: int) -> Line:
    config = line["config"] | {"task": line["config"]["task"] | {"name": task}}
    return line | {"config": config, "run_id": f"{line['run_id']}-{number}"}


def _of_tasks(declared: Declaration, tasks: dict[str, tuple[str, ...]]) -> Declaration:
    """The declaration with other tasks, whose settings differ from the first task's in their name."""
    first = next(iter(declared.conditions))
    settings = {
        (task, arm.name): declared.settings[first, arm.name] | {"task.name": task}
        for task in tasks
        for arm in declared.protocol.arms
    }
    return replace(declared, factors={"task": tasks}, settings=settings)
