"""Which records were found to be what was written: `<runs>/.verified`, the SHA-256 of each one's bytes.

It saves time and decides nothing else. Each record is read and hashed all the same, so one that was altered is checked
in full. A list that is damaged, or that belongs to other records, is made anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from lorax_lab.record.files import write_redacted
from lorax_lab.record.sums import read_bytes

NAME = ".verified"
LARGEST = 2**24
"""Largest list that is read, in bytes: 250,000 records."""
DIGEST = re.compile(r"[0-9a-f]{64}")


@lru_cache(maxsize=64)
def known(runs_dir: Path) -> set[str]:
    """The hashes of records that passed every check, in this process or before; whoever checks one adds it."""
    try:
        lines = read_bytes(runs_dir / NAME, LARGEST).decode("ascii", "replace").splitlines()
    except OSError:
        return set()
    return {line for line in lines if DIGEST.fullmatch(line)}


def keep(runs_dir: Path, digests: Iterable[str]) -> None:
    """Write the list, unless it has just these hashes. A store that cannot be written does without."""
    lines = sorted(digests)
    text = "".join(f"{line}\n" for line in lines)
    try:
        if not lines or ((runs_dir / NAME).is_file() and read_bytes(runs_dir / NAME, LARGEST) == text.encode()):
            return
        write_redacted(runs_dir / NAME, text)
    except OSError:
        return
