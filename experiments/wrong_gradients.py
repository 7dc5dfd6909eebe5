"""`python -m experiments.wrong_gradients`: what the copied code of the intrinsic dimension makes of a gradient.

Its Walsh-Hadamard transform is not normalised forward, and divides by √n backward. Each tensor has two of them, so what
it adds to the gradient of z is divided by its padded length L. Here that gradient is computed both ways, at the start,
for one batch of sarcasm and a subspace of the whole body (DID).
"""

import math
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from experiments.study import composed
from lorax_lab.methods import subspace
from lorax_lab.models import load_base
from lorax_lab.record.redact import guard
from lorax_lab.streams import generator
from lorax_lab.tasks import load_task
from lorax_lab.tasks.split import encode

SETTINGS = ("task=sarcasm", "task.pooling=mean", "method=subspace", "method.over=body", "method.projection=fastfood")
SMALL = ("bias", "LayerNorm", "token_type")
"""What is in the name of a tensor of at most 1,536 weights."""
transform = subspace.hadamard


class Copied(torch.autograd.Function):
    """The transform as the copied code has it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return transform(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return transform(grad) / math.sqrt(grad.numel())


def gradients(dimension: int, size: int = 64) -> dict[str, tuple[Tensor, Tensor]]:
    """What each tensor of the body adds to the gradient of z, (dimension,) fp32: right, and by the copied code."""
    config = composed((*SETTINGS, f"method.dimension={dimension}"))
    task = load_task(config.task)
    base = load_base(config.model, task.head, 0, task.kind.model_class, task.kind.processor_class)
    batch = encode(task, base.processor, base.sha256)["train"].batch(list(range(size)))
    settings: Any = config.method
    bases = subspace.shifted(base.model, [], settings)
    grads = torch.autograd.grad(base.model(**batch.inputs).loss, list(bases.values()), allow_unused=True)
    shift = subspace.Fastfood(bases, dimension, subspace.NORM, generator(0, "adapter"), scaled=False)

    def of_z(place: int, grad: Tensor) -> Tensor:
        return torch.autograd.grad((shift.make([place])[0] * grad).sum(), shift.z)[0]

    used = [
        (place, name, grad) for place, (name, grad) in enumerate(zip(bases, grads, strict=True)) if grad is not None
    ]
    ours = [of_z(place, grad) for place, _, grad in used]
    with patch.object(subspace, "hadamard", Copied.apply):
        copied = [of_z(place, grad) for place, _, grad in used]
    return {name: pair for (_, name, _), *pair in zip(used, ours, copied, strict=True)}  # type: ignore[misc]


def main() -> None:
    """Print the angle between the two gradients, and what share of their squares is not of matrices."""
    guard()
    for dimension in (100, 1000, 10_000):
        by_tensor = gradients(dimension)
        right, wrong = (torch.stack(parts).sum(0) for parts in zip(*by_tensor.values(), strict=True))
        cosine = torch.cosine_similarity(right, wrong, dim=0).item()
        squares = torch.tensor([[part.square().sum() for part in pair] for pair in by_tensor.values()])
        is_small = torch.tensor([any(word in name for word in SMALL) for name in by_tensor])
        ours, copied = (squares[is_small].sum(0) / squares.sum(0)).tolist()
        print(f"d = {dimension:,}: cosine {cosine:.3f}; biases, norms and token types: {ours:.2%} and {copied:.4%}")


if __name__ == "__main__":
    main()
