"""A model with the layers of a PEFT method: put in, read, merged, saved and loaded.

PEFT puts its layers into the model in place, so each matrix keeps its name.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.errors import ConfigError
from lorax_lab.methods import peft_adalora
from lorax_lab.methods.adapters import PREFIX as KEY
from lorax_lab.methods.adapters import RANKNUM_EPS, SETTINGS, WEIGHTS, read_files
from lorax_lab.methods.method import Shapes
from lorax_lab.methods.peft_settings import PeftSettings, config_class, refusal
from lorax_lab.methods.peft_table import Entry
from lorax_lab.models import Turned, head_modules, is_head, out_in, shape_of
from lorax_lab.spectra import LowRank, Update

NOISE = r".*(CUDA extension|boft_n_butterfly_factor|is_gradient_checkpointing|[Ss]parse|PRNG initiali[sz]ation).*"
"""Warnings of PEFT and of what it calls that ask for nothing."""
REFUSALS = (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError, AttributeError, AssertionError, Warning)
"""How PEFT says that it cannot."""
ADAPTER = "default"
"""PEFT's name for the one adapter of a model."""


@dataclass(frozen=True)
class Attached:
    """What PEFT made of a model: its wrapper, whose inner model is ours, and the names of the matrices."""

    wrapper: Any
    entry: Entry
    names: list[str]


def attach(
    model: nn.Module, names: list[str], settings: PeftSettings, rank: int | None, generator: torch.Generator
) -> None:
    """Put PEFT's layers at these names, freeze the body's own weights and leave the head trainable.

    Raises:
        ConfigError: PEFT refuses a setting or a matrix.
    """
    shapes = {name: shape_of(model.get_submodule(name)) for name in names}
    config = settings.peft(rank, names, generator, **turned(settings, shapes))
    try:
        _inject(model, config, settings.entry, names, generator)
    except REFUSALS as error:
        raise refusal(settings, rank, error) from error


def _inject(model: nn.Module, config: Any, entry: Entry, names: list[str], generator: torch.Generator) -> None:
    from peft import PeftModel

    heads = head_modules(model)
    with drawn_from(generator), calm():
        wrapper = PeftModel(model, config)
    if entry.factors == "lora" and entry.start != "zero":
        for name in names:  # PEFT took these factors out of W0
            layer: Any = model.get_submodule(name)
            layer.started_from = _lora_factors(layer)
    for name, parameter in model.named_parameters():
        if is_head(name, heads):
            parameter.requires_grad_(True)
    if entry.stepped:
        peft_adalora.add_scores(model)
    wrapper.train(model.training)
    object.__setattr__(model, "peft_attached", Attached(wrapper, entry, names))  # no part of the model itself


def attached_to(model: Any) -> Attached:
    """What PEFT made of this model."""
    attached: Attached = model.peft_attached
    return attached


def updates(model: nn.Module, base: dict[str, Tensor]) -> dict[str, Update]:
    """ΔW of each adapted matrix: `LowRank` where it has factors, else the weight merged in fp64 less W0."""
    attached = attached_to(model)
    layers = {name: model.get_submodule(name) for name in attached.names}
    return {name: update_of(layer, attached.entry.factors, base[name]) for name, layer in layers.items()}


def merge(model: nn.Module) -> None:
    """Write W0 + ΔW into the weights, as PEFT does; the bits of what stood there are kept."""
    for name in attached_to(model).names:
        layer: Any = model.get_submodule(name)
        if not layer.merged:
            layer.base_bits = {key: p.detach().clone() for key, p in layer.get_base_layer().named_parameters()}
            with torch.no_grad(), calm():
                layer.merge()


def unmerge(model: nn.Module) -> None:
    """Undo `merge`, to the bit: PEFT would subtract ΔW again."""
    for name in attached_to(model).names:
        layer: Any = model.get_submodule(name)
        if layer.merged:
            for key, parameter in layer.get_base_layer().named_parameters():
                parameter.data.copy_(layer.base_bits[key])
            layer.merged_adapters.clear()
            del layer.base_bits


def export(model: nn.Module, settings: PeftSettings, base_name: str) -> dict[str, dict[str, Any]]:
    """The adapter's two files as PEFT writes them, the head beside it."""
    from peft import get_peft_model_state_dict

    wrapper, heads = attached_to(model).wrapper, head_modules(model)
    tensors = get_peft_model_state_dict(wrapper, save_embedding_layers=False)
    saved = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    saved |= {KEY + name: p.detach() for name, p in model.named_parameters() if is_head(name, heads)}
    config = {key: _plain(value) for key, value in wrapper.active_peft_config.to_dict().items()}
    ours = {"base_model_name_or_path": base_name, "modules_to_save": heads, "inference_mode": True}
    return {WEIGHTS: saved, SETTINGS: config | ours | {"target_modules": attached_to(model).names}}


