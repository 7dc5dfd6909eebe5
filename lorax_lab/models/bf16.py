"""A frozen base whose matrices are kept in bf16, for products that are in bf16 anyway.

Autocast makes a bf16 copy of a frozen weight at each call, and keeps it until the backward pass has used it. Stored in
bf16 once, the products have the same bits; the copies and half of the weights' bytes are saved.
"""

from __future__ import annotations

from collections import Counter

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
    uses = Counter(id(own) for module in model.modules() for own in module._parameters.values() if own is not None)
    heads = head_modules(model)
    for name, module in model.named_modules():
        plain = type(module) in (nn.Linear, OneDnnLinear) or type(module).__name__ == "Conv1D"
        if not plain or is_read(name.removesuffix(".base")) or is_head(f"{name}.", heads):
            continue
        own = list(module.parameters(recurse=False))
        if all(p.dtype == torch.float32 and not p.requires_grad and uses[id(p)] == 1 for p in own):
            for parameter in own:
                parameter.data = parameter.data.to(torch.bfloat16)
