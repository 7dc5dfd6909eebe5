"""Which tensors of a checkpoint are one: an output layer that is the embedding under a second name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorax_lab.audit.checkpoints.names import is_embedding, natural
from lorax_lab.audit.checkpoints.stored import MEASURED, Stored, identical


def find_tied(tensors: Mapping[str, Stored]) -> dict[str, str]:
    """`{alias: kept}`: matrices with the very bits of an embedding. Reads the embeddings and what has their shape,
    in pieces, as far as they agree."""
    matrices = [n for n in sorted(tensors, key=natural) if len(tensors[n].shape) == 2 and tensors[n].dtype in MEASURED]
    tied: dict[str, str] = {}
    for kept in filter(is_embedding, matrices):
        for alias in matrices:
            if alias != kept and not {alias, kept} & tied.keys() and _same(tensors[alias], tensors[kept]):
                tied[alias] = kept
    return tied


def _same(first: Stored, second: Stored) -> bool:
    return (first.shape, first.dtype) == (second.shape, second.dtype) and identical(first, second)


def declares_ties(config: Mapping[str, Any]) -> bool:
    """Whether config.json says in so many words that the output layer is the embedding."""
    parts = [config, config.get("text_config")]
    return any(isinstance(part, Mapping) and part.get("tie_word_embeddings") is True for part in parts)
