"""The message when memory runs out: which category asked for how much, and what would fit."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import torch

from lorax_lab.errors import is_out_of_memory
from lorax_lab.memory.ledger import Ledger

UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
ASKED = re.compile(r"tried to allocate ([\d.]+) ?(bytes|[KMGT]iB)", re.IGNORECASE)


def bytes_asked(error: BaseException) -> int | None:
    """How many bytes the failed allocation asked for, where the error states it.

    >>> bytes_asked(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2048 bytes."))
    2048
    >>> bytes_asked(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB."))
    1610612736
    """
    match = ASKED.search(str(error))
    return round(float(match[1]) * UNITS[match[2].replace("bytes", "")]) if match else None


def free_bytes() -> int:
    """How many bytes can still be allocated: on the CUDA device, or by the system, the process's own limit and that of
    its container."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
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


@contextmanager
def explained(
    category: str,
    ledger: Ledger | Callable[[], Ledger] | None = None,
    batch: int = 0,
    smaller: str = "a smaller model",
) -> Iterator[None]:
    """Add a note to an out-of-memory error raised inside the block: what asked, for how much, and what would fit.

    Args:
        category: the ledger's category that the block's allocations belong to, unless the traceback shows another.
        ledger: that of a step of the run, or a call that measures a step on one example; None outside training.
        batch: examples in the run's batches.
        smaller: what makes one example take less, as `Kind.smaller`.
    """
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            error.add_note(_explanation(error, category, ledger, batch, smaller))
        raise


def _explanation(
    error: Exception, category: str, ledger: Ledger | Callable[[], Ledger] | None, batch: int, smaller: str
) -> str:
    requested = bytes_asked(error)
    wanted = "more" if requested is None else size(requested)
    shortage = f"[{wanted} asked for as {_category(error.__traceback__) or category}; {size(free_bytes())} free"
    if ledger is None:
        return f"{shortage}; a smaller model, or a machine with more memory, would fit]"
    error.__traceback__ = None  # it holds what the failed step had made
    try:
        step = ledger() if callable(ledger) else ledger
    except Exception as second:
        if not is_out_of_memory(second):
            raise
        return f"{shortage}; not even one example fits: {smaller} or LoRA would take less]"
    parts = step.by_category
    per_example = (parts["activations"] + parts["temporaries"]) // max(step.batch_shape[0], 1)
    constant = parts["gradients"] + parts["optimizer_states"]
    fits = min((free_bytes() - constant) // per_example, batch - 1) if per_example else batch - 1
    if fits < 1:
        return f"{shortage}; no batch would fit: {smaller} or LoRA would take less]"
    return (
        f"{shortage}; one example takes {size(per_example)} of activations and temporaries, the rest of a step "
        f"{size(constant)}: train.batch_size={fits} would fit; train.gradient_accumulation makes up for it]"
    )


def _category(where: TracebackType | None) -> str | None:
    """The category of the innermost frame of a traceback that shows one."""
    category = None
    while where is not None:
        file, name = where.tb_frame.f_code.co_filename, where.tb_frame.f_code.co_name
        if "optim" in file and name == "step":
            category = "optimizer_states"
        elif "autograd" in file and "backward" in name:
            category = "gradients"
        where = where.tb_next
    return category


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
