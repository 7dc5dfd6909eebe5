"""AdaLoRA's part in the training loop: what it adds to the loss, and how it cuts directions after each optimizer step
(Zhang et al. 2023, https://arxiv.org/abs/2303.10512). What is cut, PEFT's `RankAllocator` decides.

Its running scores are buffers of the model here, so that a checkpoint holds them and a resumed run ends in the same
bits. After the last cut they stay, and each later step sets the same directions to zero again.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.errors import ConfigError


class Scores(nn.Module):
    """Buffers that PEFT's allocator reads and replaces as a dictionary, by the names of parameters."""

    def __getitem__(self, name: str) -> Tensor:
        return self.get_buffer(name.replace(".", "/"))

    def __setitem__(self, name: str, value: Tensor) -> None:
        self.register_buffer(name.replace(".", "/"), value)


def add_scores(model: nn.Module, allocator: Any) -> None:
    """Keep the allocator's means of importance and of uncertainty (eqs. 9 and 10) in the model."""
    trained = {name: p for name, p in model.named_parameters() if ".lora_" in name}
    importance, uncertainty = Scores(), Scores()
    for name, parameter in trained.items():
        importance[name], uncertainty[name] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    model.add_module("rank_scores", nn.ModuleList([importance, uncertainty]))
    allocator.exp_avg_ipt, allocator.exp_avg_unc = importance, uncertainty
    allocator.ipt = dict.fromkeys(trained)  # PEFT would set the scores of a name that is not here to zero


def penalty(model: Any) -> Tensor:
    """orth_reg_weight · mean ‖P Pᵀ − I‖_F over the factors lora_A and, turned, lora_B (eq. 4): a scalar."""
    named = list(model.named_parameters())
    factors = [p for name, p in named if ".lora_A." in name] + [p.T for name, p in named if ".lora_B." in name]
    with torch.autocast(factors[0].device.type, enabled=False):  # near orthogonal, P Pᵀ − I is bf16's rounding
        terms = [(P @ P.T - torch.eye(len(P), device=P.device)).norm() for P in factors]
    weight: float = model.peft_attached.wrapper.active_peft_config.orth_reg_weight
    return weight * torch.stack(terms).mean()


def stepped(model: Any, step: int, steps: int) -> None:
    """Score the directions by their gradients, and set those beyond the budget of this step to zero.

    Args:
        step: the number of the optimizer step that was just taken, from 1.
        steps: of the whole training. `target_r` directions for each matrix on average are left `tfinal` steps before.

    Raises:
        ConfigError: `tinit` and `tfinal` leave no step between them.
    """
    tuner = model.peft_attached.wrapper.base_model
    settings, allocator = tuner.peft_config["default"], tuner.rankallocator
    if settings.tinit >= steps - settings.tfinal:
        both = f"method.tinit={settings.tinit} method.tfinal={settings.tfinal}"
        raise ConfigError(f"{both} leave none of {steps} steps for cuts; type method.tinit=0 method.tfinal=0")
    allocator.set_total_step(steps)
    is_last_cut = step == steps - settings.tfinal
    _, directions_left = allocator.update_and_allocate(model, step, force_mask=is_last_cut)
    settings.rank_pattern = directions_left or settings.rank_pattern
