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
RUNS = "name another folder, as in runs_dir=runs"


def check_place(run: Run) -> None:
    """Pass where a run's folder can be made. Nothing is written.

    Raises:
        ConfigError: `runs_dir` is a file, a link to nothing, too long, or in a folder that cannot be written.
    """
    if not run.config.runs_dir.strip():
        raise ConfigError("runs_dir= is empty; name a folder, as in runs_dir=runs")
    check_folder(f"runs_dir={run.runs_dir}", run.runs_dir, RUNS, len(os.fsencode(run.run_id)) + 1)


def check_folder(typed: str, folder: Path, instead: str, inside: int = 0) -> None:
    """Pass where a folder can be made. Nothing is written.

    Args:
        typed: what names it, as in `out=serving/mine`.
        instead: what to type.
        inside: bytes of the longest name of a folder in it.

    Raises:
        ConfigError: it is a file, a link to nothing, too long, or in a folder that cannot be written.
    """
    if len(os.fsencode(folder.absolute())) + inside + INSIDE > LONGEST_PATH:
        raise ConfigError(f"{typed} is too long for a path; {instead}")
    try:
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{typed} is a file; {instead.replace('another', 'a')}")
        nearest = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
        if nearest.is_symlink() and not nearest.exists():
            raise ConfigError(f"{typed}: {nearest} is a link to {nearest.readlink()}, which is not there; {instead}")
        writable = nearest.is_dir() and os.access(nearest, os.W_OK)
    except OSError as error:
        raise ConfigError(f"{typed} cannot be used ({error.strerror}); {instead}") from None
    if not writable:
        raise ConfigError(f"{typed} cannot be written ({nearest} is not writable); {instead}")


def make_place(runs_dir: Path) -> None:
    """`make_folder` of `runs_dir`."""
    make_folder(f"runs_dir={runs_dir}", runs_dir, RUNS)


def make_folder(typed: str, folder: Path, instead: str) -> None:
    """Make the folder, and try whether a file can be written there.

    Raises:
        ConfigError: neither is possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"{typed} cannot be written ({error.strerror}); {instead}") from None
