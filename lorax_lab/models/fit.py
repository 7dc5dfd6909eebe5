"""Whether a checkpoint is the base that its configuration says: which tensors of the body it lacks, has too many, or
has in another shape.

What the task's class adds to the pretrained body is the head (`head_modules`, with the pooler), and may be missing; it
is drawn anew. A tensor that the model has no place for may be the head of another task, such as `cls.predictions`. A
tensor of the body is neither.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lorax_lab.errors import ConfigError
from lorax_lab.models.matrices import POOLER, head_modules, is_head, output_layer
from lorax_lab.models.weights import State, Stated, infinite, state_of, stated

SHOWN = 3
"""How many names a message lists."""
FORMER = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""Names of old checkpoints, which transformers reads as the new ones."""
PRETRAINING = ("mask_token",)
"""Parameters of a body that only its pretraining reads, so that a class for another task has no place for them."""


def check_fit(name: str, folder: Path, skeleton: nn.Module, settings: Mapping[str, Any]) -> list[str]:
    """Refuse a checkpoint that is not the base which its configuration says. No tensor's data is read.

    Returns:
        The modules of the checkpoint's own head, from which training starts; empty where a head is drawn.

    Args:
        name: the model, as typed.
        skeleton: the model without its weights, on the meta device.
        settings: of the head, as `{"num_labels": 2}`.

    Raises:
        ConfigError: it names the first tensors, how many there are, and what to type.
    """
    return list(_check(name, folder, skeleton, tuple(sorted(settings.items())), state_of(folder))[0])


