"""What a step need not hold: frozen matrices in fp32, and activations that can be computed again.

Autocast makes a bf16 copy of a frozen weight at each call, and keeps it until the backward pass has used it. Stored in
bf16 once, the products have the same bits; the copies and half of the weights' bytes are saved.

A layer that is checkpointed keeps its input only, and the backward pass computes the rest again (Chen et al. 2016,
https://arxiv.org/abs/1604.06174). It takes less memory and one more forward pass; the numbers are the same.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn

from lorax_lab.models.kernel import OneDnnLinear
from lorax_lab.models.matrices import head_modules, is_head, is_read


def keep_frozen_in_bf16(model: nn.Module) -> None:
    """Round the frozen weights and biases of the model's linear layers to bf16, in place.

    fp32 stays what trains, what two layers share (an output layer and the embedding), what the model reads itself, the
    head, which is saved beside an adapter, and all that is no plain linear layer. GPT-2's `Conv1D` is one; Falcon's own
    layer, which adds its bias apart, is not.
    """
    layers = [module.parameters(recurse=False) for module in model.modules()]
    uses = Counter(id(parameter) for parameters in layers for parameter in parameters)
    heads = head_modules(model)
    for name, module in model.named_modules():
        plain = type(module) in (nn.Linear, OneDnnLinear) or type(module).__name__ == "Conv1D"
        if not plain or is_read(name.removesuffix(".base")) or is_head(f"{name}.", heads):
            continue
        parameters = list(module.parameters(recurse=False))
        if all(p.dtype == torch.float32 and not p.requires_grad and uses[id(p)] == 1 for p in parameters):
            for parameter in parameters:
                parameter.data = parameter.data.to(torch.bfloat16)


def can_checkpoint(model: nn.Module) -> bool:
    """Whether transformers knows the model's layers for it."""
    return bool(getattr(model, "supports_gradient_checkpointing", False))


def checkpoint_layers(model: Any) -> None:
    """Let every layer of the model keep its input only, in training."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def shrink_step(model: nn.Module, frozen_in_bf16: bool, checkpointing: bool) -> None:
    """Let a step of the model hold less, in place, after what trains was chosen.

    Args:
        frozen_in_bf16: for products in bf16, where the method does nothing but multiply by the frozen weights.
        checkpointing: layers keep their input only.
    """
    if frozen_in_bf16:
        keep_frozen_in_bf16(model)
    if checkpointing:
        checkpoint_layers(model)
