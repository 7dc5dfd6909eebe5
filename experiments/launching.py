"""How the runs of a study are launched: each sweep is a command that a person could type, in a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lorax_lab.config.overrides import quoted
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose

WRONG, STOPPED = 2, 130
"""Exit codes of a sweep: a wrong input, and stopped by a person."""
GRACE = 30.0
LAUNCH = (
    "workers=",
    "hydra/launcher",
    "hydra.launcher.",
    "tracking=",
    "checkpoint_seconds=",
    "time_limit_seconds=",
)
"""Overrides that may follow: how runs are launched and shown, not what they are."""


def check_launch(overrides: list[str], allowed: tuple[str, ...] = LAUNCH) -> None:
    """Refuse overrides that would change what a run is.

    Raises:
        ConfigError: names the override.
    """
    for override in overrides:
        if not override.startswith(allowed):
            fixed = f"{override} is not possible: a study's runs are fixed"
            raise ConfigError(f"{fixed}; what may follow: {' '.join(LAUNCH)}; options: --help")
    compose([override for override in overrides if not override.startswith("hydra")])


def command(sweep: list[str], runs: Path, launch: list[str], study: str) -> list[str]:
    """What a person would type for a sweep."""
    places = (f"runs_dir={_typed(runs)}", f"tracking.study={study}")
    return [sys.executable, "-m", "lorax_lab.run", *sweep, *places, *launch, "-m"]


def _typed(runs: Path) -> str:
    """A folder as it is typed; in quotes where it has other signs than letters."""
    return str(runs) if re.fullmatch(r"[\w./-]+", str(runs), re.ASCII) else quoted(str(runs))


def with_workers(launch: list[str], lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """The launch overrides with a number of workers that leaves each run as many threads as the study's runs had, for
    other threads round differently; one thread in a new study."""
    from lorax_lab.record.provenance import hardware

    if any(override.startswith(("workers=", "hydra/launcher")) for override in launch):
        return launch
    threads = next((int(line["hardware"]["threads"]) for line in lines if "hardware" in line), 1)
    return [*launch, f"workers={max(int(hardware()['threads']) // threads, 1)}"]


def run(typed: list[str]) -> int:
    """The exit code of a sweep in a process of its own. A sweep that is stopped has half a minute to write its results.
    A terminal's Ctrl-C reaches it directly; SIGTERM is passed on."""
    child = subprocess.Popen(typed)

    def pass_on(*_: object) -> None:
        child.terminate()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        return child.wait()
    except KeyboardInterrupt:
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
