"""Methods that train a part of the model and none of its matrices, so that ΔW is zero: the head; with it the
embeddings, or norms and biases."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.config import MethodConfig
from lorax_lab.errors import ConfigError
from lorax_lab.methods import full
from lorax_lab.methods.method import Method
from lorax_lab.models import head_parameters
from lorax_lab.spectra import Update

Part = Callable[[nn.Module], set[str]]
"""From a bare model to the dotted names of parameters of its body."""


def method(name: str, settings: type[MethodConfig], part: Part, words: str) -> Method[Any]:
    """The method of that name that trains a part of the body, none of it a matrix, and the head. `words` are what the
    part is called; empty where none of the body trains."""
    weights = f"{name}.safetensors"

    def trained(model: nn.Module) -> dict[str, nn.Parameter]:
        of_part = part(model)
        if words and not of_part:
            raise ConfigError(f"method={name} is not possible: the model has no {words}; type method=head")
        names = of_part | head_parameters(model).keys()
        return {name: parameter for name, parameter in model.named_parameters() if name in names}

    def attach(model: nn.Module, names: list[str], config: Any, rank: int | None, generator: torch.Generator) -> None:
        """Freeze all else. An output layer over a vocabulary is no head: it is pretrained."""
        chosen = trained(model)
        for key, parameter in model.named_parameters():
            parameter.requires_grad_(key in chosen)

    def export(model: nn.Module, config: Any, base_name: str) -> dict[str, dict[str, Any]]:
        return {weights: {key: p.detach() for key, p in trained(model).items()}}

    def load(model: nn.Module, folder: Path) -> None:
        """Put what `export` saved in `folder` onto a bare base; where that cannot be, the model is as it was."""
        shapes = {key: parameter.shape for key, parameter in trained(model).items()}
        model.load_state_dict(full.read(folder / weights, shapes), strict=False)

    return Method(
        settings, weights, attach, lambda model, base: _zeros(base), export, load,
        lambda folder, model, base: _zeros(base), most_rank=lambda config, rank, shape: 0,
        has_rank=False, trains_body=bool(words), multiplies_only=True,
    )  # fmt: skip


def _zeros(base: dict[str, Tensor]) -> dict[str, Update]:
    """ΔW of each matrix. The model's own may have been rounded since, for products in bf16."""
    return {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in base.items()}


@dataclass
class HeadConfig(MethodConfig):
    """`target_modules` says which updates are measured; all are zero."""

    name: str = "head"


@dataclass
class EmbeddingsConfig(MethodConfig):
    """`target_modules` says which updates are measured; all are zero."""

    name: str = "embeddings"


@dataclass
class NormsAndBiasesConfig(MethodConfig):
    """`target_modules` says which updates are measured; all are zero."""

    name: str = "norms_and_biases"


def _embeddings(model: nn.Module) -> set[str]:
    """Of every `nn.Embedding`. An output layer that shares its weight with one trains with it."""
    return {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Embedding)}


def _norms_and_biases(model: nn.Module) -> set[str]:
    """Every vector that is a `bias` by its name, and what belongs to a layer whose class is called a norm, as
    `LayerNorm` and `LlamaRMSNorm` are. BitFit (Ben Zaken et al. 2022, https://arxiv.org/abs/2106.10199) trains the
    biases alone."""
    norms = [name for name, module in model.named_modules() if "Norm" in type(module).__name__]
    places = {name: name.rpartition(".") for name, _ in model.named_parameters()}
    vectors = {name for name, parameter in model.named_parameters() if parameter.ndim < 2}
    return {name for name, (owner, _, last) in places.items() if ("bias" in last and name in vectors) or owner in norms}


HEAD = method("head", HeadConfig, lambda model: set(), "")
EMBEDDINGS = method("embeddings", EmbeddingsConfig, _embeddings, "embeddings")
NORMS_AND_BIASES = method("norms_and_biases", NormsAndBiasesConfig, _norms_and_biases, "norms and biases")
