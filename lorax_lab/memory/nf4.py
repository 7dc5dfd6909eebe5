"""Frozen matrices in 4 bits, as bitsandbytes stores and multiplies NF4 (Dettmers et al. 2023, QLoRA,
https://arxiv.org/abs/2305.14314), for the memory of a step alone.

The products are all zero: a step of these layers can be predicted, and nothing can be trained with them.
"""

import torch
from torch import Tensor, nn

from lorax_lab.methods.lora_layer import LoRALinear
from lorax_lab.methods.quantized import BLOCK, QuantizedLinear
from lorax_lab.models.matrices import is_read


class _ZeroLinear(QuantizedLinear):
    """Holds what NF4 holds of a layer, and multiplies by zeros, without bitsandbytes."""

    def rounded(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        count = weight.numel()
        scales = weight.new_zeros(-(-count // BLOCK), dtype=torch.float32)
        return weight.new_zeros(-(-count // 2), dtype=torch.uint8), scales

    def dense(self, dtype: torch.dtype) -> Tensor:
        return self.codes.new_zeros(self.shape, dtype=dtype)


def hold_frozen_in_nf4(model: nn.Module, names: list[str]) -> None:
    """Put `_ZeroLinear` in the place of the named matrices, or of the base of the LoRA layers there, in place.

    Args:
        names: of all matrices of the body; embeddings, norms and the output layer stay as they are.
    """
    for name in names:
        layer = model.get_submodule(name)
        if is_read(name):
            continue
        if isinstance(layer, LoRALinear):
            layer.base = _ZeroLinear(layer.base, 4)
        else:
            model.set_submodule(name, _ZeroLinear(layer, 4))
