"""What may change: one entry per method, looked up by name. A new method is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.config import MethodConfig
from lorax_lab.methods import full, lora, peft_format
from lorax_lab.models import head_modules, is_head
from lorax_lab.spectra import Update


@dataclass(frozen=True)
class Method:
    """How a method makes its part trainable, reads its updates, and is saved.

    attach(model, names, config, rank, generator) changes the model in place.
    updates(model, base) gives {matrix name: ΔW}, each `LowRank` or dense, always (out, in).
    export(model, config, base_name) gives {file name: tensors, or plain values for a .json}.
    """

    attach: Callable[[nn.Module, list[str], MethodConfig, int | None, torch.Generator], None]
    updates: Callable[[nn.Module, dict[str, Tensor]], dict[str, Update]]
    export: Callable[[nn.Module, MethodConfig, str], dict[str, dict[str, Any]]]


METHODS = {
    "full": Method(full.attach, full.updates, full.export),
    "lora": Method(lora.attach, lora.updates, peft_format.export),
}


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Numbers of parameters: `trainable` = `adapter` (what the method trains of the body) + `head`, and
    `total`, the adapter included."""
    heads = head_modules(model)
    trainable = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    head = sum(n for name, n in trainable.items() if is_head(name, heads))
    total = sum(p.numel() for p in model.parameters())
    count = sum(trainable.values())
    return {"trainable": count, "adapter": count - head, "head": head, "total": total}
