"""Frozen matrices in 4 or 8 bits below LoRA (QLoRA, Dettmers et al. 2023, https://arxiv.org/abs/2305.14314), by
bitsandbytes, on its devices.

4 bits are NF4, with an fp32 scale for each block of 64 weights; 8 bits are integers with a scale for each row (Dettmers
et al. 2022, https://arxiv.org/abs/2208.07339). Each product makes the whole matrix again, in the precision of its
input, forward and backward, and drops it. Biases, embeddings and norms stay as they were.
"""

from __future__ import annotations

import logging
import math
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorax_lab.config.checks import require
from lorax_lab.models import delta_view, shape_of

if TYPE_CHECKING:
    from jaxtyping import Float

BITS = (4, 8, 32)
"""Of each weight of a frozen matrix; 32 leaves it as it was read."""
BLOCK = 64
"""Weights that share a scale in 4 bits."""


def check_installed(bits: int) -> None:
    """Refuse bits for which bitsandbytes is needed and missing: a ConfigError says what to type."""
    missing = "bitsandbytes is not installed; type pip install lorax_lab[quantized], or leave it out"
    require(bits == 32 or find_spec("bitsandbytes") is not None, "method.bits", bits, missing)


class QuantizedLinear(nn.Module):
    """y = W x + b for a frozen linear layer's W, rounded to 4 or 8 bits, and its bias as it was.

    Codes and scales are buffers that no checkpoint holds: the base is read and rounded anew.
    """

    codes: Tensor
    scales: Tensor

    def __init__(self, layer: nn.Module, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.shape = shape_of(layer)
        self.bias: Any = layer.bias
        codes, scales = self.rounded(delta_view(layer).detach())
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", scales, persistent=False)

    def rounded(self, weight: Float[Tensor, "out in"]) -> tuple[Tensor, Tensor]:
        """The codes and the fp32 scales of a matrix: uint8, two weights each, or int8 (out, in)."""
        functional = _bitsandbytes()
        if self.bits == 4:
            codes, state = functional.quantize_4bit(weight.contiguous(), blocksize=BLOCK, quant_type="nf4")
            return codes, state.absmax
        codes, scales, _ = functional.int8_vectorwise_quant(weight.contiguous())
        return codes, scales

    def dense(self, dtype: torch.dtype) -> Float[Tensor, "out in"]:
        """The rounded W, in memory of its own."""
        functional = _bitsandbytes()
        if self.bits == 8:
            wide: Tensor = functional.int8_vectorwise_dequant(self.codes, self.scales)
            return wide.to(dtype)
        # by its rows, bitsandbytes 0.50 errs on a CPU where a block spans two
        flat = torch.Size([math.prod(self.shape)])
        state = functional.QuantState(self.scales, flat, dtype=dtype, blocksize=BLOCK, quant_type="nf4")
        return functional.dequantize_4bit(self.codes, state).view(self.shape)

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The rounded W in fp32, for models that read it; what is written into it is lost."""
        return self.dense(torch.float32)

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        y: Tensor = _Product.apply(x, self)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class _Product(torch.autograd.Function):
    """y = x Wᵀ, where neither W nor x is kept for ∂L/∂x = g W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantizedLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.dense(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad @ ctx.layer.dense(grad.dtype), None


def _bitsandbytes() -> Any:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # on a CPU it warns of a kernel that is not used here
    from bitsandbytes import functional

    return functional
