"""How much memory is free, and sizes for people."""

from pathlib import Path

import psutil


def free_bytes() -> int:
    """How many bytes the system and the limit of the process's container still allow."""
    system, container = psutil.virtual_memory().available, container_bytes()
    return system if container is None else min(system, container)


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
    power = min((abs(count).bit_length() - 1) // 10, 4) if count else 0
    return f"{count / 1024**power:.1f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}" if power else f"{count} B"
