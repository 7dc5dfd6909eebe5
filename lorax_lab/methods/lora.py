"""LoRA: ΔW = scaling · B A beside frozen weights (Hu et al. 2021, https://arxiv.org/abs/2106.09685, §4.1)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.config import MethodConfig
from lorax_lab.config.checks import require, require_positive
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.methods import peft_format
from lorax_lab.methods.lora_layer import LoRALinear, lora_layers, scaling_of, set_module
from lorax_lab.methods.method import Method, Shapes
from lorax_lab.methods.peft_files import WEIGHTS
from lorax_lab.models import head_modules, is_head, shape_of, shapes_of
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
    """

    name: str = "lora"
    alpha: float = 16.0
    dropout: float = 0.0
    rslora: bool = False
    ranks: Any = field(default_factory=list, metadata={"neutral": []})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("method.alpha", self.alpha)
        ok = 0 <= self.dropout < 1
        require(ok, "method.dropout", self.dropout, "0 ≤ dropout < 1, for instance method.dropout=0.1")
        ok = isinstance(self.ranks, list) and all(OWN_RANK.fullmatch(str(own)) for own in self.ranks)
        require(ok, "method.ranks", self.ranks, "ends of names and ranks, for instance method.ranks=[query:12,value:4]")
        self.ranks = sorted(set(self.ranks))

    def every_rank(self, rank: int) -> list[int]:
        """The ranks that matrices may have, where the run's is `rank`."""
        return [rank, *(int(text.rpartition(":")[2]) for text in self.ranks)]

    def rank_of(self, name: str, rank: int) -> int:
        """The rank of the matrix of that dotted name, where the run's is `rank`.

        Raises:
            ConfigError: two entries of `ranks` are of this matrix.
        """
        own = [(end, int(number)) for end, _, number in (text.rpartition(":") for text in self.ranks)]
        of_name = [number for end, number in own if f".{name}".endswith(f".{end}")]
        if len(of_name) > 1:
            raise ConfigError(f"method.ranks={self.ranks} gives {name} several ranks; name each matrix once")
        return of_name[0] if of_name else rank


def check(settings: LoraConfig, rank: int | None, shapes: Shapes) -> None:
    """The rank of each target is at most its smaller side, and `ranks` names targets.

    Raises:
        ConfigError: it is above; the message names the highest that is possible. Or an entry of `ranks` names
            no target.
    """
    assert rank is not None, "LoRA has a rank"
    ranks = {name: settings.rank_of(name, rank) for name in shapes}
    for text in settings.ranks:
        end = text.rpartition(":")[0]
        known = tuple(dict.fromkeys(name.rpartition(".")[2] for name in shapes))
        ok = any(f".{name}".endswith(f".{end}") for name in shapes)
        require(ok, "method.ranks", text, f"{end} is the end of no target's name; {suggest(end, known)}")
    smallest = min(shapes, key=lambda name: min(shapes[name]) - ranks[name])
    highest, own = min(shapes[smallest]), ranks[smallest]
    above = f"{own} is above min(out, in) = {highest} of {smallest}"
    if own > highest and own == rank:
        raise ConfigError(f"rank={above}; type rank={highest}")
    require(own <= highest, "method.ranks", settings.ranks, f"{above}")


def attach(
    model: nn.Module, names: list[str], settings: LoraConfig, rank: int | None, generator: torch.Generator
) -> None:
    """Freeze the body, put a `LoRALinear` at each name, leave the head trainable.

    A is Kaiming-uniform with a = √5, that is U(−1/√in, 1/√in), as in the paper's own code; B is zero.

    Raises:
        ConfigError: as `check`.
    """
    targets = {name: model.get_submodule(name) for name in names}
    check(settings, rank, {name: shape_of(module) for name, module in targets.items()})
    assert rank is not None
    heads = head_modules(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_head(name, heads))
    for name, module in targets.items():
        own = settings.rank_of(name, rank)
        layer = LoRALinear(module, own, scaling_of(settings.alpha, own, settings.rslora), settings.dropout)
        nn.init.kaiming_uniform_(layer.lora_A, a=math.sqrt(5), generator=generator)
        layer.train(model.training)
        set_module(model, name, layer)


def updates(model: nn.Module, base: dict[str, Tensor]) -> dict[str, Update]:
    """ΔW of each adapted matrix as `LowRank` factors; `base` is not needed."""
    return {name: layer.delta() for name, layer in lora_layers(model).items()}


def merge(model: nn.Module) -> None:
    """Merge every LoRA layer of the model."""
    for layer in lora_layers(model).values():
        layer.merge()


def unmerge(model: nn.Module) -> None:
    """Undo `merge`, to the bit."""
    for layer in lora_layers(model).values():
        layer.unmerge()


def detach(model: nn.Module) -> None:
    """Take the LoRA layers out again and leave the base as it was."""
    unmerge(model)
    for name, layer in lora_layers(model).items():
        set_module(model, name, layer.base)


def export(model: nn.Module, settings: LoraConfig, base_name: str) -> dict[str, dict[str, Any]]:
    """The adapter's two files in PEFT's format."""
    return peft_format.export(model, base_name, settings.alpha, settings.dropout, settings.rslora)


def saved_updates(folder: Path, model: nn.Module, base: dict[str, Tensor]) -> dict[str, Update]:
    """ΔW of the adapter saved in `folder`; `model` is a bare base.

    Raises:
        ConfigError: as `peft_format.read`.
    """
    return {**peft_format.read(folder, shapes_of(model)).factors}


METHOD = Method(
    settings=LoraConfig,
    weights=WEIGHTS,
    check=check,
    attach=attach,
    updates=updates,
    export=export,
    load=peft_format.load,
    saved_updates=saved_updates,
    merge=merge,
    unmerge=unmerge,
    update_rank="≤ r",
    most_rank=lambda settings, rank, shape: min(max(settings.every_rank(rank or 0)), *shape),
    multiplies_only=True,
)
