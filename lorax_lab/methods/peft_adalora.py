"""What AdaLoRA does between optimizer steps, and to the loss (Zhang et al. 2023, https://arxiv.org/abs/2303.10512).

After each step its singular values are scored, and the least important are set to zero, until `target_r` directions
are left for each matrix on average. PEFT keeps the scores outside the model; here they are buffers of it too, so that
a checkpoint holds them and a run that resumes ends in the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.errors import ConfigError

SCORES = ("exp_avg_ipt", "exp_avg_unc")
"""PEFT's names of the running means of a weight's importance and of its uncertainty (eqs. 9 and 10)."""


LEFT = "left"
"""Which directions are not cut."""


def penalty(model: nn.Module) -> Tensor:
    """orth_reg_weight · mean ‖P Pᵀ − I‖_F over the trained factors (eq. 4)."""
    settings = _wrapper(model).active_peft_config
    factors = [(name, p) for name, p in model.named_parameters() if ".lora_A." in name or ".lora_B." in name]
    grams = [p @ p.T if ".lora_A." in name else p.T @ p for name, p in factors]
    terms = [(gram - torch.eye(len(gram), device=gram.device)).norm() for gram in grams]
    return settings.orth_reg_weight * torch.stack(terms).mean()


def stepped(model: nn.Module, step: int, steps: int) -> None:
    """Score the directions and cut them to the budget of this step.

    Raises:
        ConfigError: `tinit` and `tfinal` leave no step between them.
    """
    tuner = _wrapper(model).base_model
    settings, allocator = tuner.peft_config["default"], tuner.rankallocator
    if settings.tinit >= steps - settings.tfinal:
        both = f"method.tinit={settings.tinit} method.tfinal={settings.tfinal}"
        cure = "type method=peft/adalora method.tinit=0 method.tfinal=0"
        raise ConfigError(f"{both} leave none of the {steps} steps for cutting the rank; {cure}")
    settings.total_step = steps
    allocator.set_total_step(steps)
    scores = _scores(model)
    for kind in SCORES:
        getattr(allocator, kind).update({name: getattr(scores, _key(kind, name)) for name, _ in _trained(model)})
    allocator.ipt.update({name: torch.zeros_like(p) for name, p in _trained(model)})
    if step > steps - settings.tfinal:  # the directions are chosen: what the optimizer moved goes back to zero
        settings.rank_pattern = {
            name: getattr(scores, _key(LEFT, name)).flatten().tolist() for name, _ in _values(model)
        }
    tuner.update_and_allocate(step)
    for kind in SCORES:
        for name, value in getattr(allocator, kind).items():
            getattr(scores, _key(kind, name)).copy_(value)
    for name, values in _values(model):
        getattr(scores, _key(LEFT, name)).copy_(values != 0)


def add_scores(model: nn.Module) -> None:
    """Give the model the buffers of the scores."""
    scores = nn.Module()
    for kind in SCORES:
        for name, parameter in _trained(model):
            scores.register_buffer(_key(kind, name), torch.zeros_like(parameter))
    for name, values in _values(model):
        scores.register_buffer(_key(LEFT, name), torch.ones_like(values, dtype=torch.bool))
    model.add_module("adalora_scores", scores)


def _values(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The singular values of each matrix: a direction that is cut has a 0."""
    return [(name, p) for name, p in _trained(model) if ".lora_E." in name]


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if ".lora_" in name]


def _scores(model: nn.Module) -> Any:
    return model.get_submodule("adalora_scores")


def _key(kind: str, name: str) -> str:
    return f"{kind} {name}".replace(".", "/")


def _wrapper(model: nn.Module) -> Any:
    return model.peft_attached.wrapper  # type: ignore[union-attr]
