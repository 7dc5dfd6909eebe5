"""Predict one training step: the measurement of the same step, on tensors that have a shape and no memory.

Under torch's fake tensors every operation computes only its shapes, and the recorder of a real step follows them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.config import BF16_WEIGHTS
from lorax_lab.config.checks import require
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.memory.architectures import ATTENTION, HEADS, Architecture, architecture, skeleton
from lorax_lab.memory.ledger import Ledger, record_step
from lorax_lab.memory.nf4 import hold_frozen_in_nf4
from lorax_lab.methods import METHODS
from lorax_lab.methods.lora_layer import lora_layers
from lorax_lab.models import adaptable, checkpoint_layers, head_modules, keep_frozen_in_bf16, select
from lorax_lab.train import OPTIMIZERS, make_optimizer

STATIC = ("weights", "gradients", "optimizer_states")
"""The categories that do not grow with the batch; sharding divides them."""


@dataclass(frozen=True)
class Prediction:
    """A step that did not happen, in bytes."""

    ledger: Ledger  # as that of a real step
    moments: list[tuple[int, int]]  # (`STATIC` categories, others) at each moment that may be the peak
    gathered: int  # what a sharded step holds whole in addition (see `sharded_peak`)
    trained: int  # number of trained parameters
    stored: int  # bytes of the trained weights, which are kept after training


def _gathered(model: nn.Module) -> int:
    """Bytes of the weights outside the layers, and twice those of the largest layer; 4-bit weights are buffers."""

    def held(module: nn.Module) -> list[Tensor]:
        return [*module.parameters(), *module.buffers()]

    layers = [layer for stack in model.modules() if isinstance(stack, nn.ModuleList) for layer in stack]
    inside = {id(tensor) for layer in layers for tensor in held(layer)}
    outside = sum(tensor.nbytes for tensor in held(model) if id(tensor) not in inside)
    return outside + 2 * max((sum(tensor.nbytes for tensor in held(layer)) for layer in layers), default=0)


NF4 = "nf4"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.float32, BF16_WEIGHTS: torch.bfloat16, NF4: torch.bfloat16}
"""What the model's weights are stored in. `bf16` multiplies in bf16 over fp32 weights, and LoRA's frozen matrices are
in bf16, as `train.precision=bf16` has it; `bf16-true` has all in bf16 but what LoRA trains, which stays fp32. `nf4` is
`bf16-true` with the frozen matrices of the body in 4 bits (`nf4.py`); full fine-tuning, which cannot train 4 bits, is
then that of `bf16-true`."""
CHOICES: dict[str, Collection[Any]] = {
    "optimizer": OPTIMIZERS, "precision": PRECISIONS, "attention": ATTENTION, "head": HEADS,
    "checkpointing": (True, False),
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A training step: `rank` None is full fine-tuning, `sequence` is in tokens, None for images; `conf/memory.yaml`.
    A ConfigError names a value that is not possible, with what is."""

    model: str
    rank: int | None
    batch: int
    sequence: int | None
    optimizer: str
    precision: str
    attention: str
    checkpointing: bool
    head: str
    target_modules: Any

    def __post_init__(self) -> None:
        targets = [self.target_modules] if isinstance(self.target_modules, str) else list(self.target_modules or ())
        object.__setattr__(self, "target_modules", tuple(targets))
        for key in ("rank", "batch", "sequence"):
            value = getattr(self, key)
            is_possible = key != "batch" if value is None else isinstance(value, int) and 0 < value < 2**31
            typed = "null" if value is None else value
            require(is_possible, key, typed, f"a whole number above 0, for instance {key}=8")
        for key, allowed in CHOICES.items():
            value = getattr(self, key)
            require(value in allowed, key, value, suggest(str(value), list(map(str, allowed))))

    @property
    def full(self) -> Step:
        """The same step of full fine-tuning."""
        return replace(self, rank=None)

    def shape(self) -> Architecture:
        """The architecture; a ConfigError names an unknown model, or a sequence that its positions do not allow."""
        shape = architecture(self.model, self.head)
        if shape.kind == "image":
            if self.sequence is not None:
                raise ConfigError(f"sequence={self.sequence}: {self.model} reads images; type sequence=null")
        elif self.sequence is None:
            raise ConfigError(f"sequence=null: {self.model} reads text; type a number of tokens, as in sequence=512")
        elif shape.longest is not None and self.sequence > shape.longest:
            positions = f"the {shape.longest} positions of {self.model}"
            raise ConfigError(f"sequence={self.sequence} is above {positions}; type sequence={shape.longest}")
        return shape

    def build(self) -> nn.Module:
        """The model with its trainable part: without memory under fake tensors, else with freshly drawn weights.

        Raises:
            ConfigError: as `shape`; a rank above a matrix's smaller side; a target that matches nothing.
        """
        shape = self.shape()
        model = skeleton(shape, self.attention, PRECISIONS[self.precision])
        method = "full" if self.rank is None else "lora"
        settings = METHODS[method].settings(target_modules=list(self.target_modules))
        if not (body := list(adaptable(model))):
            raise ConfigError(f"model={self.model} has no linear layer, so nothing of it is adapted")
        names = select(model, settings.target_modules)
        METHODS[method].attach(model, names, settings, self.rank, torch.Generator().manual_seed(0))
        if self.rank is not None:
            if shape.head == "lm":  # a pretrained head: frozen as all that is pretrained
                for name in head_modules(model):
                    model.get_submodule(name).requires_grad_(False)
            for layer in lora_layers(model).values():
                layer.lora_A.data, layer.lora_B.data = layer.lora_A.data.float(), layer.lora_B.data.float()
            if self.precision == NF4:
                hold_frozen_in_nf4(model, body)
        if self.precision == "bf16" and METHODS[method].multiplies_only:
            keep_frozen_in_bf16(model)
        if self.checkpointing:
            checkpoint_layers(model)
        return model

    def make_batch(self) -> dict[str, Tensor]:
        """A batch of random content. The last row is padded to half its length: no model can ignore the mask."""
        shape, draw = self.shape(), torch.Generator().manual_seed(0)
        labels = torch.zeros(self.batch, dtype=torch.long)
        if shape.kind == "image":
            size = shape.config.image_size
            height, width = size if isinstance(size, list | tuple) else (size, size)
            pixels = torch.randn(self.batch, shape.config.num_channels, height, width, generator=draw)
            return {"pixel_values": pixels.to(PRECISIONS[self.precision]), "labels": labels}
        assert self.sequence is not None
        tokens = torch.randint(2, shape.config.vocab_size, (self.batch, self.sequence), generator=draw)
        mask = torch.ones_like(tokens)
        mask[-1, (self.sequence + 1) // 2 :] = 0
        labels = tokens.clone() if shape.head == "lm" else labels
        return {"input_ids": tokens, "attention_mask": mask, "labels": labels}

    def autocast(self) -> torch.autocast:
        """The context of a forward pass: products are in bf16 if the step is mixed."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16")

    def predict(self) -> Prediction:
        """What the step takes. No weight is made: it takes seconds and a few megabytes for any model."""
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode(allow_non_fake_inputs=True):
            model, batch = self.build().train(), self.make_batch()
            trained = [p for p in model.parameters() if p.requires_grad]
            optimizer = make_optimizer(model, self.optimizer, 0.0, 0.0)
            recorder = record_step(model, optimizer, batch, self.autocast)
            ledger = recorder.ledger()
            count, stored = sum(p.numel() for p in trained), sum(p.nbytes for p in trained)
            return Prediction(ledger, recorder.moments(STATIC), _gathered(model), count, stored)


GIB = 2**30
GPU_SIZES = (24, 48, 80, 141)
"""GiB of memory of common GPUs; each reports this size within 1 %."""
RESERVED = GIB
"""Bytes of each GPU that the driver, its libraries and the gaps between blocks take: a round figure."""
MOST = 4096


def sharded_peak(prediction: Prediction, gpus: int) -> int:
    """Bytes at the peak on each of `gpus` GPUs; each GPU has its own batch.

    Weights, gradients and optimizer states are divided among them (ZeRO stage 3, Rajbhandari et al. 2020), activations
    and temporaries are not. A layer is whole again while it is used, and the next one is already being fetched.
    Embeddings and head, which lie outside the layers, stay whole.
    """
    if gpus == 1:
        return prediction.ledger.peak_bytes
    return max(-(-static // gpus) + rest for static, rest in prediction.moments) + prediction.gathered


def gpus_needed(prediction: Prediction, size: int) -> int | None:
    """The fewest GPUs of `size` GiB that hold the step; None where what each must hold whole is too large already."""
    room = size * GIB - RESERVED
    if sharded_peak(prediction, 1) <= room:
        return 1
    sharded = range(2, MOST + 1)  # the peak falls with the number of GPUs
    place = bisect_left(sharded, True, key=lambda gpus: sharded_peak(prediction, gpus) <= room)
    return sharded[place] if place < len(sharded) else None
