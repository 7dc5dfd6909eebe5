"""What is known of a model without its weights: its matrices, its vocabulary, how many tokens it reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lorax_lab.data.assets import sha256_of_file
from lorax_lab.errors import ConfigError, first_line, in_short, is_out_of_memory
from lorax_lab.models.files import quiet, resolve
from lorax_lab.models.matrices import shapes_of
from lorax_lab.models.settings import check_settings

UNBOUNDED = 10**9
"""Tokenizers without a bound of their own say a number far above this one."""


def matrix_shapes(name: str, model_class: str = "AutoModelForSequenceClassification") -> dict[str, tuple[int, int]]:
    """`shapes_of` the model `name`, from its configuration alone: no weight is read or drawn."""
    shapes = shapes_of(without_weights(name, model_class))
    if not shapes:
        nothing = "has no linear layer, so nothing of it is adapted or measured"
        raise ConfigError(f"model={name} {nothing}; name another model")
    return shapes


def without_weights(name: str, model_class: str) -> nn.Module:
    """The model without its weights, on the meta device."""
    folder = resolve(name)
    check_settings(name, folder)
    return _built(name, folder, model_class, sha256_of_file(folder / "config.json"))


@lru_cache(maxsize=2)
def _built(name: str, folder: Path, model_class: str, config_sha256: str) -> nn.Module:
    import transformers

    with readable(name, folder, model_class), torch.device("meta"), quiet():
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        reads_encoder = getattr(config, "is_encoder_decoder", False)
        model: nn.Module = getattr(transformers, model_class).from_config(config, trust_remote_code=False)
    reason = None
    if _sees_ahead(model):
        reason = f"is no causal language model: a {config.model_type} reads what it should predict"
    elif reads_encoder and not getattr(model.config, "is_encoder_decoder", True):
        reason = f"is a {config.model_type}, whose decoder reads its encoder, and here there is none"
    if reason:
        raise ConfigError(f"model={name} {reason}; type model=smollm2, or name a model such as GPT-2 or Llama")
    return model


def _sees_ahead(model: Any) -> bool:
    """Whether a model that generates text from its own beginning was trained to see the text's end as well, as encoders
    are. GPT-NeoX's configuration does not say that it is a decoder, which it always is."""
    if model.config.model_type.startswith("gpt_neox"):
        return False
    alone = model.can_generate() and not getattr(model.config, "is_encoder_decoder", False)
    return bool(alone and getattr(model.config, "is_decoder", True) is False)


def vocabulary(name: str, model_class: str = "AutoModelForSequenceClassification") -> int | None:
    """How many tokens the model `name` knows: the rows of its embedding. None where it reads no tokens."""
    model: Any = without_weights(name, model_class)
    embedding = model.get_input_embeddings()
    return embedding.num_embeddings if isinstance(embedding, nn.Embedding) else None


def most_tokens(name: str, processor: Any, model_class: str = "AutoModelForSequenceClassification") -> int | None:
    """How many tokens the model `name` reads or writes of one input: its positions, or fewer if its tokenizer says so;
    None where neither bounds them. RoBERTa and its kin count positions from after that of padding."""
    model: Any = without_weights(name, model_class)
    config = model.config
    unused = [
        module.padding_idx + 1
        for key, module in model.named_modules()
        if key.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
    ]
    positions = getattr(config, "max_position_embeddings", None)
    limits = [
        positions - max(unused, default=0) if isinstance(positions, int) else None,
        getattr(config, "max_target_positions", None),
        getattr(tokenizer_of(processor), "model_max_length", None),
    ]
    return min((limit for limit in limits if isinstance(limit, int) and 0 < limit < UNBOUNDED), default=None)


def tokenizer_of(processor: Any) -> Any:
    """A processor's tokenizer, which may be itself; None where it reads no text."""
    tokenizer = getattr(processor, "tokenizer", processor)
    return tokenizer if hasattr(tokenizer, "pad_token") else None


@contextmanager
def readable(name: str, folder: Path, auto_class: str) -> Iterator[None]:
    """What a library raises over files that it cannot read, as a ConfigError; memory that runs out stays what it is."""
    try:
        yield
    except Exception as error:  # the tokenizers and safetensors libraries have types of their own
        if isinstance(error, ConfigError) or is_out_of_memory(error):
            raise
        first = first_line(error)
        problem = f"cannot be read from {folder} ({type(error).__name__}): {first}; save it again with save_pretrained"
        if first.endswith(":"):
            problem = problem.replace(first, in_short(error, 300))
        if "Unrecognized configuration class" in first:  # transformers lists every type that the auto-class reads
            kind = auto_class.removeprefix("AutoModelFor")
            problem = f"is no model that transformers can read for this kind of task ({kind}); name another task.kind"
        if auto_class == "AutoImageProcessor":
            problem = f"has no image processor that can be read in {folder} ({first}); save it beside the model"
        raise ConfigError(f"model={name} {problem}, or name another model") from error
