"""The floating-point operations of a training step (forward, backward, update), counted on tensors without memory.

For a matrix (out m, in n) and T tokens, a multiply and an add being two operations:

| | forward | backward |
|---|---|---|
| full | 2nmT | 4nmT: the input's gradient and the weight's |
| LoRA | 2nmT + 2r(n + m)T | 2nmT + 4r(n + m)T: the weight's gradient is not taken |

So LoRA takes 2/3 + r(n + m)/(nm) of full fine-tuning: 2/3 for a small rank, as much as full at r = n/6 for a square
matrix, more above. Attention's two products take 4ST times its width forward and twice that backward, for both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from lorax_lab.memory.predict import Step

UPDATE = {"adamw": 14, "sgd": 3, "adam8bit": 14}
"""Operations for each trained parameter. AdamW: decay 1, first moment 3 (a lerp), second 1 + 3, root 1, its correction
1, eps 1, the step 3; in 8 bits the same, (de)quantizing not counted. SGD: momentum 2, the step 1."""


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


def count(step: Step) -> Operations:
    """What torch's `FlopCounterMode` counts of the step on fake tensors. What checkpointing computes a second time is
    left out. Attention is taken as eager, whose products the counter sees; a fused kernel computes the same."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    plain = replace(step, attention="eager", checkpointing=False)
    products: dict[Any, Callable[..., int]] = {torch.ops.aten.addmm_: _added_product}
    with FakeTensorMode(allow_non_fake_inputs=True):
        model, batch = plain.build().train(), plain.make_batch()
        with FlopCounterMode(display=False, custom_mapping=products) as forward:
            loss = model(**batch).loss
        with FlopCounterMode(display=False, custom_mapping=products) as backward:
            loss.backward()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Operations(forward.get_total_flops(), backward.get_total_flops(), UPDATE[step.optimizer] * trained)


def _added_product(_: Any, a: Any, b: Any, **__: Any) -> int:
    """Operations of y += a b in place, which torch's counter does not know."""
    return int(2 * a[0] * a[1] * b[1])