def load(name: str, entry: Entry, model: nn.Module, folder: Path) -> None:
    """Put what `export` of the method of that name saved onto a bare base, head included.

    Raises:
        ConfigError: missing or damaged files, another method's, or tensors that do not fit; the model is as it was.
    """
    _put(name, entry, copy.deepcopy(model), folder)
    _put(name, entry, model, folder)


def saved_updates(
    name: str, entry: Entry, folder: Path, model: nn.Module, base: dict[str, Tensor]
) -> dict[str, Update]:
    """ΔW of what is saved in `folder`; `model` is a bare base and stays as it is.

    Raises:
        ConfigError: as `load`.
    """
    loaded = copy.deepcopy(model)
    _put(name, entry, loaded, folder)
    return updates(loaded, base)


def _put(name: str, entry: Entry, model: nn.Module, folder: Path) -> None:
    from peft import set_peft_model_state_dict

    content, tensors = read_files(folder)
    if content["peft_type"] != entry.type:
        raise ConfigError(f"{folder}: peft_type={content['peft_type']} is not possible; allowed: {entry.type}")
    heads = head_modules(model)
    head = {key.removeprefix(KEY): t for key, t in tensors.items() if is_head(key.removeprefix(KEY), heads)}
    factors = {key: t for key, t in tensors.items() if key.removeprefix(KEY) not in head}
    left_out = ("modules_to_save", "inference_mode", "auto_mapping")
    given = {key: value for key, value in content.items() if key not in left_out}
    try:
        config = config_class(name)(**given)
        _inject(model, config, entry, list(content["target_modules"]), torch.Generator().manual_seed(0))
        with calm():
            result: Any = set_peft_model_state_dict(attached_to(model).wrapper, factors)
        misfits = [key for key, t in head.items() if model.get_parameter(key).shape != t.shape]
        wrong = [*result.unexpected_keys, *misfits]
        if wrong or len(head) != sum(is_head(key, heads) for key, _ in model.named_parameters()):
            raise ValueError(f"these tensors do not fit the model: {', '.join(wrong[:3]) or 'its head'}")
    except REFUSALS as error:
        raise ConfigError(f"{folder} cannot be put onto the model: {error}") from error
    if bad := [key for key, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]:
        raise ConfigError(f"{folder}: {bad[0]} has nan or inf inside: a diverged run or a bad file")
    model.load_state_dict(head, strict=False)


def turned(settings: PeftSettings, shapes: Shapes) -> dict[str, Any]:
    """PEFT's setting for weights that are stored (in, out); LoRA sets it for each layer itself."""
    fields = config_class(settings.name).__dataclass_fields__
    return {"fan_in_fan_out": any(isinstance(s, Turned) for s in shapes.values())} if "fan_in_fan_out" in fields else {}


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else getattr(value, "value", value)


@contextmanager
def drawn_from(generator: torch.Generator) -> Iterator[None]:
    """Torch's global generators, from which PEFT draws, follow `generator` inside and are put back after."""
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        yield


@contextmanager
def calm() -> Iterator[None]:
    """Warnings that ask for nothing are not shown."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=NOISE)
        yield


# ---- ΔW of one layer: by its factors where it has such, else merged in fp64 and subtracted


def update_of(layer: Any, factors: str, base_weight: Tensor) -> Update:
    """ΔW (out, in) of one layer, on the CPU; `base_weight` is W0 (out, in)."""
    if factors:
        return FACTORS[factors](layer)
    merged = copy.deepcopy(layer).cpu().double().eval()
    bare = merged.get_base_layer()
    if merged.merged:
        bare.weight.data.copy_(out_in(bare, base_weight.double()))
        merged.merged_adapters.clear()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged.merge()
    return out_in(bare, bare.weight.detach()) - base_weight.cpu().double()


def _lora_factors(layer: Any) -> tuple[Tensor, Tensor]:
    return _copied(layer.lora_B[ADAPTER].weight), _copied(layer.lora_A[ADAPTER].weight)


def _lora(layer: Any) -> LowRank:
    """s B A, less the start that was taken out of W0: s (B A − B₀ A₀)."""
    B, A = _lora_factors(layer)
    scaling = float(layer.scaling[ADAPTER])
    if not hasattr(layer, "started_from"):
        return LowRank(B, A, scaling)
    first_B, first_A = layer.started_from
    return LowRank(torch.cat([B, -first_B], 1), torch.cat([A, first_A]), scaling)


def _adalora(layer: Any) -> LowRank:
    """s B (E ∘ A) / (number of directions + 1e-5)."""
    B, A, E = (_copied(part[ADAPTER]) for part in (layer.lora_B, layer.lora_A, layer.lora_E))
    scaling = float(layer.scaling[ADAPTER]) / (float(layer.ranknum[ADAPTER]) + RANKNUM_EPS)
    return LowRank(B, E.double() * A.double(), scaling)


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone()


FACTORS: dict[str, Callable[[Any], LowRank]] = {"lora": _lora, "adalora": _adalora}
