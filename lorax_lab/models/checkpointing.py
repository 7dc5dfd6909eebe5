"""Activation checkpointing: a layer keeps its input only, and the backward pass computes the rest again (Chen et al.
2016, https://arxiv.org/abs/1604.06174). It takes less memory and one more forward pass; the numbers are the same."""

from __future__ import annotations

from typing import Any

from torch import nn


def can_checkpoint(model: nn.Module) -> bool:
    """Whether transformers knows the model's layers for it."""
    return bool(getattr(model, "supports_gradient_checkpointing", False))


def checkpoint_layers(model: Any) -> None:
    """Let every layer of the model keep its input only, in training."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
