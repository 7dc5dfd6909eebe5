"""Full fine-tuning: every weight may change; an update is the difference of fp32 tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from lorax_lab.config import MethodConfig
from lorax_lab.errors import ConfigError
from lorax_lab.methods.method import Method
from lorax_lab.models import delta_view, head_parameters, out_in
from lorax_lab.models.tensor_files import read_tensors
from lorax_lab.spectra import OneByOne

WEIGHTS = "model.safetensors"


@dataclass
class FullConfig(MethodConfig):
    """`target_modules` says which updates are measured and truncated. Every weight trains, or with `embeddings=false`
    every weight but the embeddings, which nobody measures, or with `others=false` the target matrices and the head
    alone."""

    HASHED_AS_NULL: ClassVar[tuple[str, ...]] = ("alpha", "dropout", "rslora")

    name: str = "full"
    embeddings: bool = field(default=True, metadata={"neutral": True})
    others: bool = field(default=True, metadata={"neutral": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.embeddings or self.others):
            raise ConfigError("method.embeddings=false has no effect with method.others=false; leave it out")


def attach(
    model: nn.Module, names: list[str], settings: FullConfig, rank: int | None, generator: torch.Generator
) -> None:
    """A bare base trains whole as it is; `names` only says which updates are measured. What the model's own class fixes
    stays fixed, such as the sinusoids of Whisper's encoder. An output layer that shares its weight with the embedding
    is frozen with it. Without `others` the weights of `names` train and no bias of the body."""
    assert any(p.requires_grad for p in model.parameters()), "the base was frozen before"
    if not settings.embeddings:
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                module.requires_grad_(False)
    if not settings.others:
        trained = {f"{name}.weight" for name in names} | head_parameters(model).keys()
        for name, parameter in model.named_parameters():
            if name not in trained:
                parameter.requires_grad_(False)


def updates(model: nn.Module, base: Mapping[str, Tensor]) -> OneByOne:
    """ΔW = W − W0 of each matrix in `base`, dense (out, in), fp64, on the model's device."""
    return OneByOne(base, lambda name: _difference(delta_view(model.get_submodule(name)), base[name]))


def saved_updates(folder: Path, model: nn.Module, base: Mapping[str, Tensor]) -> OneByOne:
    """ΔW of the fine-tune that `export` saved in `folder`, for each matrix in `base`; `model` is a bare base. A method
    may be attached to it before they are read."""
    tensors, modules = read_tensors(folder / WEIGHTS), {name: model.get_submodule(name) for name in base}
    return OneByOne(base, lambda name: _difference(out_in(modules[name], tensors[f"{name}.weight"]), base[name]))


def _difference(tuned: Tensor, base: Tensor) -> Tensor:
    """On the device of the tuned weight if that has fp64: a card whose fp64 is slow is still as fast as a processor."""
    device = "cpu" if tuned.device.type == "mps" else tuned.device
    return tuned.detach().to(device, torch.float64, copy=True).sub_(base.to(device))


def export(model: nn.Module, settings: FullConfig, base_name: str) -> dict[str, dict[str, object]]:
    """The file that holds every parameter, since every parameter was trained."""
    return {WEIGHTS: dict(model.state_dict())}


def load(model: nn.Module, folder: Path) -> None:
    """Put the weights that `export` saved in `folder` into a bare base, head included.

    Raises:
        ConfigError: the file is missing or damaged, or belongs to another model; the model is as it was.
    """
    model.load_state_dict(read(folder / WEIGHTS, {key: tensor.shape for key, tensor in model.state_dict().items()}))


def read(path: Path, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The tensors of a file that has these names and shapes.

    Raises:
        ConfigError: it is missing or damaged, or has others.
    """
    tensors = read_tensors(path)
    wrong = [key for key, tensor in tensors.items() if shapes.get(key) != tensor.shape]
    if wrong := wrong + [key for key in shapes if key not in tensors]:
        raise ConfigError(f"{path} does not fit the model; these differ: {', '.join(wrong[:3])}")
    return tensors


METHOD = Method(
    FullConfig, WEIGHTS, attach, updates, export, load, saved_updates, has_rank=False, is_reference=True
)  # fmt: skip
