"""The embeddings and the head: what a task can be solved with while every matrix stays as it was pretrained."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lorax_lab.config import MethodConfig
from lorax_lab.methods import part


@dataclass
class EmbeddingsConfig(MethodConfig):
    """`target_modules` says which updates are measured; all are zero."""

    name: str = "embeddings"


def names(model: nn.Module) -> set[str]:
    """Of every `nn.Embedding`. An output layer that shares its weight with one trains with it."""
    return {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Embedding)}


METHOD = part.method("embeddings", EmbeddingsConfig, names, "embeddings")
