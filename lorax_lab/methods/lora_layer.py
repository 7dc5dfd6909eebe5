"""The layer that adds a low-rank update to a frozen linear layer; and merging, in one place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorax_lab.errors import ConfigError
from lorax_lab.methods.quantized import QuantizedLinear
from lorax_lab.models import delta_view, kernel, out_in, shape_of
from lorax_lab.spectra import LowRank

if TYPE_CHECKING:
    from jaxtyping import Float


def add_low_rank(
    y: Float[Tensor, "tokens out"],
    x: Float[Tensor, "tokens in"],
    a: Float[Tensor, "rank in"],
    b: Float[Tensor, "out rank"],
    scaling: float,
) -> Float[Tensor, "tokens rank"]:
    """y += scaling · (x Aᵀ) Bᵀ in place; returns x Aᵀ."""
    hidden = x @ a.t()
    y.addmm_(hidden, b.t(), alpha=scaling)
    return hidden


class _Fused(torch.autograd.Function):
    """y = x W0ᵀ + b + s (x Aᵀ) Bᵀ for a frozen W0, the low-rank part added in place in both directions.

    With g = ∂L/∂y and h = x Aᵀ: ∂L/∂b = Σ g, ∂L/∂B = s gᵀ h, ∂L/∂A = s (g B)ᵀ x, ∂L/∂x = g W0 + s (g B) A. It saves
    one pass over the outputs forward and one over the inputs backward. All products are in `dtype`: x is cast once for
    W0 and A.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float,
        dtype: torch.dtype, onednn: bool,
    ) -> Tensor:  # fmt: skip
        x, weight, a, b = (tensor.to(dtype) for tensor in (x, weight, a, b))  # autocast does it to a bias
        flat = x.flatten(0, -2)  # (tokens, in)
        # y is no view of another tensor (F.linear's is): some models add to a layer's output in place
        if onednn:
            y = kernel.own_product(x, weight, bias)
        else:
            y = flat @ weight.t() if bias is None else torch.addmm(bias, flat, weight.t())
            y.resize_(*x.shape[:-1], len(weight))
        hidden = add_low_rank(y.view(-1, len(weight)), flat, a, b, scaling)
        ctx.save_for_backward(flat, weight, a, b, hidden)
        ctx.scaling, ctx.shape, ctx.onednn = scaling, x.shape, onednn
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None, Tensor, Tensor, None, None, None]:
        flat, weight, a, b, hidden = ctx.saved_tensors
        grad = grad.flatten(0, -2)  # (tokens, out)
        grad_hidden = (grad @ b).mul_(ctx.scaling)
        grad_b = (grad.t() @ hidden).mul_(ctx.scaling)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = kernel.product(grad.contiguous(), weight.t()) if ctx.onednn else grad @ weight
            grad_x = grad_x.addmm_(grad_hidden, a).view(ctx.shape)
        grad_bias = grad.sum(0) if ctx.needs_input_grad[2] else None
        return grad_x, None, grad_bias, grad_hidden.t() @ flat, grad_b, None, None, None


class LoRALinear(nn.Module):
    """y = W0 x + b + scaling · B A dropout(x), with W0 frozen; b trains where it did.

    At the start B = 0, so the output is the base's to the bit. `lora_A` is (rank, in), `lora_B` (out, rank).
    """

    def __init__(self, base: nn.Module, rank: int, scaling: float, dropout: float = 0.0) -> None:
        super().__init__()
        weight = delta_view(base)
        self.shape = shape_of(base)
        self.base = base
        for name, parameter in base.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name == "bias")
        self.scaling = scaling
        self.dropout = dropout
        self.lora_A = nn.Parameter(weight.new_zeros(rank, weight.shape[1]))
        self.lora_B = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        self.base_bits: Tensor | None = None

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        if self.merged:
            return self.base(x)
        if (self.dropout and self.training) or isinstance(self.base, QuantizedLinear):
            hidden = F.linear(F.dropout(x, self.dropout, self.training), self.lora_A.to(x.dtype)) * self.scaling
            return self.base(x) + F.linear(hidden, self.lora_B.to(x.dtype))
        weight, bias = self.base_weight, self.bias
        onednn = isinstance(self.base, kernel.OneDnnLinear) and kernel.applies(x, weight, bias)
        autocast = torch.is_autocast_enabled(x.device.type)
        dtype = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
        return _Fused.apply(x, weight, bias, self.lora_A, self.lora_B, self.scaling, dtype, onednn)

    @property
    def weight(self) -> Tensor:
        """W0 + ΔW, stored the way the base stores W0, with the gradient of ΔW. Some models read the weight of a layer,
        or multiply by it, in place of calling the layer: T5 its type, Mamba `dt_proj`'s values. Dropout has no part in
        it."""
        stored = out_in(self.base, self.base_weight)  # turned twice is as it is stored
        if self.merged:
            return stored
        return stored + out_in(self.base, self.scaling * (self.lora_B @ self.lora_A)).to(stored.dtype)

    @property
    def bias(self) -> Tensor | None:
        """The base's bias."""
        bias = self.base.bias
        assert bias is None or isinstance(bias, Tensor)
        return bias

    @property
    def base_weight(self) -> Float[Tensor, "out in"]:
        """W0, or W0 + ΔW where it is merged; a view of what the base stores."""
        return delta_view(self.base)

    @property
    def merged(self) -> bool:
        """Whether W0 + ΔW now stands in the base's weight."""
        return self.base_bits is not None

    def delta(self) -> LowRank:
        """ΔW as its factors, detached, on the CPU."""
        return LowRank(self.lora_B.detach().cpu(), self.lora_A.detach().cpu(), self.scaling)

    @torch.no_grad()
    def merge(self) -> None:
        """Write W0 + ΔW into the base's weight; a second merge changes nothing. A ConfigError where W0 is rounded."""
        if self.merged:
            return
        if isinstance(self.base, QuantizedLinear):
            fp32 = "load the adapter on the base in fp32, and merge it there"
            raise ConfigError(f"a base in {self.base.bits} bits takes no merge, which would be rounded again; {fp32}")
        self.base_bits = self.base_weight.clone()
        factors = LowRank(self.lora_B.detach(), self.lora_A.detach(), self.scaling)
        self.base_weight.copy_(merged_weight(self.base_bits, factors))

    @torch.no_grad()
    def unmerge(self) -> None:
        """Put W0 back, to the bit: a copy of it was kept, and nothing is subtracted."""
        if self.base_bits is not None:
            self.base_weight.copy_(self.base_bits)
            self.base_bits = None


def merged_weight(base_weight: Float[Tensor, "out in"], update: LowRank) -> Float[Tensor, "out in"]:
    """W0 + ΔW in memory of its own and in W0's dtype; W0 is only read.

    >>> merged_weight(torch.eye(2), LowRank(torch.ones(2, 1), torch.ones(1, 2), scaling=3.0)).tolist()
    [[4.0, 3.0], [3.0, 4.0]]
    """
    B, A = update.B.to(base_weight.dtype), update.A.to(base_weight.dtype)
    return torch.addmm(base_weight, B, A, alpha=update.scaling)


def scaling_of(alpha: float, rank: int, rslora: bool) -> float:
    """alpha / rank, or alpha / √rank for rsLoRA (Kalajdzievski 2023).

    >>> scaling_of(16, 4, False), scaling_of(16, 4, True)
    (4.0, 8.0)
    """
    return alpha / (math.sqrt(rank) if rslora else rank)


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The model's LoRA layers by the dotted name of the matrix they adapt."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}
