"""A training step to predict: its settings and their checks, its model and its batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from lorax_lab.config import BF16_WEIGHTS
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.memory.architectures import ATTENTION, HEADS, Architecture, architecture, skeleton
from lorax_lab.memory.predict import OPTIMIZERS, Prediction, predict_step

if TYPE_CHECKING:
    from torch import Tensor, nn

PRECISIONS = {"fp32": torch.float32, "bf16": torch.float32, BF16_WEIGHTS: torch.bfloat16}
"""What the model's weights are stored in. `bf16` multiplies in bf16 over fp32 weights, and LoRA's frozen matrices are
in bf16, as `train.precision=bf16` has it; `bf16-true` has all in bf16 but what LoRA trains, which stays fp32."""


@dataclass(frozen=True)
class Step:
    """A training step: `rank` None is full fine-tuning, `sequence` is in tokens, None for images; `conf/memory.yaml`.

    Raises:
        ConfigError: a value that is not possible, with what is.
    """

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
    layers: int | None = None

    def __post_init__(self) -> None:
        targets = [self.target_modules] if isinstance(self.target_modules, str) else list(self.target_modules or ())
        object.__setattr__(self, "target_modules", tuple(targets))
        for key in ("rank", "batch", "sequence", "layers"):
            value = getattr(self, key)
            if value is not None and not 0 < value < 2**31:
                raise ConfigError(f"{key}={value} is not possible: a whole number above 0, for instance {key}=8")
        if self.precision == "bf16-mixed":
            raise ConfigError("precision=bf16-mixed is not possible: all entries call it bf16; type precision=bf16")
        choices: dict[str, Any] = {
            "optimizer": OPTIMIZERS,
            "precision": PRECISIONS,
            "attention": ATTENTION,
            "head": HEADS,
        }
        for key, known in choices.items():
            if getattr(self, key) not in known:
                value = getattr(self, key)
                raise ConfigError(f"{key}={value} is not possible; {suggest(str(value), list(known))}")

    @property
    def full(self) -> Step:
        """The same step of full fine-tuning."""
        return replace(self, rank=None)

    def one_layer(self) -> Step:
        """The same step of one example through the model cut to one layer."""
        return replace(self, layers=1, batch=1)

    def shape(self) -> Architecture:
        """The architecture, checked against the sequence.

        Raises:
            ConfigError: an unknown model; a sequence that its positions do not allow.
        """
        shape = _architecture(self.model, self.head, self.layers)
        if shape.kind == "image":
            if self.sequence is not None:
                raise ConfigError(f"sequence={self.sequence}: {self.model} reads images; type sequence=null")
        elif self.sequence is None:
            raise ConfigError(
                f"sequence=null: {self.model} reads text; type a number of tokens, for instance sequence=512"
            )
        elif shape.longest is not None and self.sequence > shape.longest:
            raise ConfigError(
                f"sequence={self.sequence} is above the {shape.longest} positions of {self.model}; "
                f"type sequence={shape.longest}"
            )
        return shape

    def build(self) -> nn.Module:
        """The model with its trainable part: without memory under fake tensors, else with freshly drawn weights.

        Raises:
            ConfigError: as `shape`; a rank above a matrix's smaller side; a target that matches nothing.
        """
        from lorax_lab.methods import METHODS
        from lorax_lab.methods.lora_layer import lora_layers
        from lorax_lab.models import head_modules, keep_frozen_in_bf16, select
        from lorax_lab.models.checkpointing import checkpoint_layers

        shape = self.shape()
        model = skeleton(shape, self.attention, PRECISIONS[self.precision])
        method = "full" if self.rank is None else "lora"
        settings = METHODS[method].settings(target_modules=list(self.target_modules))
        names = select(model, settings.target_modules)
        METHODS[method].attach(model, names, settings, self.rank, torch.Generator().manual_seed(0))
        if self.rank is not None:
            if shape.head == "lm":  # a pretrained head: frozen as all that is pretrained
                for name in head_modules(model):
                    model.get_submodule(name).requires_grad_(False)
            for layer in lora_layers(model).values():
                layer.lora_A.data, layer.lora_B.data = layer.lora_A.data.float(), layer.lora_B.data.float()
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
        return {
            "input_ids": tokens,
            "attention_mask": mask,
            "labels": tokens.clone() if shape.head == "lm" else labels,
        }

    def predict(self) -> Prediction:
        """What the step takes. No weight is made: the prediction takes seconds and a few megabytes for any model.

        Raises:
            ConfigError: as `build`.
        """
        return predict_step(self.build, self.make_batch, self.optimizer, self.precision == "bf16")


@lru_cache(maxsize=64)
def _architecture(name: str, head: str, layers: int | None) -> Architecture:
    return architecture(name, head, layers)
