"""Functional rank: change every update at once, put it back, and score.

The spectrum says how ΔW looks; this says what it does. The cut model is W0 + [ΔW]_k in every measured matrix,
the remainder is W0 + ΔW − [ΔW]_k. Everything that is not a measured matrix (head, embeddings, biases, norms)
stays as trained, so k = full is the tuned model and k = 0 shows what the rest alone does.

The controls say what a cut would do for other reasons. At the cut's norm: k of the update's directions drawn at random,
its last k directions, and the whole update made smaller. Besides: as many directions as the cut has, the largest over
all matrices; the whole update at some shares of its size, since a full update may overshoot; noise of its norm; and
the cut in matrices of one type alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from lorax_lab.models import delta_view, short_name
from lorax_lab.spectra import OneByOne

PERCENT = (50, 70, 80, 90)
"""Shares of the whole update at which it is scored; `k` of these rows is the percentage."""
NEGLIGIBLE = 1e-6
"""A singular value up to this share of the largest is rounding, and its direction none of the update's."""
Seen = TypeVar("Seen")
Replacement = Callable[[str, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Decomposition:
    """The thin SVD of an update, U (out, m), sigma (m,), Vh (m, in), where the update lies; fp32 or wider."""

    U: Tensor
    sigma: Tensor
    Vh: Tensor

    def added_to(self, weight: Tensor, indices: slice | Tensor, factor: float = 1.0) -> Tensor:
        """weight + factor · Σ σ_i u_i v_iᵀ over these indices, (out, in), in the weight's precision and on its device:
        an error there is far below the rounding of the sum."""
        left = (self.U[:, indices] * self.sigma[indices].to(self.U)).to(weight)
        return torch.addmm(weight, left, self.Vh[indices].to(weight), alpha=factor)


Decompositions = Mapping[str, Decomposition]
"""Of each update, by the name of its matrix."""


@dataclass(frozen=True)
class Change:
    """What is put in the place of the updates.

    Attributes:
        part: `cut`, `remainder`, or a control's name.
        k: of how many directions.
        weight: from a matrix's name, its W0 and its tuned W (out, in) to the weight that is put there.
        module: the type of matrix (`short_name`) that is changed while the others stay whole; None changes all.
    """

    part: str
    k: int
    weight: Replacement
    module: str | None = None


def cut_ranks(full: int) -> list[int]:
    """0, the powers of two below `full`, and `full`.

    >>> cut_ranks(12)
    [0, 1, 2, 4, 8, 12]
    """
    return [0] + [2**i for i in range(full.bit_length()) if 2**i < full] + [full]


def cuts_at(decompositions: Decompositions, ranks: Iterable[int]) -> list[Change]:
    """The cut at each of some k."""
    return [Change("cut", k, partial(_cut, decompositions, k)) for k in ranks]


def cuts(decompositions: Decompositions) -> list[Change]:
    """The cut and the remainder at each k of `cut_ranks`."""
    return [
        Change(part, k, partial(weight, decompositions, k))
        for part, weight in (("cut", _cut), ("remainder", _remainder))
        for k in ranks_of(decompositions)
    ]


def control_ranks(full: int) -> list[int]:
    """The powers of four below `full`.

    >>> control_ranks(384)
    [1, 4, 16, 64, 256]
    """
    return [rank for rank in cut_ranks(full)[1:-1] if rank.bit_length() % 2]


def controls(decompositions: Decompositions, generator: torch.Generator, noise: Mapping[str, Tensor]) -> list[Change]:
    """What the cuts are compared with, at each k of `control_ranks`.

    At the norm of the cut in each matrix: `random_at_norm`, k singular directions of ΔW drawn uniformly, those of a
    smaller k among them; `bottom_at_norm`, its last k; `scaled`, all of it. `global`: the largest singular values over
    all matrices, k for each matrix on average. `shrunk`: ΔW times k percent. `cut` of one `module`, from k = 0 on.
    `gaussian`: `noise`, once.
    """
    full = ranks_of(decompositions)[-1]
    ranks = control_ranks(full)
    drawn = {name: torch.randperm(len(d.sigma), generator=generator) for name, d in decompositions.items()}
    last = {
        name: torch.arange(int((d.sigma > NEGLIGIBLE * d.sigma[0]).sum())).flip(0) for name, d in decompositions.items()
    }
    changes = [Change("random_at_norm", k, partial(_at_norm, decompositions, drawn, k)) for k in ranks]
    changes += [Change("bottom_at_norm", k, partial(_at_norm, decompositions, last, k)) for k in ranks]
    changes += [Change("scaled", k, partial(_scaled, decompositions, k)) for k in ranks]
    changes += [Change("global", k, _largest(decompositions, k)) for k in ranks]
    changes += [Change("shrunk", k, partial(_times, k / 100)) for k in PERCENT]
    modules = dict.fromkeys(short_name(name) for name in decompositions)
    changes += [Change("cut", k, partial(_cut, decompositions, k), module) for module in modules for k in (0, *ranks)]
    return [*changes, Change("gaussian", full, lambda name, base, _: base + noise[name].to(base))]


def gaussian_like(decompositions: Decompositions, generator: torch.Generator) -> OneByOne:
    """For each update an iid Gaussian matrix of its shape and its Frobenius norm, fp64, where the update's factors lie;
    the same whenever it is asked for."""

    def drawn(name: str, stream: torch.Generator) -> Tensor:
        shape = (len(decompositions[name].U), decompositions[name].Vh.shape[1])
        return torch.randn(shape, generator=stream, dtype=torch.float64)

    states = {}
    for name in decompositions:
        states[name] = generator.get_state()
        drawn(name, generator)

    def noise(name: str) -> Tensor:
        stream, sigma = torch.Generator(), decompositions[name].sigma
        stream.set_state(states[name])
        matrix = drawn(name, stream)
        return (matrix * (float(sigma.norm()) / matrix.norm())).to(sigma.device)

    return OneByOne(decompositions, noise)


def seen_under(
    model: nn.Module,
    base: dict[str, Tensor],
    changes: Sequence[Change],
    uncut: Seen,
    see: Callable[[nn.Module], Seen],
    on_score: Callable[[int, int], None] = lambda done, total: None,
) -> list[Seen]:
    """What is seen of the model under each change, in their order.

    Args:
        model, base, uncut, see: as of `with_changes`.
        on_score: called with the number of changes done and in all.
    """
    seen: list[Seen] = []
    with with_changes(model, base, uncut, see) as seen_with:
        for change in changes:
            seen.append(seen_with(change))
            on_score(len(seen), len(changes))
    return seen


@contextmanager
def with_changes(
    model: nn.Module, base: dict[str, Tensor], uncut: Seen, see: Callable[[nn.Module], Seen]
) -> Iterator[Callable[[Change], Seen]]:
    """Inside it, what is seen of the model under a change can be asked for.

    Args:
        model: the tuned model; its weights are put back, to the bit, at the end.
        base: W0 of each measured matrix, (out, in).
        uncut: what is seen of the tuned model; what changes nothing is not seen again.
    """
    views = {name: delta_view(model.get_submodule(name)) for name in base}
    tuned = {name: view.detach().clone() for name, view in views.items()}
    full = max(min(weight.shape) for weight in base.values())

    def seen_with(change: Change) -> Seen:
        if (change.part, change.k) in (("cut", full), ("remainder", 0)):
            return uncut
        with torch.no_grad():
            for name, view in views.items():
                is_left = change.module not in (None, short_name(name))
                before = base[name].to(view.device)
                view.copy_(tuned[name] if is_left else change.weight(name, before, tuned[name].to(before.dtype)))
        return see(model)

    try:
        yield seen_with
    finally:
        with torch.no_grad():
            for name, view in views.items():
                view.copy_(tuned[name])


def bisected(sizes: Sequence[int], keeps: Callable[[int], bool]) -> int | None:
    """The smallest of some ascending sizes that keeps enough, found by bisection; None where none does.

    The size below it does not keep enough, and the size above it does. Where that one does not, enough is no matter of
    size alone, and the search goes on above.

    >>> bisected([0, 1, 2, 4, 8], lambda size: size >= 2)
    2
    """
    low, high = -1, len(sizes)
    while True:
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if keeps(sizes[middle]) else (middle, high)
        if high == len(sizes):
            return None
        if high + 1 == len(sizes) or keeps(sizes[high + 1]):
            return sizes[high]
        low, high = high + 1, len(sizes)


def ranks_of(decompositions: Decompositions, with_sixteenth: bool = False) -> list[int]:
    """`cut_ranks` of the largest matrix, with a sixteenth of the smallest side, above which an update is not called
    low, where that is asked for."""
    sides = [len(d.sigma) for d in decompositions.values()]
    return sorted({*cut_ranks(max(sides)), *([min(sides) // 16] if with_sixteenth else [])})


def _cut(decompositions: Decompositions, k: int, name: str, base: Tensor, tuned: Tensor) -> Tensor:
    d = decompositions[name]
    return tuned if k >= len(d.sigma) else d.added_to(base, slice(k))


def _remainder(decompositions: Decompositions, k: int, name: str, base: Tensor, tuned: Tensor) -> Tensor:
    d = decompositions[name]
    return base if k >= len(d.sigma) else d.added_to(tuned, slice(k), -1.0)


def _at_norm(
    decompositions: Decompositions, order: dict[str, Tensor], k: int, name: str, base: Tensor, tuned: Tensor
) -> Tensor:
    """The first k directions of an order, at the norm of the top k."""
    d, indices = decompositions[name], order[name][:k]
    norm = d.sigma[indices].norm()
    return d.added_to(base, indices, float(d.sigma[:k].norm() / norm)) if norm > 0 else base


def _largest(decompositions: Decompositions, k: int) -> Replacement:
    """The largest singular values over all matrices, as many as k in each would be."""
    values = torch.cat([d.sigma for d in decompositions.values()]).cpu()
    owners = torch.cat([torch.full((len(d.sigma),), i) for i, d in enumerate(decompositions.values())])
    owners_of_largest = owners[values.sort(descending=True, stable=True).indices[: k * len(decompositions)]]
    numbers = torch.bincount(owners_of_largest, minlength=len(decompositions)).tolist()
    counts = dict(zip(decompositions, numbers, strict=True))
    return lambda name, base, _: decompositions[name].added_to(base, slice(counts[name]))


def _times(share: float, name: str, base: Tensor, tuned: Tensor) -> Tensor:
    return torch.lerp(base, tuned, share)


def _scaled(decompositions: Decompositions, k: int, name: str, base: Tensor, tuned: Tensor) -> Tensor:
    sigma = decompositions[name].sigma
    return torch.lerp(base, tuned, float(sigma[:k].norm() / sigma.norm())) if sigma.any() else tuned
