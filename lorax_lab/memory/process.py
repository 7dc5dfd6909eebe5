"""The process's own memory, as the operating system counts it."""

from __future__ import annotations

import sys
from pathlib import Path


def reset_peak() -> bool:
    """Start the resident peak anew, where the system allows it (Linux); returns whether it did."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_resident_bytes() -> int:
    """The largest resident set since the start or the last `reset_peak`, in bytes."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
