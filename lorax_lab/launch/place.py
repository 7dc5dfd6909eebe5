"""The folder of the records, `runs_dir`: refused where it cannot be one, before anything is looked up or trained."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lorax_lab.errors import ConfigError

INSTEAD = "name another folder, as in runs_dir=runs"


def check_place(runs_dir: Path) -> None:
    """Pass where the folder can be made. Nothing is written.

    Raises:
        ConfigError: it is a file, too long, or in a folder that cannot be written.
    """
    try:
        if runs_dir.exists() and not runs_dir.is_dir():
            raise ConfigError(f"runs_dir={runs_dir} is a file; {INSTEAD}")
        nearest = next(place for place in (runs_dir, *runs_dir.absolute().parents) if os.path.lexists(place))
    except OSError as error:
        raise ConfigError(f"runs_dir={runs_dir} cannot be used ({error.strerror}); {INSTEAD}") from None
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ConfigError(f"runs_dir={runs_dir} cannot be written ({nearest} is not writable); {INSTEAD}")


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
        raise ConfigError(f"runs_dir={runs_dir} cannot be written ({error.strerror}); {INSTEAD}") from None
