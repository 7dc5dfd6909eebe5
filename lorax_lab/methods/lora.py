"""LoRA: ΔW = scaling · B A beside frozen weights (Hu et al. 2021, https://arxiv.org/abs/2106.09685, §4.1)."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.config import MethodConfig
from lorax_lab.config.checks import POSITIVE, require
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.methods.adapters import PREFIX, SETTINGS, WEIGHTS, Adapter, number, read_adapter
from lorax_lab.methods.lora_layer import LoRALinear, lora_layers, scaling_of
from lorax_lab.methods.method import Method, Shapes
from lorax_lab.methods.quantized import BITS, QuantizedLinear, check_installed
from lorax_lab.models import adaptable, head_modules, head_parameters, is_head, shape_of, shapes_of
from lorax_lab.models.matrices import Turned, is_read
from lorax_lab.models.tensor_files import WEIGHT_DTYPES, dtype_of
from lorax_lab.spectra import Update

OWN_RANK = re.compile(r"[^:\s]+:[1-9]\d*")
"""The end of a name and a rank."""


@dataclass
class LoraConfig(MethodConfig):
    """LoRA's settings beside the run's rank.

    Attributes:
        alpha: scaling = alpha / rank, or alpha / √rank with rslora. 16 is twice the default rank.
        dropout: share of the adapter's inputs that training drops.
        rslora: Kalajdzievski 2023, https://arxiv.org/abs/2312.03732.
        ranks: of matrices that have another rank than the run's, by the ends of their names: `[query:12, value:4]`.
            The scaling is of each matrix's own rank.
        others: whether what is no matrix of the body trains too, in full: embeddings, norms and biases.
        bits: of the frozen matrices that are adapted; in fewer than 32 they are rounded after the base is scored.
    """

    name: str = "lora"
    alpha: float = field(default=16.0, metadata=POSITIVE)
    dropout: float = 0.0
    rslora: bool = False
    ranks: Any = field(default_factory=list, metadata={"neutral": []})
    others: bool = field(default=False, metadata={"neutral": False})
    bits: int = field(default=32, metadata={"neutral": 32})

    @property
    def packages(self) -> tuple[str, ...]:
        """What rounds the base, where something does."""
        return ("bitsandbytes",) if self.bits < 32 else ()

    def __post_init__(self) -> None:
        super().__post_init__()
        ok = 0 <= self.dropout < 1
        require(ok, "method.dropout", self.dropout, "0 ≤ dropout < 1, for instance method.dropout=0.1")
        ok = isinstance(self.ranks, list) and all(OWN_RANK.fullmatch(str(text)) for text in self.ranks)
        require(ok, "method.ranks", self.ranks, "ends of names and ranks, for instance method.ranks=[query:12,value:4]")
        self.ranks = sorted(set(self.ranks))
        require(self.bits in BITS, "method.bits", self.bits, f"allowed: {', '.join(map(str, BITS))}")

    @property
    def own_ranks(self) -> list[tuple[str, int]]:
        """`ranks` as pairs: the end of a name, and the rank."""
        parts = [text.rpartition(":") for text in self.ranks]
        return [(end, int(rank)) for end, _, rank in parts]

    def rank_of(self, name: str, rank: int) -> int:
        """The rank of the matrix of that dotted name, where the run's is `rank`.

        Raises:
            ConfigError: two entries of `ranks` are of this matrix.
        """
        fitting = [own_rank for end, own_rank in self.own_ranks if f".{name}".endswith(f".{end}")]
        if len(fitting) > 1:
            raise ConfigError(f"method.ranks={self.ranks} gives {name} several ranks; name each matrix once")
        return fitting[0] if fitting else rank


def check(settings: LoraConfig, rank: int | None, shapes: Shapes) -> None:
    """The rank of each target is at most its smaller side, and `ranks` names targets: a ConfigError has the highest
    rank that is possible, or the entry that names none."""
    assert rank is not None, "LoRA has a rank"
    check_installed(settings.bits)
    ranks = {name: settings.rank_of(name, rank) for name in shapes}
    ends = tuple(dict.fromkeys(name.rpartition(".")[2] for name in shapes))
    for end, own_rank in settings.own_ranks:
        ok = any(f".{name}".endswith(f".{end}") for name in shapes)
        allowed = f"{end} is the end of no target's name; {suggest(end, ends)}"
        require(ok, "method.ranks", f"{end}:{own_rank}", allowed)
    smallest = min(shapes, key=lambda name: min(shapes[name]) - ranks[name])
    highest, rank_there = min(shapes[smallest]), ranks[smallest]
    above = f"{rank_there} is above min(out, in) = {highest} of {smallest}"
    if rank_there > highest and rank_there == rank:
        raise ConfigError(f"rank={above}; type rank={highest}")
    require(rank_there <= highest, "method.ranks", settings.ranks, above)


def check_base(settings: LoraConfig, model: nn.Module, names: list[str]) -> None:
    """With `others`, a parameter beside matrices in one module, as DeBERTa's `q_bias`, is a `ConfigError`: PEFT saves
    such a module whole, or adapts it, not both."""
    heads, matrices = head_modules(model), adaptable(model)
    for key, parameter in model.named_parameters() if settings.others else ():
        in_module = [name for name in matrices if name.startswith(f"{_module(key)}.")]
        if parameter.requires_grad and in_module and not is_head(key, heads):
            why = f"{key} and {in_module[0]} are in one module, which PEFT saves whole or adapts"
            raise ConfigError(f"method.others=true is not possible: {why}; leave method.others out")


def attach(
    model: nn.Module, names: list[str], settings: LoraConfig, rank: int | None, generator: torch.Generator
) -> None:
    """Freeze the body, or with `others` the matrices alone, and put a `LoRALinear` at each name. The head trains.

    A is Kaiming-uniform with a = √5, that is U(−1/√in, 1/√in), as in the paper's own code; B is zero. What `check`
    refuses is refused here too.
    """
    targets = {name: model.get_submodule(name) for name in names}
    check(settings, rank, {name: shape_of(module) for name, module in targets.items()})
    assert rank is not None
    _freeze_body(model, settings.others)
    for name, module in targets.items():
        own_rank = settings.rank_of(name, rank)
        layer = LoRALinear(module, own_rank, scaling_of(settings.alpha, own_rank, settings.rslora), settings.dropout)
        if settings.bits < 32 and not is_read(name):
            layer.base = QuantizedLinear(module, settings.bits)
        nn.init.kaiming_uniform_(layer.lora_A, a=math.sqrt(5), generator=generator)
        layer.train(model.training)
        model.set_submodule(name, layer)


def _freeze_body(model: nn.Module, others: bool = False) -> None:
    """Leave the head trainable and, with `others`, what is trainable and no matrix that LoRA could adapt."""
    heads, matrices = head_parameters(model), {f"{name}.weight" for name in adaptable(model)}
    for name, parameter in model.named_parameters():
        is_other = others and parameter.requires_grad and name not in matrices
        parameter.requires_grad_(is_other or name in heads)


def updates(model: nn.Module, base: dict[str, Tensor]) -> dict[str, Update]:
    """ΔW of each adapted matrix as `LowRank` factors; `base` is not needed."""
    return {name: layer.delta() for name, layer in lora_layers(model).items()}


def export(model: Any, settings: LoraConfig, base_name: str) -> dict[str, dict[str, Any]]:
    """The adapter's two files in PEFT's format by name: tensors for the weights, plain values for the settings. No path
    is written: `base_name` is the base's public name."""
    layers, heads, tensors = lora_layers(model), head_modules(model), {}
    for name, layer in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = layer.lora_A.detach()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = layer.lora_B.detach()
        if settings.others and layer.bias is not None:  # by the name that PEFT has for it
            tensors[f"{PREFIX}{name}.base_layer.bias"] = layer.bias.detach()
    trainable = {key: p for key, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    beside_lora = {key: p for key, p in trainable.items() if _module(key).removesuffix(".base") not in layers}
    in_full = head_parameters(model) | (beside_lora if settings.others else {})  # a tied weight under each of its names
    tensors |= {PREFIX + key: parameter.detach() for key, parameter in in_full.items()}
    untargeted = adaptable(model)  # of these the bias alone is saved, which `bias` names
    saved = [*heads, *(_module(key) for key in in_full if not is_head(key, heads) and _module(key) not in untargeted)]
    ranks = {name: len(layer.lora_A) for name, layer in layers.items()}
    is_causal = model.can_generate() and not getattr(model.config, "is_encoder_decoder", False)
    is_classifier = heads and model.main_input_name == "input_ids"
    stated: dict[str, Any] = {
        "task_type": "CAUSAL_LM" if is_causal else "SEQ_CLS" if is_classifier else None,  # PEFT calls the model by this
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "use_rslora": settings.rslora,
        "bias": "all" if settings.others else "none",
        "modules_to_save": list(dict.fromkeys(saved)),
        "fan_in_fan_out": any(isinstance(layer.shape, Turned) for layer in layers.values()),
    }
    return {WEIGHTS: tensors, SETTINGS: peft_settings(ranks, next(iter(ranks.values())), base_name) | stated}


def _module(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def peft_settings(ranks: Mapping[str, int], rank: int, base_name: str | None) -> dict[str, Any]:
    """PEFT's settings of a LoRA whose matrices have these ranks; those of another rank than `rank` have a pattern."""
    pattern = {f"^{re.escape(name)}$": other_rank for name, other_rank in ranks.items() if other_rank != rank}
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base_name,
        "r": rank,
        "target_modules": list(ranks),
        "bias": "none",
        "inference_mode": True,
    } | ({"rank_pattern": pattern} if pattern else {})


def read(folder: Path, shapes: Shapes) -> Adapter:
    """The plain LoRA saved in `folder`, by us or by PEFT, for a base whose matrices have these shapes. A ConfigError
    names what does not fit, or is no plain LoRA, or not finite."""
    adapter = read_adapter(folder)
    dropout = adapter.settings.get("lora_dropout", 0.0)
    if not 0 <= number("lora_dropout", dropout) < 1:
        raise ConfigError(f"{folder}: lora_dropout={dropout} is not possible: it is from 0 to 1, without 1")
    for name, update in adapter.updates.items():
        if name not in shapes:
            raise ConfigError(f"{folder}: no matrix {name} in the model; {suggest(name, tuple(shapes))}")
        if update.kind not in ("lora", "rslora"):
            raise ConfigError(f"{folder}: {name} is {update.kind}, which changes the base; allowed: a plain LoRA")
        if update.shape != tuple(shapes[name]):
            raise ConfigError(f"{folder}: {name} is {update.shape}, the model's matrix is {tuple(shapes[name])}")
    if adapter.unplaced:
        raise ConfigError(f"{folder}: {adapter.unplaced[0]} is no factor of a matrix, and nothing holds it here")
    if coded := [key for key, tensor in adapter.saved.items() if tensor.dtype not in WEIGHT_DTYPES]:
        raise ConfigError(f"{folder}: {coded[0]} is {dtype_of(adapter.saved[coded[0]])}; dequantize it first")
    if bad := [key for key, tensor in adapter.saved.items() if not torch.isfinite(tensor).all()]:
        raise ConfigError(f"{folder}: {bad[0]} has nan or inf inside: a diverged run or a bad file")
    return adapter


def load(model: nn.Module, folder: Path) -> None:
    """Put the adapter saved in `folder`, by us or by PEFT, onto a bare base model, head included. Where a ConfigError
    says that it does not fit, the model is as it was."""
    adapter = read(folder, shapes_of(model))
    parameters = model.state_dict()
    if wrong := [k for k, saved in adapter.saved.items() if k not in parameters or parameters[k].shape != saved.shape]:
        raise ConfigError(f"{folder}: the model has no place for these saved tensors: {', '.join(wrong)}")
    model.load_state_dict(adapter.saved, strict=False)
    _freeze_body(model)
    for name, update in adapter.factors.items():
        dropout = adapter.settings.get("lora_dropout", 0.0)
        layer = LoRALinear(model.get_submodule(name), len(update.A), update.scaling, dropout)
        with torch.no_grad():
            layer.lora_A.copy_(update.A)
            layer.lora_B.copy_(update.B)
        layer.train(model.training)
        model.set_submodule(name, layer)


def saved_updates(folder: Path, model: nn.Module, base: dict[str, Tensor]) -> dict[str, Update]:
    """ΔW of the adapter saved in `folder`; `model` is a bare base."""
    return {**read(folder, shapes_of(model)).factors}


METHOD = Method(
    LoraConfig, WEIGHTS, attach, updates, export, load, saved_updates,
    check=check, check_base=check_base, multiplies_only=True,
    merge=lambda model: [layer.merge() for layer in lora_layers(model).values()],
    unmerge=lambda model: [layer.unmerge() for layer in lora_layers(model).values()],  # to the bit
    most_rank=lambda settings, rank, shape: min(max(rank or 0, *(own for _, own in settings.own_ranks), 0), *shape),
)  # fmt: skip
