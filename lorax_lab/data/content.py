"""Whether a file is there, and the SHA-256 of its content."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path


def is_file(path: Path) -> bool:
    """Whether a file is there; no name is too long or too strange to ask."""
    try:
        return path.is_file()
    except OSError:
        return False


def sha256_of_file(path: Path) -> str:
    """The hash, read from the disk each time.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_state(path: Path) -> str:
    """The hash, read once for each state of the file: its size, and when it was written.

    Raises:
        OSError: the file cannot be read.
    """
    state = path.stat()
    return _at(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@lru_cache(maxsize=16)
def _at(path: Path, *state: int) -> str:
    return sha256_of_file(path)
