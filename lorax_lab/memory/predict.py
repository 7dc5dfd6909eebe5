"""Predict one training step: the same step, on tensors that have a shape and no memory.

Under torch's fake tensors every operation of forward, backward and update computes only its shapes. The recorder that
measures a real step follows the storages here too. Nothing is derived by hand, so nothing can be forgotten: the
prediction is the measurement of a step that did not happen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.memory.ledger import Ledger, record_step

BLOCK, SMALLEST = 256, 4096
"""Values that share one scale in an 8-bit state, and the smallest tensor that has one (Dettmers et al. 2022)."""
STATIC = ("weights", "gradients", "optimizer_states")
"""The categories that do not grow with the batch; sharding divides them."""


@dataclass(frozen=True)
class Prediction:
    """A step that did not happen, in bytes.

    Args:
        ledger: as that of a real step.
        moments: (static, other) bytes at each moment that may be the peak; static are the weights, gradients and
            optimizer states, which can be sharded.
        gathered: what a sharded step holds whole in addition (see `gpus.sharded_peak`).
        trained: number of trained parameters.
        stored: bytes of the trained weights, which are kept after training.
    """

    ledger: Ledger
    moments: list[tuple[int, int]]
    gathered: int
    trained: int
    stored: int


def predict_step(
    build: Callable[[], nn.Module], batch: Callable[[], dict[str, Tensor]], optimizer: str, mixed: bool
) -> Prediction:
    """One training step of the model that `build` makes, on the batch that `batch` makes; both are called where tensors
    are fake. The optimizer is one of `OPTIMIZERS`; `mixed` means autocast to bf16."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        model = build().train()
        trained = [p for p in model.parameters() if p.requires_grad]
        inputs = batch()
        recorder = record_step(model, OPTIMIZERS[optimizer](trained), inputs, Plain(mixed))
        ledger = recorder.ledger(tuple(next(iter(inputs.values())).shape))
        stored = sum(p.numel() * p.element_size() for p in trained)
        return Prediction(ledger, recorder.moments(STATIC), _gathered(model), sum(p.numel() for p in trained), stored)


def _gathered(model: nn.Module) -> int:
    """Bytes of the weights outside the layers, and twice those of the largest layer."""
    layers = [layer for stack in model.modules() if isinstance(stack, nn.ModuleList) for layer in stack]
    sizes = [sum(p.numel() * p.element_size() for p in layer.parameters()) for layer in layers]
    inside = {id(p) for layer in layers for p in layer.parameters()}
    outside = sum(p.numel() * p.element_size() for p in model.parameters() if id(p) not in inside)
    return outside + 2 * max(sizes, default=0)


@dataclass(frozen=True)
class Plain:
    """What `measure_step` needs of an accelerator, for one device, with or without bf16 products."""

    mixed: bool

    def autocast(self) -> AbstractContextManager[Any]:
        """Products in bf16 if the step is mixed."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.mixed)

    def backward(self, loss: Tensor) -> None:
        """The backward pass."""
        loss.backward()


class States(torch.optim.Optimizer):
    """An optimizer that only holds its states and computes nothing. They appear at the first step. A real one updates
    each parameter in place by one kernel, and so makes no temporaries."""

    def __init__(self, parameters: Iterable[nn.Parameter], make: Callable[[Tensor], dict[str, Tensor]]) -> None:
        super().__init__(parameters, {})
        self.make = make

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make the states that are missing."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if not self.state[parameter]:
                    self.state[parameter] = self.make(parameter)


def _full_states(count: int, parameter: Tensor) -> dict[str, Tensor]:
    return {f"state{i}": torch.zeros_like(parameter, dtype=torch.float32) for i in range(count)}


def _block_states(count: int, parameter: Tensor) -> dict[str, Tensor]:
    """A byte for each value and an fp32 scale for each block of `BLOCK`; fp32 for tensors below `SMALLEST` values."""
    if parameter.numel() < SMALLEST:
        return _full_states(count, parameter)
    blocks = math.ceil(parameter.numel() / BLOCK)
    states = {f"state{i}": torch.zeros_like(parameter, dtype=torch.uint8) for i in range(count)}
    return states | {f"absmax{i}": parameter.new_zeros(blocks, dtype=torch.float32) for i in range(count)}


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "adamw": partial(torch.optim.AdamW, lr=0.0, fused=True),
    "sgd": partial(torch.optim.SGD, lr=0.0, momentum=0.9, fused=True),
    "adam8bit": partial(States, make=partial(_block_states, 2)),
    "lion": partial(States, make=partial(_full_states, 1)),
}
"""torch's own AdamW and SGD with momentum, whose states have the parameters' dtype; 8-bit AdamW and Lion as
bitsandbytes keeps them (but for its two tables of 256 values), with fp32 states for parameters of any dtype."""
