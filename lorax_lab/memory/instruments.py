"""Two more instruments beside the ledger: what the allocator gave, and what the process held.

The ledger counts the storages that it saw, torch's profiler every allocation and release, and the operating system the
pages. On one step the first two should agree to the byte, except for scratch inside single operations. The third
should agree with them except for its page size and for what the libraries keep.
"""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lorax_lab.memory.ledger import Ledger, record_step, take_step
from lorax_lab.memory.predict import OPTIMIZERS, Plain
from lorax_lab.memory.process import anonymous_bytes, peak_anonymous_bytes, reset_peak

if TYPE_CHECKING:
    from torch import nn

    from lorax_lab.memory.step import Step

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""glibc's names for `mallopt`."""


@dataclass(frozen=True)
class Measured:
    """One real step by three instruments, in bytes.

    `allocator` is the allocator's peak. `process` is how far the process's anonymous memory rose, from before the model
    was made to the peak of a step that nothing observed; None where the system does not report it (Linux does).
    """

    ledger: Ledger
    allocator: int
    process: int | None


def measure_apart(step: Step) -> Measured:
    """`measure` in a fresh process that has imported torch and transformers and done nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers", "lorax_lab.memory.step", "lorax_lab.memory.instruments"])
    with context.Pool(1) as pool:
        return pool.apply(measure, (step,))


def measure(step: Step) -> Measured:
    """The step by all three instruments, its weights freshly drawn.

    First one example goes through the model cut to one layer, so that what the libraries load and keep at their first
    use is not counted as the step's.
    """
    _return_freed_memory()
    once, plain = step.one_layer(), Plain(step.precision == "bf16")
    take_step(*_made(once), once.make_batch(), plain)
    gc.collect()
    before = anonymous_bytes()
    model, optimizer = _made(step)
    batch = step.make_batch()
    take_step(model, optimizer, {key: value[:1] for key, value in batch.items()}, plain)
    fresh = reset_peak()
    take_step(model, optimizer, batch, plain)
    optimizer.zero_grad()
    peak = peak_anonymous_bytes()
    process = peak - before if fresh and peak is not None and before is not None else None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        recorder = record_step(model, optimizer, batch, plain)
    ledger = recorder.ledger(tuple(next(iter(batch.values())).shape))
    return Measured(ledger, recorder.start_bytes() + _peak(profile), process)


def _made(step: Step) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = step.build().train()
    return model, OPTIMIZERS[step.optimizer]([p for p in model.parameters() if p.requires_grad])


def _peak(profile: Any) -> int:
    """The most bytes that were allocated and not yet released, beside those held when the profile began."""
    live = most = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            most = max(most, live)
    return most


def _return_freed_memory() -> None:
    """Make glibc return freed blocks of 128 KiB and more at once, so that the process holds only what is in use."""
    import ctypes

    mallopt: Callable[[int, int], int] | None = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(MMAP_THRESHOLD, 2**17)
        mallopt(TRIM_THRESHOLD, 2**17)
