"""A random subspace of the weights: θ = θ0 + P z, where the few numbers z train and P is random and fixed.

Li et al. 2018 (https://arxiv.org/abs/1804.08838) call the smallest size of z that is enough the intrinsic dimension;
Aghajanyan et al. 2020 (https://arxiv.org/abs/2012.13255) measure it of pretrained models, with Fastfood as P.

| projection | the shift | its norm |
|---|---|---|
| `gather` | each weight reads one number of z: z[index] · sign / √count | ‖P z‖ = ‖z‖, all tensors together |
| `fastfood` (DID) | of each tensor the first n entries of H G Π H B z / √(n Σ g²) | E‖Pᵢ z‖² = ‖z‖², each tensor |
| `fastfood_scaled` (SAID) | λ of the layer times that of `fastfood` | λ² times that; λ is 1 at the start |

So it is with `scale: norm`, as in these papers. With `scale: weight` the shift is √count, or √(n / d), times as large:
a weight changes by as much as a number of z in the mean square. Then one learning rate suits z and the head, which an
optimizer such as Adam moves by the same step.

P is drawn from the run's own stream of random numbers, so that a run that goes on has the same one, and no file has it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad
from torch.nn.utils import parametrize

from lorax_lab.config import MethodConfig
from lorax_lab.config.checks import one_of, require
from lorax_lab.errors import ConfigError
from lorax_lab.methods import full
from lorax_lab.methods.method import Method
from lorax_lab.models import head_parameters, layer_number

if TYPE_CHECKING:
    from jaxtyping import Float, Int

MATRICES, BODY = "matrices", "body"
GATHER, FASTFOOD, SCALED = "gather", "fastfood", "fastfood_scaled"
NORM, WEIGHT = "norm", "weight"
BLOCK = 2**14
"""Weights that read neighbouring numbers of z, so that these stay in a processor's cache."""
FACTOR = 64
"""The largest Hadamard matrix that is multiplied by: a transform is a product for each six of its bits."""


@dataclass
class SubspaceConfig(MethodConfig):
    """The settings of a subspace.

    Attributes:
        dimension: how many numbers z has.
        projection: what P is, as the module says.
        over: the weights that P shifts: of `matrices`, which are `target_modules`, or of the whole `body`.
        scale: what P leaves as large as it is in z: the `norm` of all its numbers, or each number, in each `weight`.
    """

    name: str = "subspace"
    dimension: int = 1000
    projection: str = field(default=GATHER, metadata=one_of(GATHER, FASTFOOD, SCALED))
    over: str = field(default=MATRICES, metadata=one_of(MATRICES, BODY))
    scale: str = field(default=NORM, metadata={"neutral": NORM} | one_of(NORM, WEIGHT))

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = "a whole number from 1 to the number of weights that are shifted; for instance method.dimension=1000"
        require(self.dimension >= 1, "method.dimension", self.dimension, allowed)


def shifted(model: nn.Module, names: Sequence[str], settings: SubspaceConfig) -> dict[str, nn.Parameter]:
    """The parameters of a bare model that P shifts, by dotted name.

    Raises:
        ConfigError: two layers share one of them, or they have fewer numbers than z.
    """
    heads, inside = head_parameters(model), {f"{name}.weight" for name in names}
    parameters = {
        name: parameter
        for name, parameter in model.named_parameters()
        if (name in inside if settings.over == MATRICES else parameter.requires_grad and name not in heads)
    }
    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    instead = {BODY: "type method.over=matrices", MATRICES: "leave it out of method.target_modules"}[settings.over]
    if tied := next((name for name, parameter in parameters.items() if uses[id(parameter)] > 1), None):
        shared = f"another layer shares {tied}, and a subspace shifts each weight once"
        raise ConfigError(f"method.over={settings.over} is not possible: {shared}; {instead}")
    most = sum(parameter.numel() for parameter in parameters.values())
    allowed = f"it is from 1 to {most}, the number of weights that are shifted; type method.dimension={most}"
    require(settings.dimension <= most, "method.dimension", settings.dimension, allowed)
    return parameters


