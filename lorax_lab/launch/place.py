"""The folder of the records, `runs_dir`: refused where it cannot be one, before anything is looked up or trained."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lorax_lab.errors import ConfigError
from lorax_lab.launch.plan import Run

LONGEST_PATH = 4096
INSIDE = 200
"""Bytes of the longest name that a run writes below its own folder."""


def check_place(run: Run) -> None:
    """Pass where a run's folder can be made. Nothing is written.

    Raises:
        ConfigError: `runs_dir` is a file, a link to nothing, too long, or in a folder that cannot be written.
    """
    runs_dir = run.runs_dir
    instead = "name another folder, as in runs_dir=runs"
    if not run.config.runs_dir.strip():
        raise ConfigError("runs_dir= is empty; name a folder, as in runs_dir=runs")
    if len(os.fsencode(run.folder.absolute())) + INSIDE > LONGEST_PATH:
        raise ConfigError(f"runs_dir={runs_dir} is too long for a path; {instead}")
    try:
        if runs_dir.exists() and not runs_dir.is_dir():
            raise ConfigError(f"runs_dir={runs_dir} is a file; name a folder, as in runs_dir=runs")
        nearest = next(folder for folder in (runs_dir, *runs_dir.absolute().parents) if os.path.lexists(folder))
        if nearest.is_symlink() and not nearest.exists():
            raise ConfigError(
                f"runs_dir={runs_dir}: {nearest} is a link to {nearest.readlink()}, which is not there; {instead}"
            )
        writable = nearest.is_dir() and os.access(nearest, os.W_OK)
    except OSError as error:
        raise ConfigError(f"runs_dir={runs_dir} cannot be used ({error.strerror}); {instead}") from None
    if not writable:
        raise ConfigError(f"runs_dir={runs_dir} cannot be written ({nearest} is not writable); {instead}")


def make_place(runs_dir: Path) -> None:
    """Make the folder, and try whether a file can be written there.

    Raises:
        ConfigError: neither is possible.
    """
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=runs_dir):
            pass
    except OSError as error:
        reason = f"runs_dir={runs_dir} cannot be written ({error.strerror})"
        raise ConfigError(f"{reason}; name another folder, as in runs_dir=runs") from None
