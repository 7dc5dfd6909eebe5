"""Dropout by random bytes: eight hidden values for each number that is drawn, where torch draws one for each value.

The share that is hidden is a multiple of 1/256. The bytes come from torch's stream, as torch's own masks do, so that a
run that goes on from a checkpoint has the same ones. Attention's own dropout, inside the fused product, stays torch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

VALUES = 256
"""Of a byte."""


class _Hidden(torch.autograd.Function):
    """y = x · mask / share kept; of the mask a byte is kept for each value."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, hidden: int) -> Tensor:
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        mask = (words.view(torch.uint8)[: x.numel()] >= hidden).view(x.shape)
        ctx.save_for_backward(mask)
        ctx.scale = VALUES / (VALUES - hidden)
        return (x * mask).mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return (grad * mask).mul_(ctx.scale), None


class ByteDropout(nn.Dropout):
    """nn.Dropout on the CPU with masks of random bytes; `p` is rounded to 1/256, at least that."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not 0 < self.p < 1 or x.device.type != "cpu":
            return super().forward(x)
        y: Tensor = _Hidden.apply(x, min(max(round(self.p * VALUES), 1), VALUES - 1))
        return y


def use_byte_dropout(model: nn.Module) -> None:
    """Let the model's dropout layers draw bytes, in place. Only their class changes; subclasses stay as they are."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = ByteDropout
