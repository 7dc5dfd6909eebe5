"""How much memory is free, and sizes for people."""

from __future__ import annotations

import os
import resource
from pathlib import Path


def free_bytes() -> int:
    """How many bytes the system, the process's own limit and that of its container still allow."""
    free = [_available_bytes(), container_bytes(), _address_bytes()]
    return min(count for count in free if count is not None)


def _available_bytes() -> int:
    """What the system can still give, as Linux says; all memory where the system does not say."""
    try:
        return int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _address_bytes() -> int | None:
    """What the limit on the process's address space leaves; None without a limit, or where it is not told."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
    return None if limit < 0 else limit - used


def container_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """How many bytes a container's limit leaves, pages of files that can be dropped included; None without a limit.

    Args:
        cgroup: the folder of control groups, of Linux' version 2.
    """
    try:
        limit, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return limit - used + int(stat["inactive_file"])
    except (OSError, ValueError, KeyError):  # no limit is "max"
        return None


def size(count: int) -> str:
    """A number of bytes, for people.

    >>> size(1536), size(3 * 2**30)
    ('1.5 KiB', '3.0 GiB')
    """
    if abs(count) < 1024:
        return f"{count} B"
    number = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        number /= 1024
        if abs(number) < 1024:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:.1f} TiB"
