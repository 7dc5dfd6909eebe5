"""Measure one training step: every tensor storage it makes, when it dies, and what it was for.

A dispatch mode sees each operation's results and follows their storages from birth to death. A storage is labelled
when the step is over, since only then is its use known. The peak is the moment with the most live bytes.

| category | which storages |
|---|---|
| weights | parameters and buffers, trained or frozen |
| gradients | what ends up as a parameter's `.grad` |
| optimizer_states | what ends up in the optimizer's state |
| activations | made in the forward pass and alive when the backward pass begins; the batch |
| temporaries | everything else |

The logical bytes of storages are counted. Scratch that a kernel takes and returns inside one operation is not seen,
nor is the allocator's rounding.
"""

from __future__ import annotations

import resource
import sys
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

CATEGORIES = ("weights", "gradients", "optimizer_states", "activations", "temporaries")


@dataclass
class Ledger:
    """Bytes at the peak of a step, in all and by category, with the phase of the peak and the shape of the batch."""

    peak_bytes: int
    by_category: dict[str, int]
    phase: str
    batch_shape: tuple[int, ...]


@dataclass
class _Storage:
    bytes: int
    phase: str
    category: str | None = None
    born: int = 0
    died: int | None = None


@dataclass
class Recorder(TorchDispatchMode):
    """Follows storages; time is the number of births and deaths so far."""

    phase: str = "start"
    storages: list[_Storage] = field(default_factory=list)
    alive: dict[int, tuple[Any, _Storage]] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    time: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.see(item for item in tree_iter(result) if isinstance(item, Tensor))
        return result

    def enter(self, phase: str) -> None:
        self.phase = phase
        self.starts[phase] = self.time

    def see(self, tensors: Iterable[Tensor], category: str | None = None) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.alive:
                self.time += 1
                entry = _Storage(storage.nbytes(), self.phase, born=self.time)
                self.storages.append(entry)
                self.alive[key] = (weakref.ref(storage, partial(self.bury, key)), entry)
            if category is not None:
                self.alive[key][1].category = category

    def bury(self, key: int, _: object) -> None:
        _, entry = self.alive.pop(key)
        self.time += 1
        entry.died = self.time

    def category_of(self, entry: _Storage) -> str:
        if entry.category:
            return entry.category
        outlives = entry.died is None or entry.died > self.starts["backward"]
        return "activations" if entry.phase == "forward" and outlives else "temporaries"

    def peak(self) -> tuple[int, int]:
        """The most live bytes, and the moment they were reached."""
        events = [(e.born, e.bytes) for e in self.storages] + [(e.died, -e.bytes) for e in self.storages if e.died]
        live = peak = moment = 0
        for time, size in sorted(events):
            live += size
            if live > peak:
                peak, moment = live, time
        return peak, moment

    def ledger(self, batch_shape: tuple[int, ...]) -> Ledger:
        """The live bytes by category at the peak."""
        peak, moment = self.peak()
        by_category = dict.fromkeys(CATEGORIES, 0)
        for entry in self.storages:
            if entry.born <= moment and (entry.died is None or entry.died > moment):
                by_category[self.category_of(entry)] += entry.bytes
        begun = [(start, phase) for phase, start in self.starts.items() if start < moment]
        return Ledger(peak, by_category, max(begun)[1] if begun else "start", batch_shape)

    def moments(self, categories: tuple[str, ...]) -> list[tuple[int, int]]:
        """(bytes in `categories`, other bytes) at each moment of the step that no other moment exceeds in both."""
        changes = []
        for entry in self.storages:
            counted = self.category_of(entry) in categories
            change = (entry.bytes, 0) if counted else (0, entry.bytes)
            changes += [(entry.born, change)]
            changes += [(entry.died, (-change[0], -change[1]))] if entry.died else []
        inside = outside = 0
        seen = set()
        for _, (more_inside, more_outside) in sorted(changes):
            inside, outside = inside + more_inside, outside + more_outside
            seen.add((inside, outside))
        kept: list[tuple[int, int]] = []
        for inside, outside in sorted(seen, reverse=True):
            if not kept or outside > kept[-1][1]:
                kept.append((inside, outside))
        return kept


def _own_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    loss: Tensor = model(**batch).loss
    return loss


def measure_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    accelerator: Any,
    loss_of: Callable[[nn.Module, dict[str, Tensor]], Tensor] = _own_loss,
) -> Ledger:
    """The ledger of one whole training step, the second: Adam's states appear at the end of the first.

    The learning rate should be 0, so that the weights keep their bits. `model` is in the mode it will train in.
    `loss_of` gives the loss of the model on the batch; without it, the model computes its own.
    """
    return record_step(model, optimizer, batch, accelerator, loss_of).ledger(tuple(next(iter(batch.values())).shape))


def record_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    accelerator: Any,
    loss_of: Callable[[nn.Module, dict[str, Tensor]], Tensor] = _own_loss,
) -> Recorder:
    """Every storage of the step that `measure_step` measures. A step before it is taken only if the optimizer has no
    states yet."""
    if not optimizer.state:
        take_step(model, optimizer, batch, accelerator, loss_of=loss_of)
    recorder = Recorder()
    with recorder:
        take_step(model, optimizer, batch, accelerator, recorder, loss_of)
    optimizer.zero_grad()
    return recorder


def peak_of(call: Callable[[], object], held: Iterable[Tensor]) -> int:
    """The most live bytes at one moment of storages that `call` makes; those of `held` are not counted."""
    recorder = Recorder()
    with recorder:
        recorder.see(held, "weights")
        call()
    before = sum(entry.bytes for entry in recorder.storages if entry.category == "weights")
    return recorder.peak()[0] - before


def take_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    accelerator: Any,
    recorder: Recorder | None = None,
    loss_of: Callable[[nn.Module, dict[str, Tensor]], Tensor] = _own_loss,
) -> None:
    """One training step; the recorder, if given, follows it."""
    optimizer.zero_grad()
    if recorder:
        recorder.see([*model.parameters(), *model.buffers()], "weights")
        recorder.see(_state_tensors(optimizer), "optimizer_states")
        recorder.see(batch.values(), "activations")
        recorder.enter("forward")
    with accelerator.autocast():
        loss = loss_of(model, batch)
    if recorder:
        recorder.enter("backward")
    accelerator.backward(loss)
    del loss
    if recorder:
        recorder.see([p.grad for p in model.parameters() if p.grad is not None], "gradients")
        recorder.enter("optimizer")
    optimizer.step()
    if recorder:
        recorder.see(_state_tensors(optimizer), "optimizer_states")


def _state_tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    states = optimizer.state.values()
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]


def reset_peak() -> bool:
    """Reset the device's peak and, where the system allows it (Linux), the resident one; returns whether the resident
    peak was reset."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_resident_bytes() -> int:
    """The largest resident set since the start or the last `reset_peak`, in bytes."""
    try:
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def peak_device_bytes() -> int | None:
    """The most bytes of tensors on the CUDA device since the last `reset_peak`; None without one."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
