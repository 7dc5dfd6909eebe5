"""LoRA: ΔW = scaling · B A beside frozen weights (Hu et al. 2021, https://arxiv.org/abs/2106.09685, §4.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.config import MethodConfig
from lorax_lab.config.checks import require, require_positive
from lorax_lab.errors import ConfigError
from lorax_lab.methods import peft_format
from lorax_lab.methods.lora_layer import LoRALinear, lora_layers, scaling_of, set_module
from lorax_lab.methods.method import Method, Shapes
from lorax_lab.methods.peft_files import WEIGHTS
from lorax_lab.models import head_modules, is_head, shape_of, shapes_of
from lorax_lab.spectra import Update


@dataclass
class LoraConfig(MethodConfig):
    """LoRA's settings beside the run's rank.

    Attributes:
        alpha: scaling = alpha / rank, or alpha / √rank with rslora. 16 is twice the default rank.
        dropout: share of the adapter's inputs that training drops.
        rslora: Kalajdzievski 2023, https://arxiv.org/abs/2312.03732.
    """

    name: str = "lora"
    alpha: float = 16.0
    dropout: float = 0.0
    rslora: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("method.alpha", self.alpha)
        ok = 0 <= self.dropout < 1
        require(ok, "method.dropout", self.dropout, "0 ≤ dropout < 1, for instance method.dropout=0.1")


def check(settings: LoraConfig, rank: int | None, shapes: Shapes) -> None:
    """The rank is at most the smaller side of every target.

    Raises:
        ConfigError: it is above one; the message names the highest rank that all of them allow.
    """
    assert rank is not None, "LoRA has a rank"
    smallest = min(shapes, key=lambda name: min(shapes[name]))
    highest = min(shapes[smallest])
    if rank > highest:
        raise ConfigError(f"rank={rank} is above min(out, in) = {highest} of {smallest}; type rank={highest}")


def attach(
    model: nn.Module, names: list[str], settings: LoraConfig, rank: int | None, generator: torch.Generator
) -> None:
    """Freeze the body, put a `LoRALinear` at each name, leave the head trainable.

    A is Kaiming-uniform with a = √5, that is U(−1/√in, 1/√in), as in the paper's own code; B is zero.

    Raises:
        ConfigError: as `check`.
    """
    targets = {name: model.get_submodule(name) for name in names}
    check(settings, rank, {name: shape_of(module) for name, module in targets.items()})
    assert rank is not None
    heads = head_modules(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_head(name, heads))
    scaling = scaling_of(settings.alpha, rank, settings.rslora)
    for name, module in targets.items():
        layer = LoRALinear(module, rank, scaling, settings.dropout)
        nn.init.kaiming_uniform_(layer.lora_A, a=math.sqrt(5), generator=generator)
        layer.train(model.training)
        set_module(model, name, layer)


def updates(model: nn.Module, base: dict[str, Tensor]) -> dict[str, Update]:
    """ΔW of each adapted matrix as `LowRank` factors; `base` is not needed."""
    return {name: layer.delta() for name, layer in lora_layers(model).items()}


def merge(model: nn.Module) -> None:
    """Merge every LoRA layer of the model."""
    for layer in lora_layers(model).values():
        layer.merge()


def unmerge(model: nn.Module) -> None:
    """Undo `merge`, to the bit."""
    for layer in lora_layers(model).values():
        layer.unmerge()


def detach(model: nn.Module) -> None:
    """Take the LoRA layers out again and leave the base as it was."""
    unmerge(model)
    for name, layer in lora_layers(model).items():
        set_module(model, name, layer.base)


def export(model: nn.Module, settings: LoraConfig, base_name: str) -> dict[str, dict[str, Any]]:
    """The adapter's two files in PEFT's format."""
    return peft_format.export(model, base_name, settings.alpha, settings.dropout, settings.rslora)


def saved_updates(folder: Path, model: nn.Module, base: dict[str, Tensor]) -> dict[str, Update]:
    """ΔW of the adapter saved in `folder`; `model` is a bare base.

    Raises:
        ConfigError: as `peft_format.read`.
    """
    return {**peft_format.read(folder, shapes_of(model)).factors}


METHOD = Method(
    settings=LoraConfig,
    weights=WEIGHTS,
    check=check,
    attach=attach,
    updates=updates,
    export=export,
    load=peft_format.load,
    saved_updates=saved_updates,
    merge=merge,
    unmerge=unmerge,
    update_rank="≤ r",
    most_rank=lambda settings, rank, shape: min(rank or 0, *shape),
    multiplies_only=True,
)