class Subspace(nn.Module):
    """z, and the weights W0 + P z that follow from it.

    While the model computes they are made once, all together. Without gradients they are kept until z changes.

    Args:
        bases: the frozen weights W0, by dotted name; their order is that of the places.
        dimension: how many numbers z has.
    """

    def __init__(self, bases: dict[str, nn.Parameter], dimension: int) -> None:
        super().__init__()
        self.bases = list(bases.values())  # parameters of their own layers, and none of this module
        self.z = nn.Parameter(self.bases[0].new_zeros(dimension))
        self.made: list[Tensor] = []
        self.made_from: list[Tensor] = []
        self.computes = False

    def make(self, places: Iterable[int]) -> list[Tensor]:
        """W0 + P z of these places, each in its weight's shape."""
        raise NotImplementedError

    def weight(self, place: int) -> Tensor:
        """W0 + P z of one place."""
        is_made = bool(self.made) and (self.computes or self._is_current())
        if is_made and (self.made[place].requires_grad or not torch.is_grad_enabled()):
            return self.made[place]
        return self._make([place])[0]

    def begin(self, *_: Any) -> None:
        """Make all weights, before the model computes."""
        if torch.is_grad_enabled() or not self.made or not self._is_current():
            self.made = self._make(range(len(self.bases)))
            self.made_from = [parameter.detach().clone() for parameter in self.parameters()]
        self.computes = True

    def end(self, model: nn.Module, *_: Any) -> None:
        """Leave weights that have gradients to the backward pass alone, unless its layers compute again."""
        self.computes = False
        computes_again = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        if torch.is_grad_enabled() and not computes_again:
            self.made = []

    def _is_current(self) -> bool:
        return all(map(torch.equal, self.parameters(), self.made_from))

    def _make(self, places: Iterable[int]) -> list[Tensor]:
        with torch.autocast(self.z.device.type, enabled=False):  # which would round P z to bf16
            return self.make(places)


