"""What multiplies in linear layers: torch's own choice of library (MKL in most builds), or oneDNN; what they hold.

Both are exact in fp32 and differ in rounding alone. MKL takes a slow path on some processors that are not Intel's, up
to twice as slow as oneDNN. torch reaches oneDNN's fp32 product by an operator that has no gradient; it is given here.
oneDNN reads a transposed matrix as fast as another, but one with gaps in memory, such as the first token of each text,
up to sixty times slower: that one is copied first.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lorax_lab.models.matrices import head_modules, is_head, is_read

SMALL = 2**22
"""Multiplications of a product. Below it torch multiplies: calling oneDNN costs more than it saves, and for a few
tokens it can be many times slower."""


def has_onednn() -> bool:
    """Whether this build of torch has oneDNN's product of linear layers."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b by oneDNN, without a gradient. Transposed views are read as they are. Of more than two dimensions the
    result is a view."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def own_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`product` in memory of its own: autograd lets nobody add in place to a view that a function of ours returns."""
    return product(x.flatten(0, -2).contiguous(), weight, bias).resize_(*x.shape[:-1], len(weight))


def applies(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether oneDNN gives this product as F.linear does: fp32 on the CPU without autocast, of sizes that fit, and not
    small. A bias with gaps in memory is read wrong, without an error."""
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.layout == weight.layout == torch.strided
        and x.ndim > 1
        and weight.ndim == 2
        and x.shape[-1] == weight.shape[1]
        and x.numel() * len(weight) >= max(SMALL, 1)
        and (bias is None or (bias.dtype == weight.dtype and bias.shape == weight.shape[:1] and bias.is_contiguous()))
        and not torch.is_autocast_enabled("cpu")
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b, and its gradients, by oneDNN; F.linear where oneDNN does not apply.

    Args:
        x: (*batch, in).
        weight: (out, in), also a transposed view.
        bias: (out,) or None.
    """
    if not applies(x, weight, bias):
        return F.linear(x, weight, bias)
    trains = x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    if not (trains and torch.is_grad_enabled()):
        return product(x.contiguous(), weight, bias)
    return _Linear.apply(x, weight, bias)


class _Linear(torch.autograd.Function):
    """y = x Wᵀ + b. With g = ∂L/∂y: ∂L/∂x = g W, ∂L/∂W = gᵀ x, ∂L/∂b = Σ g over the tokens."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        needs_x, needs_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if needs_weight else None, weight if needs_x else None)
        return own_product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        flat = grad.flatten(0, -2).contiguous()  # (tokens, out)
        grad_x = product(flat, weight.t()).resize_(*grad.shape[:-1], weight.shape[1]) if needs_x else None
        grad_weight = product(flat.t(), x.flatten(0, -2).contiguous().t()) if needs_weight else None
        return grad_x, grad_weight, flat.sum(0) if needs_bias else None


class OneDnnLinear(nn.Linear):
    """nn.Linear that multiplies by oneDNN."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def use_kernel(model: nn.Module, kernel: str) -> None:
    """Let the model's linear layers multiply by `torch` or by `onednn`, in place. Only their class changes: names,
    parameters and files stay. Subclasses of nn.Linear, and GPT-2's `Conv1D`, multiply as they did."""
    before, after = (nn.Linear, OneDnnLinear) if kernel == "onednn" else (OneDnnLinear, nn.Linear)
    for module in model.modules():
        if type(module) is before:
            module.__class__ = after


def keep_frozen_in_bf16(model: nn.Module) -> dict[str, Tensor]:
    """Round the frozen weights and biases of the model's linear layers to bf16, in place, and return what they were, by
    dotted name. Autocast would make these copies at each call, of the same bits.

    fp32 stays what trains, what two layers share (an output layer and the embedding), what the model reads itself, the
    head, which is saved beside an adapter, and all that is no plain linear layer. GPT-2's `Conv1D` is one; Falcon's own
    layer, which adds its bias apart, is not.
    """
    layers = [module.parameters(recurse=False) for module in model.modules()]
    uses = Counter(id(parameter) for parameters in layers for parameter in parameters)
    heads, before = head_modules(model), dict[str, Tensor]()
    for name, module in model.named_modules():
        plain = type(module) in (nn.Linear, OneDnnLinear) or type(module).__name__ == "Conv1D"
        if not plain or is_read(name.removesuffix(".base")) or is_head(f"{name}.", heads):
            continue
        parameters = dict(module.named_parameters(recurse=False))
        if all(p.dtype == torch.float32 and not p.requires_grad and uses[id(p)] == 1 for p in parameters.values()):
            for key, parameter in parameters.items():
                before[f"{name}.{key}"] = parameter.data
                parameter.data = parameter.data.to(torch.bfloat16)
    return before


def put_back(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Undo `keep_frozen_in_bf16`, which gave these weights."""
    for name, weight in weights.items():
        parameter = model.get_parameter(name)
        parameter.data = weight.to(parameter.device)


def checkpoint_layers(model: Any) -> None:
    """Let every layer keep its input only, in training, and the backward pass compute the rest again (Chen et al. 2016,
    https://arxiv.org/abs/1604.06174): less memory, one more forward pass, the same numbers."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
