"""Frozen matrices in 4 bits, as bitsandbytes stores and multiplies NF4 (Dettmers et al. 2023, QLoRA,
https://arxiv.org/abs/2305.14314), for the memory of a step alone.

A matrix is kept as half a byte per weight and an fp32 scale per block of 64. Each product makes the whole matrix again
in the precision of its input, forward and backward, and drops it. Nothing is quantized here: the products are all zero,
so a step of these layers can be predicted, and nothing can be trained with them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorax_lab.methods.lora_layer import LoRALinear, set_module
from lorax_lab.models.matrices import is_read, shape_of

BLOCK = 64
"""Weights that share a scale, by the default of bitsandbytes; its scales are fp32 unless they are quantized as well."""


class _Product(torch.autograd.Function):
    """y = x Wᵀ + b, where the codes of W, and neither W nor x, are kept for ∂L/∂x = g W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, bias: Tensor | None, shape: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(codes)
        ctx.shape = shape
        return F.linear(x, codes.new_zeros(shape, dtype=x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (codes,) = ctx.saved_tensors
        return grad @ codes.new_zeros(ctx.shape, dtype=grad.dtype), None, None, None


class FourBitLinear(nn.Module):
    """Holds what NF4 holds of a frozen linear layer: codes, scales, and the bias as it was."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.shape = tuple(shape_of(layer))  # (out, in)
        count = self.shape[0] * self.shape[1]
        self.codes = nn.Parameter(torch.zeros(-(-count // 2), dtype=torch.uint8), requires_grad=False)
        self.scales = nn.Parameter(torch.zeros(-(-count // BLOCK)), requires_grad=False)
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """x (…, in) to (…, out)."""
        y: Tensor = _Product.apply(x, self.codes, self.bias, self.shape)
        return y


def hold_frozen_in_nf4(model: nn.Module, names: list[str]) -> None:
    """Put `FourBitLinear` in the place of the named matrices, or of the base of the LoRA layers there, in place.

    Args:
        names: of all matrices of the body; embeddings, norms and the output layer stay as they are.
    """
    for name in names:
        layer = model.get_submodule(name)
        if is_read(name):
            continue
        if isinstance(layer, LoRALinear):
            layer.base = FourBitLinear(layer.base)
        else:
            set_module(model, name, FourBitLinear(layer))
