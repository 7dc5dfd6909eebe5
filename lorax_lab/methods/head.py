"""Nothing but the head: what a task can be solved with while the body stays as it was pretrained. ΔW is zero."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.config import MethodConfig
from lorax_lab.methods import full
from lorax_lab.methods.method import Method
from lorax_lab.models import head_modules, is_head
from lorax_lab.spectra import Update

WEIGHTS = "head.safetensors"


@dataclass
class HeadConfig(MethodConfig):
    """`target_modules` says which updates are measured; all are zero."""

    name: str = "head"


def attach(
    model: nn.Module, names: list[str], settings: HeadConfig, rank: int | None, generator: torch.Generator
) -> None:
    """Freeze the body, leave the head trainable. An output layer over a vocabulary is none: it is pretrained."""
    heads = head_modules(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_head(name, heads))


def updates(model: nn.Module, base: dict[str, Tensor]) -> dict[str, Update]:
    """ΔW of each matrix in `base`: zero. The model's own matrices may have been rounded since, for products in bf16."""
    return {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in base.items()}


def export(model: nn.Module, settings: HeadConfig, base_name: str) -> dict[str, dict[str, Any]]:
    """The file that holds the head's parameters."""
    heads = head_modules(model)
    return {WEIGHTS: {name: p.detach() for name, p in model.named_parameters() if is_head(name, heads)}}


def load(model: nn.Module, folder: Path) -> None:
    """Put the head that `export` saved in `folder` onto a bare base.

    Raises:
        ConfigError: the file is missing or damaged, or belongs to another model; the model is as it was.
    """
    heads = head_modules(model)
    own = {name: p for name, p in model.named_parameters() if is_head(name, heads)}
    tensors = full.read(folder / WEIGHTS, {name: p.shape for name, p in own.items()})
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def saved_updates(folder: Path, model: nn.Module, base: dict[str, Tensor]) -> dict[str, Update]:
    """As `updates`: no file is read."""
    return updates(model, base)


METHOD = Method(
    settings=HeadConfig,
    weights=WEIGHTS,
    attach=attach,
    updates=updates,
    export=export,
    load=load,
    saved_updates=saved_updates,
    update_rank="0",
    most_rank=lambda settings, rank, shape: 0,
    has_rank=False,
    adapts=False,
    multiplies_only=True,
)
