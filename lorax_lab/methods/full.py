"""Full fine-tuning: every weight may change; an update is the difference of fp32 tensors."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from lorax_lab.config import MethodConfig
from lorax_lab.models import delta_view, out_in
from lorax_lab.spectra import Update


def attach(
    model: nn.Module, names: list[str], config: MethodConfig, rank: int | None, generator: torch.Generator
) -> None:
    """Make every parameter trainable; `names` only says which updates are measured."""
    model.requires_grad_(True)


def updates(model: nn.Module, base: dict[str, Tensor]) -> dict[str, Update]:
    """ΔW = W − W0 of each matrix in `base`, dense (out, in), the difference taken in fp64."""
    return {
        name: delta_view(model.get_submodule(name)).detach().cpu().double() - weight.double()
        for name, weight in base.items()
    }


def stored_updates(path: Path, model: nn.Module, base: dict[str, Tensor]) -> dict[str, Tensor]:
    """ΔW of the fine-tune that `export` saved at `path`, for each matrix in `base`; `model` is a bare base."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as tensors:
        return {
            name: out_in(model.get_submodule(name), tensors.get_tensor(f"{name}.weight")).double() - weight.double()
            for name, weight in base.items()
        }


def export(model: nn.Module, config: MethodConfig, base_name: str) -> dict[str, dict[str, object]]:
    """The files that keep what was trained: every parameter, as `model.safetensors`."""
    return {"model.safetensors": dict(model.state_dict())}
