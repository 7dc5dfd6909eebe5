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
from torch import Tensor, nn

from lorax_lab.data.assets import State
from lorax_lab.errors import ConfigError
from lorax_lab.models.files import empty_tensors, states
from lorax_lab.models.matrices import POOLER, head_modules, is_head, output_layer
from lorax_lab.models.tensor_files import WEIGHT_DTYPES

SHOWN = 3
"""How many names a message lists."""
FORMER = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""Names of old checkpoints, which transformers reads as the new ones."""
PRETRAINING = ("mask_token",)
"""Parameters of a body that only its pretraining reads, so that a class for another task has no place for them."""


def check_fit(
    name: str, folder: Path, skeleton: nn.Module, settings: Mapping[str, Any]
) -> tuple[list[str], Sequence[str]]:
    """Refuse a checkpoint that is not the base which its configuration says. No tensor's data is read.

    Args:
        skeleton: the model without its weights, on the meta device.
        settings: of the head, as `{"num_labels": 2}`.

    Returns:
        The modules of the checkpoint's own head, from which training starts, empty where a head is drawn; and the names
        of the tensors that become parameters.

    Raises:
        ConfigError: it names the first tensors, how many there are, and what to type.
    """
    return _check_fit(name, folder, skeleton, tuple(sorted(settings.items())), states(folder))


@lru_cache(maxsize=16)
def _check_fit(
    name: str, folder: Path, skeleton: nn.Module, settings: tuple[tuple[str, Any], ...], files: tuple[State, ...]
) -> tuple[list[str], Sequence[str]]:
    tensors = empty_tensors(name, folder)
    model, loading = _placed(folder, skeleton, dict(settings), tensors)
    heads = head_modules(model)
    if fault := _twice(model, tensors) or _misshapen(model, loading["mismatched_keys"], heads):
        raise ConfigError(f"model={name}: {folder} {fault}")
    if fault := _misfits(model, loading, tensors, heads):
        raise ConfigError(
            f"model={name}: the weights in {folder} are not those of its config.json: {fault}. What is missing would "
            "be drawn at random; save the model again with save_pretrained, or name another folder"
        )
    own_head = [head for head in heads if head.rpartition(".")[2] != POOLER]
    if any(is_head(key, own_head) for key in loading["missing_keys"]):
        own_head = []
    buffers = [f".{buffer}" for buffer, _ in model.named_buffers()]  # files may name them without the body's prefix
    read = set(tensors) - set(loading["unexpected_keys"])
    return own_head, [key for key in tensors if key in read and not any(b.endswith(f".{key}") for b in buffers)]


def refuse_infinite(name: str, folder: Path, bad: Sequence[str]) -> None:
    """Refuse tensors that have nan or inf inside: a ConfigError names the first, and how many there are."""
    if bad:
        several = f" and {len(bad) - 1} more tensors" if len(bad) > 1 else ""
        why = f"{bad[0]}{several} in {folder} has nan or inf inside, in fp32: a diverged or a damaged model"
        raise ConfigError(f"model={name}: {why}; name another folder")


def _placed(
    folder: Path, skeleton: nn.Module, settings: dict[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[nn.Module, dict[str, Any]]:
    """The model of the skeleton's class with the empty tensors in place, and what transformers says of the placing.
    Integers are left out: they would be cast to weights that they are not."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, **settings)
    weights = {key: tensor for key, tensor in tensors.items() if tensor.dtype in WEIGHT_DTYPES}
    model, loading = type(skeleton).from_pretrained(  # type: ignore[attr-defined]
        None, config=config, state_dict=weights, device_map="meta", dtype=torch.float32,
        ignore_mismatched_sizes=True, output_loading_info=True,
    )  # fmt: skip
    return model, loading


def _twice(model: nn.Module, keys: Collection[str]) -> str:
    """Whether a tensor of the model is there under two names: one of them would be read, and nobody says which."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    seen: dict[str, str] = {}
    for key in keys:
        plain = key.removeprefix(prefix)
        for old, new in FORMER.items():
            plain = f"{plain.removesuffix(old)}{new}" if plain.endswith(old) else plain
        if plain in seen:
            both = f"{seen[plain]} and {key}, which are one tensor of the model"
            return f"holds {both}; save the model again with save_pretrained"
        seen[plain] = key
    return ""


def _is_of_body(model: nn.Module, key: str) -> bool:
    """Whether a tensor that the model has no place for belongs to a body, and not to the head of another task: it lies
    in the body's module or beside its parts, or its name ends in that of a numbered layer's tensor."""
    prefix = getattr(model, "base_model_prefix", "")
    children = [child for child, _ in model.named_children()]
    has_body = prefix in children
    first, _, inside = key.partition(".")
    if has_body and first == prefix:
        return inside.partition(".")[0] != POOLER
    parts = [part for part, _ in model.get_submodule(prefix).named_children()] if has_body else children
    if first in parts and first not in (POOLER, None if has_body else output_layer(model)):
        return True
    places = key.split(".")
    ends = {".".join(places[i:]) for i in range(1, len(places)) if any(part.isdigit() for part in places[i:])}
    return any(name.removeprefix(f"{prefix}." if has_body else "") in ends for name, _ in model.named_parameters())


def _misfits(model: nn.Module, loading: Mapping[str, Any], tensors: Mapping[str, Tensor], heads: list[str]) -> str:
    """Which tensors of the body are missing or have no place, and which parts of a head that is there are missing."""
    floating = {key for key, tensor in model.state_dict().items() if tensor.is_floating_point()}
    missing = {key for key in loading["missing_keys"] if key in floating and not is_head(key, heads)}
    for head in heads:
        parts = {f"{head}.{key}" for key, _ in model.get_submodule(head).named_parameters()}
        absent = parts & set(loading["missing_keys"])
        missing |= absent if absent != parts else set()
    constants = {key for key, tensor in tensors.items() if tensor.dtype not in WEIGHT_DTYPES or not tensor.ndim}
    unplaced = [key for key in loading["unexpected_keys"] if key not in constants and not key.endswith(PRETRAINING)]
    extra = [key for key in unplaced if _is_of_body(model, key)]
    if not missing and not extra:
        return ""
    coded = [key for key, tensor in tensors.items() if tensor.dtype not in WEIGHT_DTYPES and tensor.ndim > 1]
    faults = {f"of its {len(floating)} tensors are missing": missing, "have no place in the model": extra}
    faults["are no floating-point numbers"] = coded
    return "; ".join(f"{_listed(keys)} {fault}" for fault, keys in faults.items() if keys)


def _misshapen(model: nn.Module, mismatched: Any, heads: list[str]) -> str:
    wrong = sorted(mismatched, key=lambda entry: (is_head(entry[0], heads), entry[0]))
    if not wrong:
        return ""
    key, stored, wanted = wrong[0]
    if is_head(key, heads):
        outputs = getattr(model.config, "num_labels", "")
        misfit = f"has a head of its own that does not fit the {outputs} outputs of the task"
        return f"{misfit}; name a model without a head, or a task with as many classes as it has"
    several = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    shapes = f"{key} is {tuple(stored)}, and {tuple(wanted)} by its config.json{several}"
    return f"holds other weights: {shapes}; correct config.json, or name another folder"


def _listed(keys: Collection[str]) -> str:
    names = ", ".join(sorted(keys)[:SHOWN]) + (", …" if len(keys) > SHOWN else "")
    return f"{len(keys)} ({names})"
