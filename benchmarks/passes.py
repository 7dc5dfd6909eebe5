"""Where the processor time of a full fine-tune on movie_reviews goes, pass by pass: with the cuts that find k90, and
with all cuts and controls.

`python -m benchmarks.passes measure=k90` is one such run, in this process and with one thread, as a sweep's workers
have here: it prints the seconds of each pass.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from lorax_lab import distributed, execute, findings
from lorax_lab import train as training
from lorax_lab.launch.compose import compose
from lorax_lab.launch.fastest import kernel_of
from lorax_lab.launch.plan import run_of
from lorax_lab.measure import rows, truncation
from lorax_lab.tasks import frozen_head

TRAINING, HEAD, REST = "training", "the head alone", "rest: imports, files, base, data, memory of a step"
PASSES: dict[str, tuple[tuple[ModuleType, str], ...]] = {
    TRAINING: ((training, "train"),),
    f"{HEAD}: features": ((frozen_head, "_features"),),
    f"{HEAD}: its fits": ((execute, "fitted_head"),),
    "validation": ((distributed, "seen"), (execute, "scored_in")),
    "test": ((execute, "measure"),),
    "decompositions": tuple((rows, name) for name in ("decompose", "measure", "to_save", "with_stand_ins")),
    "nulls and stand-ins": ((rows, "structured"), (truncation, "gaussian_like"), (truncation, "controls")),
    "cuts": ((findings, "_find_k90"), (truncation, "seen_under")),
}
"""The functions that make each pass. What one of them calls of another is the other's."""
TRAIN, TEST = 1500, 1000
"""Examples of the task."""
AIMS = {"k90": "≤ 0.3", "controls": "≤ 1.5"}


class Clock:
    """Seconds of this process's processor time by pass; on a card, of the clock."""

    def __init__(self) -> None:
        self.seconds = defaultdict[str, float](float)
        self.passes, self.since = [REST], 0.0 if not torch.cuda.is_available() else time.perf_counter()

    def note(self) -> None:
        """Count the time since the last note as the present pass's."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter() if torch.cuda.is_available() else time.process_time()
        self.seconds[self.passes[-1]] += now - self.since
        self.since = now

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time is that of the named pass."""

        @wraps(function)
        def wrapper(*arguments: Any, **named: Any) -> Any:
            self.note()
            self.passes.append(name)
            try:
                return function(*arguments, **named)
            finally:
                self.note()
                self.passes.pop()

        return wrapper


def measure() -> dict[str, Any]:
    """One process with k90 and one with controls."""
    return result({measured: _apart([f"measure={measured}"]) for measured in AIMS})


def result(seconds: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The table of the seconds of each pass, by what was measured."""
    lines = []
    for measured, passes in seconds.items():
        head = sum(spent for name, spent in passes.items() if name.startswith(HEAD))
        measuring = sum(passes.values()) - passes[TRAINING] - passes[REST]
        lines.append(_row(f"measure={measured}: all measuring", measuring, passes, ""))
        lines.append(_row(f"measure={measured}: all but the head alone", measuring - head, passes, AIMS[measured]))
        lines += [_row(f"measure={measured}: {name}", spent, passes, "") for name, spent in passes.items()]
    of_training = seconds["k90"]["test"] / TEST / (seconds["k90"][TRAINING] / TRAIN)
    return {
        "title": "Processor time of a full fine-tune, by pass / its training",
        "rows": lines,
        "seconds": seconds,
        "note": "MiniLM on movie_reviews with one thread, each in a process of its own; processor time, on a card the "
        f"clock's. Training reads {TRAIN:,} examples, test {TEST:,}, validation and each of 5 cuts 500, the head alone "
        f"3,000; the store keeps what that says for other seeds. A scored example takes {of_training:.2f} of a trained "
        f"one. So {0.3 * TRAIN / of_training:,.0f} could be scored in .3 of training, and 4,000 are.",
    }


def _row(what: str, spent: float, passes: dict[str, float], aim: str) -> dict[str, Any]:
    return {"what": what, "ratio": spent / passes[TRAINING], "spread": f"{spent:.1f} s", "aim": aim}


def _apart(settings: list[str]) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.passes", *settings]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def passes_of(settings: list[str]) -> dict[str, float]:
    """Processor seconds of this process by pass, from its start to the end of a run with these settings."""
    clock = Clock()
    for name, places in PASSES.items():
        for module, function in places:
            setattr(module, function, clock.timed(name, getattr(module, function)))
    with tempfile.TemporaryDirectory() as scratch:
        run = run_of(compose(["method=full", "tracking=disabled", f"runs_dir={scratch}", *settings]))
        execute.execute(run.config, run.run_id, Path(run.folder), None, kernel_of(run.config.train))
    clock.note()
    return dict(clock.seconds)


if __name__ == "__main__":
    print(json.dumps(passes_of(sys.argv[1:])))
