"""A tuned model for a task, put together from a base and the tensors of an adapter or of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from lorax_lab.audit.checkpoint import Checkpoint
from lorax_lab.audit.updates import Updates
from lorax_lab.errors import ConfigError
from lorax_lab.measure.rows import decompose
from lorax_lab.measure.truncation import Decomposition, cuts_at, under
from lorax_lab.methods.names import plain_name
from lorax_lab.methods.tensor_files import MEASURED
from lorax_lab.models import adaptable, base_weights, delta_view, head_modules, is_head
from lorax_lab.spectra import Update

Seen = TypeVar("Seen")
STATELESS = ("position_ids", "num_batches_tracked")
"""Endings of tensors in whole checkpoints that no output depends on: the model counts them itself."""
NAMED = 20
"""Tensors that a refusal names at most."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """A tuned model, its base's matrices (out, in), and the SVD of each update.

    Args:
        head: the parameters of the head, as they were tuned.
    """

    model: nn.Module
    original: dict[str, Tensor]
    decompositions: dict[str, Decomposition]
    head: dict[str, Tensor]

    @property
    def full(self) -> int:
        """The largest rank of an update."""
        return max(len(decomposition.sigma) for decomposition in self.decompositions.values())

    def under(
        self,
        ranks: Sequence[int],
        whole: Seen,
        see: Callable[[nn.Module], Seen],
        on_score: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Seen]:
        """What is seen of the model with every update cut to each of some ranks; the model is as before afterwards.

        Args:
            whole: what is seen with the whole updates.
        """
        return under(self.model, self.original, cuts_at(self.decompositions, ranks), whole, see, on_score)


def put_together(model: nn.Module, updates: Updates, tuned: Checkpoint | None) -> Tuned:
    """Put the tuned weights into a bare base with a head for the task.

    Args:
        model: the bare base; it is changed.
        updates: what is measured; its `base` is the base's checkpoint.
        tuned: the checkpoint where the updates are of a pair.

    Raises:
        ConfigError: a matrix, a head or another tensor of the adapter that does not belong to the model, or no head;
            it names them.
    """
    if updates.adapter is None:
        assert tuned is not None, "a pair has a tuned checkpoint"
        names = list(adaptable(model))
        original = base_weights(model, names)
        tensors = {plain_name(n): t for n, t in tuned.tensors.items() if t.dtype in MEASURED and t.ndim}
        _load(model, tensors, f"the checkpoint {tuned.name}")
        _check_head(model, {plain_name(name) for name in tuned.tensors}, updates)
        changed: dict[str, Update] = {name: _difference(model, name, original[name]) for name in names}
    else:
        places = _places(model, updates)
        original = base_weights(model, list(places))
        saved = _saved(model, updates)
        _load(model, saved, f"the adapter {updates.adapter.name}")
        _check_head(model, set(saved), updates)
        changed = {name: updates.adapter.updates[module].update(original[name]) for name, module in places.items()}
        _add(model, changed, original)
    heads = head_modules(model)
    head = {name: p.detach().clone() for name, p in model.named_parameters() if is_head(name, heads)}
    return Tuned(model.eval(), original, decompose(changed), head)


def _places(model: nn.Module, updates: Updates) -> dict[str, str]:
    """`{name of the model's module: name of its update}`."""
    assert updates.adapter is not None
    known = {plain_name(f"{name}.weight"): name for name, module in model.named_modules() if hasattr(module, "weight")}
    places, unknown = {}, []
    for name, update in updates.adapter.updates.items():
        place = None if update.group else known.get(plain_name(f"{name}.weight"))
        if place is None or tuple(delta_view(model.get_submodule(place)).shape) != update.shape:
            unknown.append(name)
        else:
            places[place] = name
    if unknown:
        raise ConfigError(
            f"--task: the model has no matrix for {len(unknown)} of the adapter's updates, such as {unknown[0]}; "
            "name the base that the adapter was trained on, --base BASE, or leave --task out"
        )
    return places


def _saved(model: nn.Module, updates: Updates) -> dict[str, Tensor]:
    """What an adapter saved in full, by plain name. All of it has a place in the model, else another one than the
    user's would be scored."""
    assert updates.adapter is not None
    held = {name: tensor for name, tensor in updates.adapter.saved.items() if not name.endswith(STATELESS)}
    known = {plain_name(name) for name in model.state_dict()}
    unknown = [name for name, tensor in held.items() if plain_name(name) not in known or tensor.dtype not in MEASURED]
    if left := [*updates.adapter.unplaced, *unknown]:
        names = ", ".join(left[:NAMED]) + (f" and {len(left) - NAMED} more" if len(left) > NAMED else "")
        raise ConfigError(
            f"--task: {len(left)} tensors of the adapter {updates.adapter.name} have no place in the model, so the "
            f"score would be another model's: {names}; name the base and the task that it was trained on, merge it "
            "into its base and give the merged checkpoint, or leave --task out"
        )
    return {plain_name(name): tensor for name, tensor in held.items()}


@torch.no_grad()
def _add(model: nn.Module, changed: dict[str, Update], original: dict[str, Tensor]) -> None:
    for name, update in changed.items():
        dense = update if isinstance(update, Tensor) else update.dense()
        delta_view(model.get_submodule(name)).copy_(original[name].double() + dense)


def _difference(model: nn.Module, name: str, original: Tensor) -> Tensor:
    return delta_view(model.get_submodule(name)).detach().cpu().double() - original.double()


@torch.no_grad()
def _load(model: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Put tensors by plain name into the model's parameters and saved buffers of the same names; the others stay."""
    for name, parameter in model.state_dict(keep_vars=True).items():
        if (tensor := tensors.get(plain_name(name))) is None:
            continue
        if tensor.shape != parameter.shape:
            raise ConfigError(
                f"--task: {name} is {tuple(tensor.shape)} in {source}, and {tuple(parameter.shape)} in a model for "
                "this task: name the task and the base that it was trained on"
            )
        if not torch.isfinite(tensor).all():
            raise ConfigError(f"{source}: {name} has nan or inf inside: a diverged run or a bad file")
        parameter.copy_(tensor)


def _check_head(model: nn.Module, saved: set[str], updates: Updates) -> None:
    """Refuse a head that nobody trained: neither what was tuned nor the base has it, so it was drawn at random."""
    known = saved | {plain_name(name) for name in (updates.base.tensors if updates.base else ())}
    heads = head_modules(model)
    lacking = [n for n, _ in model.named_parameters() if is_head(n, heads) and plain_name(n) not in known]
    if lacking:
        raise ConfigError(
            f"--task: {updates.title} has no head for this task: {', '.join(lacking[:3])} is in no file; name the task "
            "that it was trained on, save its head with it (modules_to_save), or leave --task out"
        )
