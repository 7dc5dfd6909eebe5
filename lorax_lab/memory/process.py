"""The process's own memory, as the operating system counts it."""

from __future__ import annotations

import sys
from pathlib import Path


def reset_peak() -> bool:
    """Reset the device's peak and, where the system allows it (Linux), the resident one; returns whether the resident
    peak was reset."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_resident_bytes() -> int:
    """The largest resident set since the start or the last `reset_peak`, in bytes."""
    if (peak := _status("VmHWM")) is not None:
        return peak
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def anonymous_bytes() -> int | None:
    """The process's resident memory that is no page of a file, in bytes; None where the system does not report it."""
    return _status("RssAnon")


def peak_anonymous_bytes() -> int | None:
    """The largest resident set since the last `reset_peak`, without the pages of files that are resident now."""
    peak, mapped, shared = _status("VmHWM"), _status("RssFile"), _status("RssShmem")
    return None if peak is None or mapped is None or shared is None else peak - mapped - shared


def _status(key: str) -> int | None:
    try:
        return int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return None


def peak_device_bytes() -> int | None:
    """The most bytes of tensors on the CUDA device since the last `reset_peak`; None without one."""
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
