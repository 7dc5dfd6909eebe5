"""Every method of PEFT that changes weight matrices, as methods of the lab: `peft/lora`, `peft/oft` and so on.

What they are is in `peft_table.py`. PEFT puts its layers into the model in place, so each matrix keeps its name.
"""

import copy
import math
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.errors import ConfigError
from lorax_lab.methods import lora, peft_adalora
from lorax_lab.methods.adapters import PREFIX as KEY
from lorax_lab.methods.adapters import RANKNUM_EPS, SETTINGS, WEIGHTS, read_files
from lorax_lab.methods.method import Method, Shapes
from lorax_lab.methods.peft_settings import PREFIX, PeftSettings, config_class, refusal, settings_of
from lorax_lab.methods.peft_table import LEFT_OUT, TABLE, Entry
from lorax_lab.models import Turned, head_modules, head_parameters, is_head, is_read, like, out_in, shape_of
from lorax_lab.spectra import LowRank, Update
from lorax_lab.streams import globally_seeded

NOISE = (
    r".*(CUDA extension|boft_n_butterfly_factor|is_gradient_checkpointing|[Ss]parse|PRNG initiali[sz]ation"
    r"|rank_pattern keys did not match|LoRA tensor\(s\) have invalid shape).*"  # of matrices without a direction left
)
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
    """Put PEFT's layers at these names, freeze the body's own weights and leave the head trainable. A ConfigError has
    PEFT's reason."""
    shapes = {name: shape_of(model.get_submodule(name)) for name in names}
    config = settings.peft(rank, names, generator, **turned(settings, shapes))
    try:
        _inject(model, config, settings.entry, names, generator)
    except REFUSALS as error:
        raise refusal(settings, rank, error) from error


def _inject(model: nn.Module, config: Any, entry: Entry, names: list[str], generator: torch.Generator) -> None:
    from peft import PeftModel

    head = head_parameters(model)
    with drawn_from(generator), calm():
        wrapper = PeftModel(model, config)
    if entry.has_factors and entry.start != "zero":
        for name in names:  # PEFT took these factors out of W0
            layer: Any = model.get_submodule(name)
            layer.started_from = _factors(layer)
    if entry.cuts_rank:
        peft_adalora.add_scores(model, wrapper.base_model.rankallocator)
    for parameter in head.values():
        parameter.requires_grad_(True)
    wrapper.train(model.training)
    object.__setattr__(model, "peft_attached", Attached(wrapper, entry, names))  # no part of the model itself


def updates(model: Any, base: dict[str, Tensor]) -> dict[str, Update]:
    """ΔW of each adapted matrix: `LowRank` where it has factors, else the weight merged in fp64 less W0."""
    layers = {name: model.get_submodule(name) for name in model.peft_attached.names}
    has_factors = model.peft_attached.entry.has_factors
    return {name: update_of(layer, has_factors, base[name]) for name, layer in layers.items()}


def merge(model: Any) -> None:
    """Write W0 + ΔW into the weights, as PEFT does; the bits of what stood there are kept."""
    for layer in map(model.get_submodule, model.peft_attached.names):
        if not layer.merged:
            layer.base_bits = {key: p.detach().clone() for key, p in layer.get_base_layer().named_parameters()}
            with torch.no_grad(), calm():
                layer.merge()


def unmerge(model: Any) -> None:
    """Undo `merge`, to the bit: PEFT would subtract ΔW again."""
    for layer in map(model.get_submodule, model.peft_attached.names):
        if layer.merged:
            for key, parameter in layer.get_base_layer().named_parameters():
                parameter.data.copy_(layer.base_bits[key])
            layer.merged_adapters.clear()
            del layer.base_bits


def export(model: Any, settings: PeftSettings, base_name: str) -> dict[str, dict[str, Any]]:
    """The adapter's two files as PEFT writes them, the head beside it."""
    from peft import get_peft_model_state_dict

    wrapper, heads = model.peft_attached.wrapper, head_modules(model)
    with calm():
        tensors = get_peft_model_state_dict(wrapper, save_embedding_layers=False)
    saved = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    saved |= {KEY + name: parameter.detach() for name, parameter in head_parameters(model).items()}
    config = {key: _plain(value) for key, value in wrapper.active_peft_config.to_dict().items()}
    ours = {"base_model_name_or_path": base_name, "modules_to_save": heads, "inference_mode": True}
    return {WEIGHTS: saved, SETTINGS: config | ours | {"target_modules": model.peft_attached.names}}


def load(name: str, entry: Entry, model: nn.Module, folder: Path) -> None:
    """Put what `export` of the method of that name saved onto a bare base, head included. Where a ConfigError says that
    files are missing, damaged, or another method's, the model is as it was."""
    _put(name, entry, copy.deepcopy(model), folder)
    _put(name, entry, model, folder)


def saved_updates(
    name: str, entry: Entry, folder: Path, model: nn.Module, base: dict[str, Tensor]
) -> dict[str, Update]:
    """ΔW of what is saved in `folder`; `model` is a bare base and stays as it is."""
    loaded = copy.deepcopy(model)
    _put(name, entry, loaded, folder)
    return updates(loaded, base)


def _put(name: str, entry: Entry, model: Any, folder: Path) -> None:
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
            result: Any = set_peft_model_state_dict(model.peft_attached.wrapper, factors)
        misfits = [key for key, t in head.items() if model.get_parameter(key).shape != t.shape]
        wrong = [*result.unexpected_keys, *misfits]
        if wrong or head.keys() != head_parameters(model).keys():
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


