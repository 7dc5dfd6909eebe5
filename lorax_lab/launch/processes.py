"""Which process: its place, its number and its start tell it from every other, on this machine and elsewhere."""

from __future__ import annotations

import math
import os
import platform
import time
from pathlib import Path

_BEGAN = time.time_ns()
STATE, OF_USER, OF_SYSTEM, STARTED = 0, 11, 12, 19
"""Places in `/proc/<pid>/stat`, behind the name."""


def here() -> tuple[str, str, int, str]:
    """(place, host, pid, start) of this process. On a system that does not say, every process has a place of its own,
    so that nothing can be said of another one."""
    host, pid = platform.node(), os.getpid()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{host} {boot} {os.readlink('/proc/self/ns/pid')}", host, pid, start_of(pid)
    except OSError:
        return f"{host} {pid} {_BEGAN}", host, pid, ""


def start_of(pid: int) -> str:
    """When a process started, in the system's ticks; empty where there is no such process, or it is a zombie."""
    return field_of(pid, STARTED)


def seconds_of(pid: int) -> float:
    """Processor time that a process has used; NaN where the system does not say, as of a zombie."""
    ticks = [field_of(pid, place) for place in (OF_USER, OF_SYSTEM)]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") if all(ticks) else math.nan


def field_of(pid: int, place: int) -> str:
    """What the system says of a process; empty where there is no such process, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[STATE] in "ZX" else fields[place]
