"""A run that is trained again. All its files, checkpoints too, go into `<runs_dir>/.forced/<run_id>` until it is whole;
then that folder takes the place of the earlier run's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lorax_lab.record.files import sync
from lorax_lab.record.record import status_of

FOLDER = ".forced"


def workplace(folder: Path) -> Path:
    """Where the run that is to replace the one in `folder` is made."""
    return folder.parent / FOLDER / folder.name


def put_in_place(folder: Path) -> None:
    """Let the new run take the place of the one in `folder`, which steps aside first and is then removed. If the
    process is killed in between, `mend` finishes.

    Raises:
        OSError: the old run is in its place, or beside it for `mend`.
    """
    new, aside = workplace(folder), _aside(folder)
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(folder, aside)
    try:
        os.replace(new, folder)
    except OSError:
        os.replace(aside, folder)
        raise
    for parent in (folder.parent, new.parent):
        sync(parent)
    shutil.rmtree(aside, ignore_errors=True)


def mend(folder: Path) -> None:
    """Finish what a kill inside `put_in_place` left; call it where nobody else writes the run."""
    new, aside = workplace(folder), _aside(folder)
    if not folder.exists():
        whole = next((place for place in (new, aside) if status_of(place) == "completed"), None)
        if whole:
            os.replace(whole, folder)
    elif status_of(new) in ("completed", "damaged"):
        shutil.rmtree(new)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return workplace(folder).with_name(f"{folder.name}.old")