class Gather(Subspace):
    """Each weight reads one number of z with a random sign. With `scale=norm` a number that c weights read counts 1/√c,
    so the columns of P are orthonormal."""

    def __init__(self, bases: dict[str, nn.Parameter], dimension: int, scale: str, generator: torch.Generator) -> None:
        super().__init__(bases, dimension)
        sizes = [base.numel() for base in self.bases]
        read = numbers_read(sizes, dimension, generator)
        signed = read + dimension * torch.randint(2, read.shape, generator=generator, dtype=read.dtype)
        for place, index in enumerate(signed.split(sizes)):
            self.register_buffer(f"index_{place}", index.clone().to(self.z.device), persistent=False)
        counts = torch.full((dimension,), sum(sizes) // dimension)
        counts[: sum(sizes) % dimension] += 1
        norms = counts.to(self.z).sqrt() if scale == NORM else torch.ones_like(self.z)
        self.register_buffer("norms", norms, persistent=False)

    def make(self, places: Iterable[int]) -> list[Tensor]:
        scaled, places = self.z / self.get_buffer("norms"), list(places)
        indices = [self.get_buffer(f"index_{place}") for place in places]
        weights: tuple[Tensor, ...] = _Read.apply(
            torch.cat([scaled, -scaled]), [self.bases[place] for place in places], indices
        )
        return list(weights)


def numbers_read(sizes: Sequence[int], dimension: int, generator: torch.Generator) -> Int[Tensor, " weights"]:
    """Which of `dimension` numbers each weight reads, for tensors of these sizes after each other; int32.

    Every number is read equally often, or the first ones once more. Blocks of weights, which end with their tensor,
    read consecutive numbers: the blocks are taken in random order, and so are the numbers inside each.
    """
    blocks = torch.tensor([min(BLOCK, size - start) for size in sizes for start in range(0, size, BLOCK)])
    order = torch.randperm(len(blocks), generator=generator)
    starts = torch.empty_like(blocks)
    starts[order] = blocks[order].cumsum(0) - blocks[order]
    read = [
        start + torch.randperm(size, generator=generator) for start, size in zip(starts.tolist(), blocks, strict=True)
    ]
    return torch.cat(read).remainder_(dimension).to(torch.int32)


class _Read(torch.autograd.Function):
    """W = W0 + table[index] of many tensors. The gradient of the table is the sum of the gradients of the weights that
    read each entry; it is made for all tensors in one place, which matters where the table is large."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, bases: list[Tensor], indices: list[Tensor]) -> tuple[Tensor, ...]:
        ctx.entries, ctx.indices = len(table), indices
        ctx.set_materialize_grads(False)
        return tuple(
            table.index_select(0, index).view_as(base).add_(base) for base, index in zip(bases, indices, strict=True)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None, None]:
        total = None
        for index, grad in zip(ctx.indices, grads, strict=True):
            if grad is not None:  # the model may not use a weight
                total = grad.new_zeros(ctx.entries) if total is None else total
                total.index_add_(0, index, grad.flatten())
        return total, None, None


class Fastfood(Subspace):
    """P of each tensor is H G Π H B (Le et al. 2013), as Aghajanyan et al. take it: H is Hadamard's matrix, G Gaussian,
    Π a permutation, B signs. H needs a power of two: z is padded with zeros to L = 2^l ≥ n and ≥ d, and the first n
    entries of the result are used."""

    def __init__(
        self, bases: dict[str, nn.Parameter], dimension: int, scale: str, generator: torch.Generator, scaled: bool
    ) -> None:
        super().__init__(bases, dimension)
        layers = [layer_number(name) for name in bases]
        numbers = {layer: number for number, layer in enumerate(dict.fromkeys(layers))}
        self.scale_of = [numbers[layer] for layer in layers] if scaled else None
        if scaled:
            self.scales = nn.Parameter(self.z.new_ones(len(numbers)))
        for place, base in enumerate(self.bases):
            length = 2 ** max(base.numel() - 1, dimension - 1).bit_length()
            signs = torch.randint(2, (dimension,), generator=generator) * 2 - 1
            order = torch.randperm(length, generator=generator).to(torch.int32)
            gains = torch.randn(length, generator=generator)
            gains /= gains.norm() * math.sqrt(base.numel() if scale == NORM else dimension)
            parts = {"signs": signs.to(self.z), "order": order.to(self.z.device), "gains": gains.to(self.z)}
            for part, values in parts.items():
                self.register_buffer(f"{part}_{place}", values, persistent=False)

    def make(self, places: Iterable[int]) -> list[Tensor]:
        return [self._one(place) for place in places]

    def _one(self, place: int) -> Tensor:
        signs, order, gains = (self.get_buffer(f"{part}_{place}") for part in ("signs", "order", "gains"))
        base = self.bases[place]
        mixed = hadamard(pad(self.z * signs, (0, len(gains) - len(signs))))
        shift = hadamard(mixed.index_select(0, order) * gains)[: base.numel()].view_as(base)
        return base + (shift if self.scale_of is None else self.scales[self.scale_of[place]] * shift)


def hadamard(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """H x, where H is Hadamard's matrix of n = 2^l rows in Sylvester's order, and H H = n I; nothing is normalised.

    H is a Kronecker product of small ones. Each is multiplied with the last bits of the index, which then move to the
    front, so that all are back in their places at the end. Its gradient is H of the gradient, from the products alone.

    >>> hadamard(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist()
    [10.0, -2.0, -4.0, 0.0]
    """
    assert x.numel().bit_count() == 1, f"a power of two, not {x.numel()}"
    bits = x.numel().bit_length() - 1
    while bits:
        step = min(bits, FACTOR.bit_length() - 1)
        x = (_sylvester(step, x.dtype, x.device) @ x.view(-1, 2**step).t()).flatten()
        bits -= step
    return x


@lru_cache
def _sylvester(bits: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "size size"]:
    from scipy.linalg import hadamard as sylvester

    with torch.inference_mode(False):  # it is kept, and training may read it after a score was made
        return torch.from_numpy(sylvester(2**bits)).to(device, dtype)


class Shifted(nn.Module):
    """What stands in the place of a weight W0 for its layer: W0 + P z, as one of `torch.nn.utils.parametrize`."""

    def __init__(self, subspace: Subspace, place: int) -> None:
        super().__init__()
        self.subspace, self.place = subspace, place

    def forward(self, base_weight: Tensor) -> Tensor:
        """W0 + P z in W0's shape."""
        return self.subspace.weight(self.place)


def attach(
    model: nn.Module, names: list[str], settings: SubspaceConfig, rank: int | None, generator: torch.Generator
) -> None:
    """Freeze the body, shift its weights by P z with z = 0, leave the head trainable. Layers keep their names. What
    `shifted` refuses is refused here too."""
    bases = shifted(model, names, settings)
    heads = head_parameters(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in heads)
    subspace: Subspace
    if settings.projection == GATHER:
        subspace = Gather(bases, settings.dimension, settings.scale, generator)
    else:
        scaled = settings.projection == SCALED
        subspace = Fastfood(bases, settings.dimension, settings.scale, generator, scaled)
    for place, name in enumerate(bases):
        owner, _, leaf = name.rpartition(".")
        layer, shift = model.get_submodule(owner), Shifted(subspace, place)
        parametrize.register_parametrization(layer, leaf, shift, unsafe=True)  # safe would compute P z of each
    model.register_forward_pre_hook(subspace.begin)
    model.register_forward_hook(subspace.end, always_call=True)


MARK, STORED = ".parametrizations.", ".original"
"""How torch names a weight that something else stands in the place of: `layer.parametrizations.weight.original`."""


def export(model: nn.Module, settings: SubspaceConfig, base_name: str) -> dict[str, dict[str, Any]]:
    """The file of a whole model: every parameter by its name in the base, W0 + P z where it was shifted."""
    tensors: dict[str, Any] = {}
    for key, tensor in model.state_dict().items():
        owner, is_inside, rest = key.partition(MARK)
        if not is_inside:
            tensors[key] = tensor
        elif rest.endswith(STORED):
            leaf = rest.removesuffix(STORED)
            tensors[f"{owner}.{leaf}"] = getattr(model.get_submodule(owner), leaf).detach()
    return {full.WEIGHTS: tensors}


METHOD = Method(
    SubspaceConfig, full.WEIGHTS, attach, full.updates, export, full.load, full.saved_updates,
    check_base=lambda settings, model, names: shifted(model, names, settings), has_rank=False, size="dimension",
    steps_as_full=True,
)  # fmt: skip
