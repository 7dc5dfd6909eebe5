"""LoRA adapters in PEFT's file format, both ways: ours load in PEFT and PEFT's load in ours.

A folder holds `adapter_model.safetensors` (keys `base_model.model.<module>.lora_A.weight`, and the head under
its own name) and `adapter_config.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.adapters import lora
from lorax_lab.adapters.peft_files import PREFIX, SETTINGS, WEIGHTS, number_for, read_files, start_of
from lorax_lab.config import ConfigError, MethodConfig, suggest
from lorax_lab.models import adaptable, delta_view, head_modules, is_head

UNSUPPORTED = {"use_dora": False, "bias": "none", "lora_bias": False, "layer_replication": None}


def export(model: nn.Module, config: MethodConfig, base_name: str) -> dict[str, dict[str, Any]]:
    """The adapter's two files by name: tensors for the weights, plain values for the settings.

    `base_name` is the base's public name; the path it was read from is never written.
    """
    layers, heads = lora.lora_layers(model), head_modules(model)
    tensors = {}
    for name, layer in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = layer.lora_A.detach()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = layer.lora_B.detach()
    tensors |= {PREFIX + name: p.detach() for name, p in model.named_parameters() if is_head(name, heads)}
    conv1d = any(type(layer.base).__name__ == "Conv1D" for layer in layers.values())
    settings = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": base_name,
        "r": next(iter(layers.values())).lora_A.shape[0],
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rslora,
        "target_modules": list(layers),
        "modules_to_save": heads,
        "fan_in_fan_out": conv1d,
        "bias": "none",
        "inference_mode": True,
    }
    return {WEIGHTS: tensors, SETTINGS: settings}


def load(model: nn.Module, folder: Path) -> None:
    """Put the adapter saved in `folder`, by us or by PEFT, onto a bare base model, head included.

    Raises:
        ConfigError: no adapter there, another adapter method, or matrices the model does not have.
    """
    settings, tensors = _read(folder)
    pairs = _pairs(tensors, folder)
    known = adaptable(model)
    for name, (a, b) in pairs.items():
        if name not in known:
            raise ConfigError(f"{folder}: no matrix {name} in the model; {suggest(name, tuple(known))}")
        shape = tuple(delta_view(known[name]).shape)
        if (b.shape[0], a.shape[1]) != shape or b.shape[1] != a.shape[0]:
            raise ConfigError(f"{folder}: {name} is {(b.shape[0], a.shape[1])}, the model's matrix is {shape}")
    _load_head(model, {key: t for key, t in tensors.items() if ".lora_" not in key}, folder)
    model.requires_grad_(False)
    for name, (a, b) in pairs.items():
        alpha = number_for(settings, "lora_alpha", name)
        scaling = lora.scaling_of(alpha, a.shape[0], bool(settings.get("use_rslora")))
        dropout = float(settings.get("lora_dropout", 0.0))
        layer = lora.LoRALinear(model.get_submodule(name), a.shape[0], scaling, dropout)
        with torch.no_grad():
            layer.lora_A.copy_(a)
            layer.lora_B.copy_(b)
        layer.train(model.training)
        lora.replace(model, name, layer)
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


def _pairs(tensors: dict[str, Tensor], folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    names = [k.removeprefix(PREFIX).removesuffix(".lora_A.weight") for k in tensors if k.endswith(".lora_A.weight")]
    try:
        return {
            name: (tensors[f"{PREFIX}{name}.lora_A.weight"], tensors[f"{PREFIX}{name}.lora_B.weight"]) for name in names
        }
    except KeyError as error:
        raise ConfigError(f"{folder}: the tensor {error} is missing from {WEIGHTS}") from None


def _load_head(model: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    state = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
    own = model.state_dict()
    wrong = [key for key, t in state.items() if key not in own or own[key].shape != t.shape]
    if wrong:
        raise ConfigError(f"{folder}: the model's head does not fit these saved tensors: {', '.join(wrong)}")
    model.load_state_dict(state, strict=False)
