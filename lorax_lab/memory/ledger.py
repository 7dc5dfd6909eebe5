"""Measure one training step: every tensor storage it makes, when it dies, and what it was for.

A dispatch mode follows the storages of each operation's results. They are labelled when the step is over, since only
then is their use known. The peak is the moment with the most live bytes.

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

import math
import resource
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
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
    category: str | None
    born: int
    died: float = math.inf


@dataclass
class Recorder(TorchDispatchMode):
    """Follows storages; time is the number of births and deaths so far."""

    phase: str = "start"
    storages: list[_Storage] = field(default_factory=list)
    alive: dict[int, tuple[Any, _Storage]] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    time: int = 0
    batch_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.see(item for item in tree_iter(result) if isinstance(item, Tensor))
        return result

    def enter(self, phase: str) -> None:
        """Begin a phase of the step."""
        self.phase = phase
        self.starts[phase] = self.time

    def see(self, tensors: Iterable[Tensor], category: str | None = None) -> None:
        """Follow these tensors' storages from now on; the category, if given, is what they are for."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.alive:
                self.time += 1
                entry = _Storage(storage.nbytes(), self.phase, category, self.time)
                self.storages.append(entry)
                self.alive[key] = (weakref.ref(storage, partial(self._bury, key)), entry)
            if category is not None:
                self.alive[key][1].category = category

    def _bury(self, key: int, _: object) -> None:
        _, entry = self.alive.pop(key)
        self.time += 1
        entry.died = self.time

    def _category_of(self, entry: _Storage) -> str:
        if entry.category:
            return entry.category
        outlives = entry.phase == "forward" and entry.died > self.starts["backward"]
        return "activations" if outlives else "temporaries"

    def live(self) -> Iterator[tuple[float, dict[str, int]]]:
        """Each moment, and the live bytes by category from then on."""
        changes: list[tuple[float, _Storage, int]] = [(entry.born, entry, entry.bytes) for entry in self.storages]
        changes += [(entry.died, entry, -entry.bytes) for entry in self.storages if entry.died < math.inf]
        by_category = dict.fromkeys(CATEGORIES, 0)
        for moment, entry, change in sorted(changes, key=lambda item: item[0]):
            by_category[self._category_of(entry)] += change
            yield moment, dict(by_category)

    def ledger(self) -> Ledger:
        """The live bytes by category at the peak."""
        moment, by_category = max(self.live(), key=lambda item: sum(item[1].values()))
        begun = [(start, phase) for phase, start in self.starts.items() if start < moment]
        return Ledger(sum(by_category.values()), by_category, max(begun)[1] if begun else "start", self.batch_shape)

    def moments(self, categories: tuple[str, ...]) -> list[tuple[int, int]]:
        """(bytes in `categories`, other bytes) at each moment of the step that no other moment exceeds in both."""
        points = set()
        for _, by_category in self.live():
            inside = sum(by_category[name] for name in categories)
            points.add((inside, sum(by_category.values()) - inside))
        highest: list[tuple[int, int]] = []
        for inside, outside in sorted(points, reverse=True):
            if not highest or outside > highest[-1][1]:
                highest.append((inside, outside))
        return highest


def record_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    autocast: Callable[[], AbstractContextManager[Any]],
    loss_of: Callable[[nn.Module, dict[str, Tensor]], Tensor] = lambda model, batch: model(**batch).loss,
) -> Recorder:
    """Every storage of one whole training step, the second: Adam's states appear at the end of the first, which is
    taken only if the optimizer has no states yet. At a learning rate of 0 the weights keep their bits."""

    def take_step(recorder: Recorder) -> None:
        optimizer.zero_grad()
        recorder.see([*model.parameters(), *model.buffers()], "weights")
        recorder.see(_state_tensors(optimizer), "optimizer_states")
        recorder.see(batch.values(), "activations")
        recorder.enter("forward")
        with autocast():
            loss = loss_of(model, batch)
        recorder.enter("backward")
        loss.backward()  # not scaled, as in fp16: an overflow would leave NaN in the weights
        del loss
        recorder.see([p.grad for p in model.parameters() if p.grad is not None], "gradients")
        recorder.enter("optimizer")
        optimizer.step()
        recorder.see(_state_tensors(optimizer), "optimizer_states")

    if not optimizer.state:
        take_step(Recorder())
    recorder = Recorder(batch_shape=tuple(next(iter(batch.values())).shape))
    with recorder:
        take_step(recorder)
    optimizer.zero_grad()
    return recorder


def _state_tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    states = optimizer.state.values()
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]


def uncategorized(peak: int, batch_shape: tuple[int, ...]) -> Ledger:
    """The peak, in bytes, of a run whose storages come and go unseen, such as those that FSDP gathers."""
    return Ledger(peak, dict.fromkeys(CATEGORIES, 0) | {"temporaries": peak}, "run", batch_shape)


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
