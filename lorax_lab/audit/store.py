"""An audit's folder: one file per measured matrix, so that a stopped audit goes on where it was.

`audit.json` says what was audited; `matrices/00012.npz` holds a matrix's row (JSON) and its singular values. Each file
is written whole. The tables, the report and the figures are made from these files only.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lorax_lab.errors import ConfigError
from lorax_lab.record.files import write_json, write_whole
from lorax_lab.record.redact import redacted
from lorax_lab.spectra import Row

FORMAT = 2
IDENTITY = "audit.json"


@dataclass(frozen=True, eq=False)
class Measured:
    """A matrix's row and its singular values: all of them, the factors' own, or the top k."""

    row: Row
    sigma: np.ndarray


def by_module(measured: Iterable[Measured]) -> dict[str, list[Measured]]:
    """The measured matrices of each module type."""
    groups: dict[str, list[Measured]] = {}
    for matrix in measured:
        groups.setdefault(str(matrix.row["module"]), []).append(matrix)
    return groups


def open_store(folder: Path, identity: dict[str, Any]) -> Path:
    """The folder, which is made if needed, after a check that it holds no other audit.

    Raises:
        ConfigError: the folder holds another audit, or other files.
    """
    path = folder / IDENTITY
    identity = redacted({"format": FORMAT, **identity}, keys=False)  # as it is written
    if path.is_file():
        try:
            before = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{path} cannot be read ({error}); type --out ANOTHER_FOLDER, or delete this one"
            ) from None
        changed = [key for key in identity if before.get(key) != json.loads(json.dumps(identity[key]))]
        if changed:
            raise ConfigError(
                f"--out {folder} holds another audit: {', '.join(changed)} differ; what was measured there is kept: "
                "type --out ANOTHER_FOLDER, or delete this one"
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"--out {folder} holds other files; type --out with a new folder's name")
    elif folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file; type --out with a folder's name")
    else:
        write_json(path, identity, indent=1)
    return folder


def save(folder: Path, index: int, measured: Measured) -> None:
    """Write one matrix, whole."""

    def write(scratch: Path) -> None:
        with scratch.open("wb") as file:
            np.savez(file, sigma=measured.sigma, row=np.array(json.dumps(measured.row)))

    write_whole(_path(folder, index), write)


def load(folder: Path, index: int, name: str) -> Measured | None:
    """What was measured of a matrix; None where nothing was, or nothing that can be read."""
    try:
        with _path(folder, index).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            measured = Measured(json.loads(str(arrays["row"])), arrays["sigma"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return measured if measured.row.get("matrix") == name else None


def _path(folder: Path, index: int) -> Path:
    return folder / "matrices" / f"{index:05d}.npz"
