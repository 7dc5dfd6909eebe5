"""A head that reads the mean over the tokens of the last layer, as sentence encoders are used: one linear layer.

A class of transformers for sequences has a head of its own, often with a layer that no checkpoint holds: BERT's pooler
of the first token is a square matrix, drawn at random.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lorax_lab.errors import ConfigError
from lorax_lab.models.matrices import POOLER, head_modules

BY_MEAN = "by_mean"
"""The key, among the settings of a head, that asks for it."""
NAME = "classifier"


class ByMean:
    """What a model with such a head does in place of its own `forward`."""

    def forward(self: Any, labels: Tensor | None = None, **inputs: Any) -> Any:
        """The loss, if there are labels, and the logits (n, num_labels)."""
        from transformers.modeling_outputs import SequenceClassifierOutput

        hidden = getattr(self, self.base_model_prefix)(**inputs).last_hidden_state  # (n, tokens, width)
        mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        logits = getattr(self, NAME)((hidden * mask).sum(1) / mask.sum(1))
        loss = None
        if labels is not None and self.config.problem_type == "regression":
            loss = nn.functional.mse_loss(logits.squeeze(-1), labels.to(logits.dtype))
        elif labels is not None:
            loss = nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def check_mean(name: str, model: Any) -> None:
    """Refuse a model without a last layer whose mean could be read.

    Raises:
        ConfigError: its body is no module of its own, or has two halves.
    """
    body, width = getattr(model, model.base_model_prefix, None), getattr(model.config, "hidden_size", None)
    if body is None or width is None or getattr(model.config, "is_encoder_decoder", False):
        raise ConfigError(f"task.pooling=mean: model={name} has no body that ends in one layer; type task.pooling=own")


def read_mean(model: Any) -> None:
    """Put a linear layer over the mean in the place of the model's own head, in place, drawn as the model's other
    layers are."""
    for head in head_modules(model):
        parent, _, child = head.rpartition(".")
        if child == POOLER:
            setattr(model.get_submodule(parent), child, None)
        else:
            delattr(model.get_submodule(parent), child)
    layer = nn.Linear(model.config.hidden_size, model.config.num_labels)
    with torch.no_grad():
        layer.weight.normal_(std=getattr(model.config, "initializer_range", 0.02))
        layer.bias.zero_()
    model.add_module(NAME, layer)
    kind = type(model)
    model.__class__ = type(f"{kind.__name__}ByMean", (ByMean, kind), {"__module__": kind.__module__})
