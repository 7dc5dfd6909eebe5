"""An audit's folder: `audit.json` says what was audited; `matrices/00012.npz` holds a matrix's row (JSON) and its
singular values. Each file is written whole, so a stopped audit goes on where it was."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lorax_lab.errors import ConfigError
from lorax_lab.models.tensor_files import read_json
from lorax_lab.record.files import write_arrays, write_json
from lorax_lab.record.redact import redacted
from lorax_lab.spectra import Row

FORMAT = 3
IDENTITY = "audit.json"


@dataclass(frozen=True, eq=False)
class Measured:
    """A matrix's row and its singular values: all of them, or the factors' own."""

    row: Row
    sigma: np.ndarray


def open_store(folder: Path, identity: dict[str, Any]) -> Path:
    """The folder, which is made if needed; a ConfigError says that it holds another audit, or other files."""
    path = folder / IDENTITY
    identity = redacted({"format": FORMAT, **identity})  # as it is written
    if path.is_file():
        try:
            before = read_json(path)
        except ConfigError as error:
            raise ConfigError(f"--out {folder}: {error}, type another --out, or delete this one") from None
        if changed := [key for key in identity if before.get(key) != identity[key]]:
            raise ConfigError(f"--out {folder} holds another audit: {', '.join(changed)} differ; type another --out")
    elif folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise ConfigError(f"--out {folder} is a file, or holds other files; type --out with a new folder's name")
    else:
        write_json(path, identity, indent=1)
    return folder


def save(folder: Path, index: int, measured: Measured) -> None:
    """Write one matrix, whole."""
    write_arrays(_path(folder, index), {"sigma": measured.sigma, "row": np.array(json.dumps(measured.row))})


def load(folder: Path, index: int, name: str) -> Measured | None:
    """What was measured of a matrix; None where nothing was, or nothing that can be read."""
    try:
        with _path(folder, index).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            measured = Measured(json.loads(str(arrays["row"])), arrays["sigma"])
            return measured if measured.row["matrix"] == name else None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _path(folder: Path, index: int) -> Path:
    return folder / "matrices" / f"{index:05d}.npz"
