"""LoRA adapters in PEFT's file format, both ways: ours load in PEFT and PEFT's load in ours.

A folder holds `adapter_model.safetensors` (keys `base_model.model.<module>.lora_A.weight`, and the head under
its own name) and `adapter_config.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.errors import ConfigError, suggest
from lorax_lab.methods.lora_layer import LoRALinear, lora_layers, scaling_of, set_module
from lorax_lab.methods.peft_files import (
    PREFIX,
    SETTINGS,
    WEIGHTS,
    Parts,
    Settings,
    by_module,
    check_parts,
    number,
    number_for,
    read_files,
    start_of,
)
from lorax_lab.models import head_modules, is_head, shapes_of
from lorax_lab.spectra import LowRank

UNSUPPORTED = {"use_dora": False, "bias": "none", "lora_bias": False, "layer_replication": None}


def export(model: nn.Module, base_name: str, alpha: float, dropout: float, rslora: bool) -> dict[str, dict[str, Any]]:
    """The adapter's two files by name: tensors for the weights, plain values for the settings.

    `base_name` is the base's public name; the path it was read from is never written.
    """
    layers, heads = lora_layers(model), head_modules(model)
    tensors = {}
    for name, layer in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = layer.lora_A.detach()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = layer.lora_B.detach()
    tensors |= {PREFIX + name: p.detach() for name, p in model.named_parameters() if is_head(name, heads)}
    conv1d = any(type(layer.base).__name__ == "Conv1D" for layer in layers.values())
    ranks = {name: layer.lora_A.shape[0] for name, layer in layers.items()}
    rank = next(iter(ranks.values()))
    others = {name: own for name, own in ranks.items() if own != rank}
    settings = {
        "peft_type": "LORA",
        "task_type": _task_type(model),
        "base_model_name_or_path": base_name,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "use_rslora": rslora,
        "target_modules": list(layers),
        "modules_to_save": heads,
        "fan_in_fan_out": conv1d,
        "bias": "none",
        "inference_mode": True,
    } | ({"rank_pattern": others} if others else {})
    return {WEIGHTS: tensors, SETTINGS: settings}


def _task_type(model: Any) -> str:
    """What PEFT wraps the model as: by this it finds the head, or that there is none."""
    causal = model.can_generate() and not getattr(model.config, "is_encoder_decoder", False)
    return "CAUSAL_LM" if causal else "SEQ_CLS"


@dataclass(frozen=True, eq=False)
class Saved:
    """What a LoRA's two files hold.

    Args:
        factors: ΔW by the dotted name of the matrix, as saved.
        head: what takes the place of the base's parameters of the same names.
        rank: of the settings; a matrix may have another by their `rank_pattern`.
        base_name: the base's name, or its path where it was trained, if the settings give one.
    """

    factors: dict[str, LowRank]
    head: dict[str, Tensor]
    rank: float
    dropout: float
    base_name: str | None


def read(folder: Path, shapes: dict[str, tuple[int, int]]) -> Saved:
    """The plain LoRA saved in `folder`, by us or by PEFT, for a base whose matrices have these shapes (out, in).

    Raises:
        ConfigError: no adapter there, another adapter method, a matrix the base does not have, a shape or a rank that
            does not fit, or a number that is not finite.
    """
    settings, tensors = _read(folder)
    try:
        modules, head = by_module(tensors)
        factors = {name: _factors(name, parts, settings, shapes) for name, parts in modules.items()}
        rank, dropout = number("r", settings.get("r")), number("lora_dropout", settings.get("lora_dropout", 0.0))
        if not 0 <= dropout < 1:
            raise ConfigError(f"lora_dropout={dropout} is not possible: allowed are numbers from 0 to 1, without 1")
    except ConfigError as error:
        raise ConfigError(f"{folder}: {error}") from None
    if bad := [key for key, tensor in head.items() if not torch.isfinite(tensor).all()]:
        raise ConfigError(f"{folder}: {bad[0]} has nan or inf inside: a diverged run or a bad file")
    return Saved(factors, head, rank, dropout, settings.get("base_model_name_or_path") or None)


def load(model: nn.Module, folder: Path) -> None:
    """Put the adapter saved in `folder`, by us or by PEFT, onto a bare base model, head included.

    Raises:
        ConfigError: as `read`, or a head that does not fit; the model is as it was.
    """
    saved = read(folder, shapes_of(model))
    _load_head(model, saved.head, folder)
    model.requires_grad_(False)
    for name, update in saved.factors.items():
        layer = LoRALinear(model.get_submodule(name), len(update.A), update.scaling, saved.dropout)
        with torch.no_grad():
            layer.lora_A.copy_(update.A)
            layer.lora_B.copy_(update.B)
        layer.train(model.training)
        set_module(model, name, layer)
    heads = head_modules(model)
    for name, parameter in model.named_parameters():
        if is_head(name, heads):
            parameter.requires_grad_(True)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    settings, tensors = read_files(folder)
    if settings.get("peft_type") != "LORA":
        raise ConfigError(f"{folder}: peft_type={settings.get('peft_type')} is not possible; allowed: LORA")
    for key, plain in UNSUPPORTED.items():
        if settings.get(key, plain) != plain:
            raise ConfigError(f"{folder}: {key}={settings[key]} is not possible; allowed: {plain}")
    if start_of(settings):
        start = settings["init_lora_weights"]
        raise ConfigError(f"{folder}: init_lora_weights={start} changes the base; save it converted to a plain LoRA")
    return settings, tensors


def _factors(name: str, parts: Parts, settings: Settings, shapes: dict[str, tuple[int, int]]) -> LowRank:
    if name not in shapes:
        raise ConfigError(f"no matrix {name} in the model; {suggest(name, tuple(shapes))}")
    check_parts(parts, settings)
    a, b = parts["lora_A"], parts["lora_B"]
    if (b.shape[0], a.shape[1]) != shapes[name] or b.shape[1] != a.shape[0]:
        raise ConfigError(f"{name} is {(b.shape[0], a.shape[1])}, the model's matrix is {shapes[name]}")
    rank, alpha = number_for(settings, "r", name), number_for(settings, "lora_alpha", name)
    if len(a) != rank:
        raise ConfigError(f"the factors of {name} have rank {len(a)}, but the settings give {rank}")
    return LowRank(b, a, scaling_of(alpha, len(a), bool(settings.get("use_rslora"))))


def _load_head(model: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    own = model.state_dict()
    wrong = [key for key, t in tensors.items() if key not in own or own[key].shape != t.shape]
    if wrong:
        raise ConfigError(f"{folder}: the model's head does not fit these saved tensors: {', '.join(wrong)}")
    model.load_state_dict(tensors, strict=False)