def check_values(name: str, folder: Path, skeleton: nn.Module, settings: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of which a tensor that becomes a parameter has nan or inf inside. All its data is read.

    Raises:
        ConfigError: as `check_fit`; it names the first tensor, and how many there are.
    """
    _, keys = _check(name, folder, skeleton, tuple(sorted(settings.items())), state_of(folder))
    refuse_infinite(name, folder, infinite(folder, keys))


def refuse_infinite(name: str, folder: Path, bad: Sequence[str]) -> None:
    """Refuse tensors that have nan or inf inside, where there are any.

    Raises:
        ConfigError: it names the first, and how many there are.
    """
    if bad:
        several = f" and {len(bad) - 1} more tensors" if len(bad) > 1 else ""
        raise ConfigError(
            f"model={name}: {bad[0]}{several} in {folder} has nan or inf inside, in fp32: a diverged or a damaged "
            "model; name another folder"
        )


@lru_cache(maxsize=16)
def _check(
    name: str, folder: Path, skeleton: nn.Module, settings: tuple[tuple[str, Any], ...], state: State
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The modules of the checkpoint's own head, and the names of the tensors that become parameters."""
    tensors = stated(name, folder)
    model, loading = _placed(folder, skeleton, dict(settings), tensors)
    refuse_twice(name, folder, model, tensors)
    constants = {key for key, tensor in tensors.items() if tensor.dtype is None or not tensor.shape}
    unplaced = [key for key in loading["unexpected_keys"] if key not in constants and not key.endswith(PRETRAINING)]
    extra = [key for key in unplaced if is_of_body(model, key)]
    refuse_misfits(name, folder, model, loading, extra, tensors)
    heads = [head for head in head_modules(model) if head.rpartition(".")[2] != POOLER]
    drawn = any(is_head(key, heads) for key in loading["missing_keys"])
    buffers = tuple(key for key, _ in model.named_buffers())
    placed = tuple(key for key in tensors if key not in loading["unexpected_keys"] and not _ends(buffers, key))
    return () if drawn else tuple(heads), placed


def _ends(names: Collection[str], key: str) -> bool:
    """Whether a tensor's name is one of the names, or one of them without the prefix of the body."""
    return any(name == key or name.endswith(f".{key}") for name in names)


def _placed(
    folder: Path, skeleton: nn.Module, settings: dict[str, Any], tensors: Mapping[str, Stated]
) -> tuple[nn.Module, dict[str, Any]]:
    """The model of the skeleton's class with the stated tensors in place, all on the meta device, and what
    transformers says of the placing. Integers are left out: they would be cast to weights that they are not."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, **settings)
    empty = {
        key: torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        for key, tensor in tensors.items()
        if tensor.dtype is not None
    }
    model, loading = type(skeleton).from_pretrained(  # type: ignore[attr-defined]
        None,
        config=config,
        state_dict=empty,
        device_map="meta",
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    return model, loading


def refuse_twice(name: str, folder: Path, model: nn.Module, keys: Collection[str]) -> None:
    """Refuse a checkpoint that holds a tensor of the model under two names: one of them would be read, and nobody says
    which.

    Raises:
        ConfigError: it names both.
    """
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    seen: dict[str, str] = {}
    for key in keys:
        plain = key.removeprefix(prefix)
        for old, new in FORMER.items():
            plain = f"{plain.removesuffix(old)}{new}" if plain.endswith(old) else plain
        if plain in seen:
            both = f"{seen[plain]} and {key}, which are one tensor of the model"
            raise ConfigError(f"model={name}: {folder} holds {both}; save the model again with save_pretrained")
        seen[plain] = key


def is_of_body(model: nn.Module, key: str) -> bool:
    """Whether a tensor that the model has no place for belongs to a body, and not to the head of another task: it lies
    in the body's module or beside its parts, or it is a layer's tensor under a wrapper's prefix."""
    prefix = getattr(model, "base_model_prefix", "")
    children = [child for child, _ in model.named_children()]
    first, _, inside = key.partition(".")
    if prefix not in children:
        return (first in children and first not in (POOLER, output_layer(model))) or _is_wrapped(model, key, "")
    if first == prefix:
        return inside.partition(".")[0] != POOLER
    parts = [part for part, _ in model.get_submodule(prefix).named_children()]
    return (first in parts and first != POOLER) or _is_wrapped(model, key, f"{prefix}.")


def _is_wrapped(model: nn.Module, key: str, prefix: str) -> bool:
    """Whether a name ends in that of a numbered layer's tensor."""
    parts = key.split(".")
    ends = {".".join(parts[start:]) for start in range(1, len(parts)) if any(part.isdigit() for part in parts[start:])}
    return any(name.removeprefix(prefix) in ends for name, _ in model.named_parameters())


def refuse_misfits(
    name: str,
    folder: Path,
    model: nn.Module,
    loading: Mapping[str, Any],
    extra: Collection[str] = (),
    tensors: Mapping[str, Stated] | None = None,
) -> None:
    """Refuse what transformers loaded if a tensor of the body is missing, or any has another shape.

    Args:
        loading: what `from_pretrained` says with `output_loading_info`.
        extra: tensors of a body that the model has no place for.
        tensors: what the files state; without it, no dtype is named.

    Raises:
        ConfigError: it names the first tensors, how many there are, and what to type.
    """
    heads = head_modules(model)
    _refuse_shapes(name, folder, model, loading["mismatched_keys"], heads)
    floating = {key for key, tensor in model.state_dict().items() if tensor.is_floating_point()}
    missing = [key for key in loading["missing_keys"] if key in floating and not is_head(key, heads)]
    missing += _halves(model, set(loading["missing_keys"]), heads)
    if not missing and not extra:
        return
    parts = []
    if missing:
        parts.append(f"{_some(missing)} of its {len(floating)} tensors {'is' if len(missing) == 1 else 'are'} missing")
    if extra:
        parts.append(f"{_some(extra)} of its body {'has' if len(extra) == 1 else 'have'} no place in the model")
    if coded := [key for key, tensor in (tensors or {}).items() if tensor.dtype is None and len(tensor.shape) > 1]:
        parts.append(f"{_some(coded)} {'is' if len(coded) == 1 else 'are'} no floating-point numbers")
    raise ConfigError(
        f"model={name}: the weights in {folder} are not those of its config.json: {'; '.join(parts)}. What is missing "
        "would be drawn at random; save the model again with save_pretrained, or name another folder"
    )


def _refuse_shapes(name: str, folder: Path, model: nn.Module, mismatched: Any, heads: list[str]) -> None:
    wrong = sorted(mismatched, key=lambda entry: entry[0])
    body = [entry for entry in wrong if not is_head(entry[0], heads)]
    if body:
        key, stored, wanted = body[0]
        several = f" and {len(body) - 1} more" if len(body) > 1 else ""
        shapes = f"{key} is {tuple(stored)}, and {tuple(wanted)} by its config.json{several}"
        raise ConfigError(
            f"model={name}: the weights in {folder} are not those of its config.json: {shapes}; correct config.json, "
            "or name another folder"
        )
    if wrong:
        outputs = getattr(model.config, "num_labels", "")
        misfit = f"model={name} has a head of its own that does not fit the {outputs} outputs of the task"
        raise ConfigError(f"{misfit}; name a model without a head, or a task with as many classes as it has")


def _halves(model: nn.Module, missing: set[str], heads: list[str]) -> list[str]:
    """Missing tensors of a head that is there in part: the file is damaged, or it is another head."""
    absent = []
    for head in heads:
        own = {f"{head}.{key}" for key, _ in model.get_submodule(head).named_parameters()}
        absent += sorted(own & missing) if own - missing else []
    return absent


def _some(keys: Collection[str]) -> str:
    """`3 (a, b, c)`, `5 (a, b, c, …)`."""
    names = ", ".join(sorted(keys)[:SHOWN]) + (", …" if len(keys) > SHOWN else "")
    return f"{len(keys)} ({names})"
