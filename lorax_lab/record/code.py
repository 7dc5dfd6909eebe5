"""The version of the code that decides a run's numbers: one hash of the numeric rooms' files.

It is shown as a note, beside the commit and whether that is dirty: a comment that is changed changes it too.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
ROOMS = ("data", "tasks", "models", "methods", "memory", "measure", "spectra")
FILES = ("execute.py", "train.py", "findings.py", "comparison.py", "streams.py")
"""The rooms and files whose code decides a record's numbers; the others plan, store and show."""


@lru_cache(maxsize=8)
def code_sha256(package: Path = PACKAGE) -> str:
    """The SHA-256 of the names and contents of the files, 64 hex digits.

    Args:
        package: the folder of the sources.
    """
    paths = [path for room in ROOMS for path in (package / room).rglob("*.py")]
    paths += [package / name for name in FILES if (package / name).is_file()]
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(package).as_posix()}\n".encode() + path.read_bytes() + b"\n")
    return digest.hexdigest()
