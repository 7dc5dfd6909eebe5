"""Load the frozen base with its tokenizer or other processor.

A model is a preset (`PRESETS`), a folder, or a Hugging Face id (`org/name`, `org/name@revision`), read in fp32 by the
class that the task needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lorax_lab.errors import ConfigError
from lorax_lab.models.coverage import Census, census
from lorax_lab.models.files import PUBLIC_NAMES, first_line, quiet, resolve
from lorax_lab.models.matrices import shapes_of
from lorax_lab.streams import global_stream

if TYPE_CHECKING:
    from transformers import PreTrainedModel


UNBOUNDED = 10**9
"""Tokenizers without a bound of their own say a number far above this one."""


@dataclass
class Base:
    """A pretrained model with a fresh head, its tokenizer or other processor, and its public name."""

    model: PreTrainedModel
    processor: Any
    name: str


def load_base(
    name: str,
    head: Mapping[str, Any],
    seed: int,
    model_class: str = "AutoModelForSequenceClassification",
    processor_class: str = "AutoTokenizer",
) -> Base:
    """The pretrained model in fp32 with a head drawn from the run's `init` stream.

    Args:
        head: settings of the model's configuration that shape the head, for instance `{"num_labels": 2}`.
        model_class: the auto-class of transformers that reads the model.
        processor_class: the auto-class of transformers that reads the tokenizer, or another processor.

    Raises:
        ConfigError: `name` is no preset, no folder and no hub id that can be reached from here, or no model that these
            classes read.
    """
    import transformers
    from safetensors import SafetensorError

    folder, processor = resolve(name), load_processor(name, processor_class)
    try:
        with global_stream(seed, "init"), quiet():
            model = getattr(transformers, model_class).from_pretrained(
                folder, dtype=torch.float32, trust_remote_code=False, **head
            )
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        misfit = f"model={name} has a head of its own that does not fit the {head['num_labels']} outputs of the task"
        raise ConfigError(f"{misfit}; name a model without a head, or a task with as many classes as it has") from None
    except (OSError, ValueError, KeyError, UnpicklingError, SafetensorError) as error:
        raise _unreadable(name, folder, model_class, error) from error
    _keep_fixed(model, _skeleton(name, model_class))
    if (tokenizer := _tokenizer(processor)) is not None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return Base(model, processor, PUBLIC_NAMES.get(name, _public_name(name)))


def _keep_fixed(model: nn.Module, skeleton: nn.Module) -> None:
    """Freeze what the model's own class fixes, such as the sinusoids of Whisper's encoder: `from_pretrained` of
    transformers 5 forgets it."""
    fixed = {name for name, parameter in skeleton.named_parameters() if not parameter.requires_grad}
    for name, parameter in model.named_parameters():
        if name in fixed:
            parameter.requires_grad_(False)


def load_processor(name: str, processor_class: str) -> Any:
    """The tokenizer or other processor of the model `name`; a tokenizer pads with its end token where it has no token
    for padding.

    Raises:
        ConfigError: as `load_base`; a folder without a tokenizer's files, for which transformers makes an empty one.
    """
    import transformers

    folder = resolve(name)
    try:
        processor = getattr(transformers, processor_class).from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(name, folder, processor_class, error) from error
    tokenizer = _tokenizer(processor)
    if tokenizer is not None and set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):
        raise ConfigError(f"model={name} has no tokenizer in {folder}; save the tokenizer beside the model")
    if tokenizer is not None and tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return processor


@lru_cache(maxsize=8)
def matrix_shapes(name: str, model_class: str = "AutoModelForSequenceClassification") -> dict[str, tuple[int, int]]:
    """`shapes_of` the model `name`, from its configuration alone: no weight is read or drawn.

    Raises:
        ConfigError: as `load_base`.
    """
    return shapes_of(_skeleton(name, model_class))


@lru_cache(maxsize=8)
def groups(name: str, names: tuple[str, ...], model_class: str = "AutoModelForSequenceClassification") -> Census:
    """`census` of the model `name`, from its configuration alone.

    Args:
        names: the matrices whose update is measured.

    Raises:
        ConfigError: as `load_base`.
    """
    return census(_skeleton(name, model_class), names)


@lru_cache(maxsize=2)
def _skeleton(name: str, model_class: str) -> nn.Module:
    """The model without its weights."""
    import transformers

    folder = resolve(name)
    try:
        with torch.device("meta"), quiet():
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            whole = getattr(config, "is_encoder_decoder", False)
            model: nn.Module = getattr(transformers, model_class).from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(name, folder, model_class, error) from error
    if _sees_ahead(model):
        encoder = f"model={name} is no causal language model: a {config.model_type} reads what it should predict"
        raise ConfigError(f"{encoder}; type model=smollm2, or name a model such as GPT-2 or Llama")
    if whole and not getattr(model.config, "is_encoder_decoder", True):
        half = f"model={name} is a {config.model_type}, whose decoder reads its encoder, and here there is none"
        raise ConfigError(f"{half}; type model=smollm2, or name a model such as GPT-2 or Llama")
    return model


def _sees_ahead(model: Any) -> bool:
    """Whether a model that generates text from its own beginning was trained to see the text's end as well, as encoders
    are."""
    alone = model.can_generate() and not getattr(model.config, "is_encoder_decoder", False)
    return bool(alone and getattr(model.config, "is_decoder", True) is False)


def most_tokens(name: str, processor: Any) -> int | None:
    """How many tokens the model `name` reads or writes of one input: its positions, or fewer if its tokenizer says so;
    None where neither bounds them."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(resolve(name), trust_remote_code=False)
    limits = [
        getattr(config, "max_position_embeddings", None),
        getattr(config, "max_target_positions", None),
        getattr(_tokenizer(processor), "model_max_length", None),
    ]
    known = [limit for limit in limits if isinstance(limit, int) and 0 < limit < UNBOUNDED]
    return min(known, default=None)


def _unreadable(name: str, folder: Path, auto_class: str, error: Exception) -> ConfigError:
    """Why a model or processor cannot be read; transformers lists every type that the auto-class reads."""
    if "Unrecognized configuration class" in str(error):
        kind = auto_class.removeprefix("AutoModelFor")
        unfit = f"model={name} is no model that transformers can read for this kind of task ({kind})"
        return ConfigError(f"{unfit}; name another model, or another task.kind")
    if auto_class == "AutoImageProcessor":
        missing = f"model={name} has no image processor that can be read in {folder} ({first_line(error)})"
        return ConfigError(f"{missing}; save it beside the model, as preprocessor_config.json")
    return ConfigError(f"model={name} cannot be read from {folder}: {first_line(error)}")


def _tokenizer(processor: Any) -> Any:
    """A processor's tokenizer, which may be itself; None where it reads no text."""
    tokenizer = getattr(processor, "tokenizer", processor)
    return tokenizer if hasattr(tokenizer, "pad_token") else None


def _public_name(name: str) -> str:
    return Path(name).name if Path(name).expanduser().is_dir() else name
