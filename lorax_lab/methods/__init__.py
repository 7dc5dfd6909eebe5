"""What may change: one file per method, looked up by name here and nowhere else.

A new method is one file with its settings and its `METHOD`, one line in `METHODS`, and one file in `conf/method/`.
"""

import math
from typing import Any

import torch
from torch import nn

from lorax_lab.config import RunConfig
from lorax_lab.config.checks import require_choice
from lorax_lab.errors import ConfigError
from lorax_lab.methods import full, lora, part, peft_bridge, subspace
from lorax_lab.methods.method import Method
from lorax_lab.methods.quantized import QuantizedLinear
from lorax_lab.models import head_parameters

METHODS: dict[str, Method[Any]] = {
    "full": full.METHOD,
    "lora": lora.METHOD,
    "head": part.HEAD,
    "embeddings": part.EMBEDDINGS,
    "norms_and_biases": part.NORMS_AND_BIASES,
    "subspace": subspace.METHOD,
    **peft_bridge.METHODS,
}
REFERENCE = next(name for name, method in METHODS.items() if method.is_reference)
"""The method that the others are compared with."""


def method_named(name: str) -> Method[Any]:
    """The method of that name; a ConfigError has the nearest names, or why the lab leaves out what PEFT has."""
    if reason := peft_bridge.refused(name):
        raise ConfigError(reason)
    require_choice("method", name, tuple(METHODS))
    return METHODS[name]


def make_trainable(model: nn.Module, names: list[str], config: RunConfig, generator: torch.Generator) -> None:
    """Attach the run's method to the matrices of these names, in place, its values drawn from `generator`; the head
    trains with it, unless `train.head=false`."""
    METHODS[config.method.name].attach(model, names, config.method, config.rank, generator)
    if not config.train.head:
        for parameter in head_parameters(model).values():
            parameter.requires_grad_(False)


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Numbers of parameters: `trainable` = `adapter` (what the method trains of the body) + `head`, and
    `total`, the adapter included."""
    head = sum(p.numel() for p in head_parameters(model).values() if p.requires_grad)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    total += sum(math.prod(module.shape) for module in model.modules() if isinstance(module, QuantizedLinear))
    return {"trainable": trainable, "adapter": trainable - head, "head": head, "total": total}
