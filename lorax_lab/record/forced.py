"""A run that is trained again. All its files, checkpoints too, go into `<runs_dir>/.forced/<run_id>` until it is whole;
then that folder takes the place of the earlier run's."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

from lorax_lab.record.files import sync
from lorax_lab.record.record import status_of

FOLDER = ".forced"
CURRENT_FOLDER, EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux."""


def workplace(folder: Path) -> Path:
    """Where the run that is to replace the one in `folder` is made."""
    return folder.parent / FOLDER / folder.name


def put_in_place(folder: Path) -> None:
    """Let the new run take the place of the one in `folder`, which is then removed.

    On Linux both folders exchange their names in one step. Elsewhere the old one steps aside first; if the process is
    killed between the two steps, `mend` finishes.

    Raises:
        OSError: the old run is still in its place.
    """
    new, aside = workplace(folder), _aside(folder)
    if not _exchanged(new, folder):
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, aside)
        try:
            os.replace(new, folder)
        except OSError:
            os.replace(aside, folder)
            raise
    for parent in (folder.parent, new.parent):
        sync(parent)
    for old in (new, aside):
        shutil.rmtree(old, ignore_errors=True)


def mend(folder: Path) -> None:
    """Finish what a kill inside `put_in_place` left; call it where nobody else writes the run.

    A completed run in the workplace is the old one, if the names were exchanged, or a new one that was not put in
    place: then it is made again.
    """
    new, aside = workplace(folder), _aside(folder)
    if not folder.exists() and status_of(new) == "completed":
        os.replace(new, folder)
    elif not folder.exists() and status_of(aside) == "completed":
        os.replace(aside, folder)
    elif status_of(new) in ("completed", "damaged"):
        shutil.rmtree(new)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return workplace(folder).with_name(f"{folder.name}.old")


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system, or the file system, cannot."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return bool(rename(CURRENT_FOLDER, os.fsencode(one), CURRENT_FOLDER, os.fsencode(other), EXCHANGE) == 0)
