"""The floating-point operations of a training step (forward, backward, update), in closed form.

For a matrix (out m, in n) and T tokens, a multiply and an add being two operations:

| | forward | backward |
|---|---|---|
| full | 2nmT | 4nmT: the input's gradient and the weight's |
| LoRA | 2nmT + 2r(n + m)T | 2nmT + 4r(n + m)T: the weight's gradient is not taken |

So LoRA takes 2/3 + r(n + m)/(nm) of full fine-tuning: 2/3 for a small rank, as much as full at r = n/6 for a square
matrix, more above. Where a matrix's input needs no gradient, because nothing before it trains, the input's part is
left out: 2nmT, and 2rnT of LoRA's. Attention's two products take 4ST times its width forward and twice that backward,
for full fine-tuning and for LoRA.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from lorax_lab.memory.predict import Step

UPDATE = {"adamw": 14, "sgd": 3, "adam8bit": 14, "lion": 10}
"""Operations for each trained parameter. AdamW: decay 1, first moment 3 (a lerp), second 1 + 3, root 1, its correction
1, eps 1, the step 3; in 8 bits the same, (de)quantizing not counted. SGD: momentum 2, the step 1. Lion: decay 1, two
lerps of 3, sign 1, the step 2."""


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of one training step."""

    forward: int
    backward: int
    update: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.forward + self.backward + self.update


def matrix_operations(n: int, m: int, tokens: int, rank: int | None, trained: bool, first: bool) -> tuple[int, int]:
    """Operations (forward, backward) of one matrix, in n, out m.

    Args:
        rank: of the LoRA beside it, None without.
        trained: whether the matrix itself trains.
        first: whether nothing before it trains, so that its input needs no gradient.

    >>> full = matrix_operations(384, 384, 100, None, True, False)
    >>> lora = matrix_operations(384, 384, 100, 8, False, False)
    >>> round(sum(lora) / sum(full), 3)
    0.708
    """
    product = 2 * n * m * tokens
    forward, backward = product, product * trained + product * (not first)
    if rank is not None:
        forward += 2 * rank * (n + m) * tokens
        backward += 4 * rank * (n + m) * tokens - 2 * rank * n * tokens * first
    return forward, backward


def closed_form(step: Step) -> Operations:
    """The sum over the model's matrices, attention's products and the trained parameters, from shapes only. What
    checkpointing computes a second time is not counted."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        model = step.build().train()
        seen: list[tuple[int, int]] = []
        for module in _matrices(model):
            module.register_forward_hook(_note(seen))
        model(**step.make_batch())
    attention = _attention(step)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    forward = sum(f for f, _ in seen) + attention
    backward = sum(b for _, b in seen) + 2 * attention
    return Operations(forward, backward, UPDATE[step.optimizer] * trained)


def _matrices(model: nn.Module) -> list[nn.Module]:
    from lorax_lab.methods.lora_layer import LoRALinear

    adapted = [module for module in model.modules() if isinstance(module, LoRALinear)]
    inside = {id(module.base) for module in adapted}
    plain = (nn.Linear, nn.Conv2d)
    return adapted + [
        module
        for module in model.modules()
        if id(module) not in inside and (isinstance(module, plain) or type(module).__name__ == "Conv1D")
    ]


def _note(seen: list[tuple[int, int]]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    from lorax_lab.methods.lora_layer import LoRALinear

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        rank = len(module.lora_A) if isinstance(module, LoRALinear) else None
        base: Any = module.base if isinstance(module, LoRALinear) else module
        weights, width = base.weight.numel(), output.shape[-1]
        if isinstance(base, nn.Conv2d):
            width = output.shape[1]
        tokens = output.numel() // width
        first = not inputs[0].requires_grad
        seen.append(matrix_operations(weights // width, width, tokens, rank, base.weight.requires_grad, first))

    return note


def _attention(step: Step) -> int:
    """Forward operations of the scores and of the weighted sums, all layers together."""
    shape = step.shape()
    config = shape.config
    tokens = step.sequence
    if tokens is None:
        tokens = (config.image_size // config.patch_size) ** 2 + 1
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    return int(4 * step.batch * tokens * tokens * width * config.num_hidden_layers)