def drawn_from(generator: torch.Generator) -> AbstractContextManager[None]:
    """Torch's global generators, from which PEFT draws, follow `generator` inside and are put back after."""
    return globally_seeded(int(torch.randint(2**62, (1,), generator=generator)))


@contextmanager
def calm() -> Iterator[None]:
    """Warnings that ask for nothing are not shown."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=NOISE)
        yield


def update_of(layer: Any, has_factors: bool, base_weight: Tensor) -> Update:
    """ΔW (out, in) of one layer, on the CPU; `base_weight` is W0 (out, in). By its factors it is s B A, less the start
    that was taken out of W0: s (B A − B₀ A₀); AdaLoRA's is s B (E ∘ A) / (number of directions + 1e-5)."""
    if has_factors and hasattr(layer, "ranknum"):
        B, A, E = (part[ADAPTER].detach().cpu().clone() for part in (layer.lora_B, layer.lora_A, layer.lora_E))
        divisor = float(layer.ranknum[ADAPTER]) + RANKNUM_EPS
        return LowRank(B, E.double() * A.double(), float(layer.scaling[ADAPTER]) / divisor)
    if has_factors:
        B, A = _factors(layer)
        if hasattr(layer, "started_from"):
            first_B, first_A = layer.started_from
            B, A = torch.cat([B, -first_B], 1), torch.cat([A, first_A])
        return LowRank(B, A, float(layer.scaling[ADAPTER]))
    merged = copy.deepcopy(layer).cpu().double().eval()
    bare = merged.get_base_layer()
    if merged.merged:
        bare.weight.data.copy_(out_in(bare, base_weight.double()))
        merged.merged_adapters.clear()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged.merge()
    return out_in(bare, bare.weight.detach()) - base_weight.cpu().double()


def _factors(layer: Any) -> tuple[Tensor, Tensor]:
    B, A = (part[ADAPTER].weight.detach().cpu().clone() for part in (layer.lora_B, layer.lora_A))
    return B, A


# ---- the methods

INSTEAD = "type method=lora, or method.target_modules=[in_proj]"
CHANGED = r"Invalid .*Adjusted|The symmetric initialization can NOT be performed"
"""Warnings of PEFT that it takes another value or another start than the one that was set."""


def check(settings: PeftSettings, rank: int | None, shapes: Shapes) -> None:
    """PEFT adapts, runs and merges one matrix of each shape before a run trains; a ConfigError has its reason."""
    if settings.entry.rank:
        lora.check(lora.LoraConfig(), rank, shapes)
    if read := next((name for name in shapes if is_read(name)), None):
        passed_by = f"Mamba reads the weight of {read} itself and would pass by a layer of PEFT"
        raise ConfigError(f"method={settings.name} is not possible for {read}: {passed_by}; {INSTEAD}")
    first_of = {(tuple(shape), isinstance(shape, Turned)): name for name, shape in reversed(shapes.items())}
    for name in reversed(first_of.values()):
        _try(settings, rank, name, shapes[name])


def _try(settings: PeftSettings, rank: int | None, name: str, shape: tuple[int, int]) -> None:
    """Adapt, run and merge one matrix. A start that takes an SVD is left out of it where another is as telling."""
    from peft import PeftModel

    draw = torch.Generator().manual_seed(0)
    config = settings.peft(rank, ["matrix"], draw, **{**turned(settings, {name: shape}), **settings.entry.quick})
    try:
        with drawn_from(draw), calm(), torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("error", message=CHANGED)
            model: Any = nn.ModuleDict({"matrix": like(shape)})
            PeftModel(model, config)
            model.matrix(torch.zeros(2, shape[1]))
            model.matrix.merge()
    except REFUSALS as error:
        where = f" for {name}, {shape[0]} × {shape[1]}{' (stored as Conv1D)' * isinstance(shape, Turned)}"
        raise refusal(settings, rank, error, where) from error


def most_rank(settings: PeftSettings, rank: int | None, shape: tuple[int, int]) -> int:
    """The rank of ΔW at most: that of the table, or the smaller side."""
    most = settings.entry.most
    return min(shape) if most is None else math.ceil(min(most(settings, rank or 0), *shape))


def refused(name: str) -> str | None:
    """Why `peft/<name>` is left out, None where it is not."""
    reason = LEFT_OUT.get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
    return reason and f"method={name} is not possible: {reason}; docs/methods.md lists those that are"


class PeftMethod(Method[PeftSettings]):
    """A method of PEFT. Its settings are PEFT's own, so PEFT is imported when they are first asked for."""

    name: str

    def __init__(self, name: str, entry: Entry) -> None:
        parts: dict[str, Any] = {
            "name": name, "weights": WEIGHTS, "attach": attach, "updates": updates, "export": export,
            "merge": merge, "unmerge": unmerge, "check": check, "load": partial(load, name, entry),
            "saved_updates": partial(saved_updates, name, entry), "start": entry.start, "most_rank": most_rank,
            "update_dtype": entry.computed_in, "has_rank": bool(entry.rank),
        }  # fmt: skip
        if entry.cuts_rank:
            parts |= {"penalty": peft_adalora.penalty, "stepped": peft_adalora.stepped}
        for key, value in parts.items():
            object.__setattr__(self, key, value)

    @cached_property
    def settings(self) -> type[PeftSettings]:
        """The dataclass of its settings."""
        return settings_of(self.name)


METHODS: dict[str, Method[Any]] = {PREFIX + name: PeftMethod(PREFIX + name, entry) for name, entry in TABLE.items()}
