"""What is known of a model without its weights, from a config.json that is checked before transformers reads it."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lorax_lab.data.assets import sha256_of_file
from lorax_lab.errors import ConfigError, first_line, in_short, is_out_of_memory, named, suggest
from lorax_lab.models.files import quiet, resolve
from lorax_lab.models.matrices import shapes_of
from lorax_lab.models.tensor_files import read_json

MOST = {
    "^num_labels$": 100_000,
    r"(^|_)(n?_?layers?|depths?|blocks)($|_)": 1000,
    r"positions?($|_)": 2**24,
    "": 2**31 - 1,
}
"""The largest number of a setting, by the first pattern that fits its name. Published models have under 200 layers; a
model makes a list of its positions."""
DEEPEST = 32
"""How deep a configuration is nested."""
COUNTS = re.compile(
    r"(hidden|intermediate|vocab|embedding)_size|max_position_embeddings|d_(model|ff|kv)|n_(embd|layer|head|positions)"
    r"|num_(hidden_layers|attention_heads|key_value_heads|layers|heads|labels|channels)"
    r"|(encoder|decoder)_(layers|attention_heads|ffn_dim)|max_(source|target)_positions"
)
"""Settings that are whole numbers from 1 on, in every family that has them."""
ACTIVATION = re.compile(r"hidden_act(ivation)?|activation_function")
DROPOUT = re.compile(r"dropout|pdrop|layerdrop")
REFUSED = {
    "transformers_weights": "it names other files for the weights; leave it out, and name the file model.safetensors",
    "quantization_config": "quantized weights are not trained; dequantize the model and save it",
}
MAY_BE_NULL = re.compile(r"num_key_value_heads|(intermediate|embedding)_size|d_ff|n_inner")
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
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
    if _sees_ahead(model) or (reads_encoder and not getattr(model.config, "is_encoder_decoder", True)):
        reason = f"a {config.model_type} reads what it should predict, or an encoder that is not there"
        instead = "type model=smollm2, or name a model such as GPT-2 or Llama"
        raise ConfigError(f"model={name} is no causal language model: {reason}; {instead}")
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
    """How many tokens the model `name` reads or writes of one input, by its positions and its tokenizer; None where
    neither bounds them. RoBERTa and its kin count positions from after that of padding."""
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
        reason = in_short(error, 300) if first.endswith(":") else first
        problem = f"cannot be read from {folder} ({type(error).__name__}): {reason}; save it again with save_pretrained"
        if "Unrecognized configuration class" in first:  # transformers lists every type that the auto-class reads
            kind = auto_class.removeprefix("AutoModelFor")
            problem = f"is no model that transformers can read for this kind of task ({kind}); name another task.kind"
        if auto_class == "AutoImageProcessor":
            problem = f"has no image processor that can be read in {folder} ({first}); save it beside the model"
        raise ConfigError(f"model={name} {problem}, or name another model") from error


# ---- what a config.json may say: sizes that can be, no other place for the weights, and no code


def check_settings(name: str, folder: Path) -> None:
    """Refuse a config.json that no model can be built from, before transformers reads it: building 100,000 layers takes
    all time and memory there is. A ConfigError names the key, its value, and what is allowed."""
    path = folder / "config.json"
    with named(f"model={name}"):
        content = read_json(path)
    if (folder / "adapter_config.json").is_file():
        held = f"{folder} holds an adapter, whose base would be read in its place"
        raise ConfigError(f"model={name}: {held}; merge it, or name a folder with a base alone")
    for key, reason in REFUSED.items():
        if content.get(key):
            raise ConfigError(f"model={name}: {key}={content[key]!s:.40} in {path} is not possible: {reason}")
    check_content(name, path, content)


def check_content(name: str, path: Path, content: dict[str, Any]) -> None:
    """Refuse sizes that no model can have, wherever they are in a configuration, and a model_type that transformers
    does not know, as `check_settings` does."""
    from transformers import CONFIG_MAPPING, __version__

    for key, value in _walk(name, path, content):
        if reason := _fault(key.rpartition(".")[2], value):
            raise ConfigError(f"model={name}: {key}={value!s:.40} in {path} is not possible: {reason}")
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        nearest = suggest(str(kind), tuple(CONFIG_MAPPING)).partition("allowed:")[0]
        code = "; the code that it brings (auto_map) is never run" if "auto_map" in content else ""
        unknown = f"model_type={kind!s:.40} in {path} is no architecture of transformers {__version__}"
        raise ConfigError(f"model={name}: {unknown}{code}; {nearest}type model=minilm, or name another model")


def _walk(name: str, path: Path, content: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every value with its dotted key; a list's entries have the key of the list."""
    if depth > DEEPEST:
        raise ConfigError(f"model={name}: {path} is nested more than {DEEPEST} deep; copy it again")
    if key:
        yield key, content
    if isinstance(content, dict):
        for inner, value in content.items():
            yield from _walk(name, path, value, f"{key}.{inner}" if key else str(inner), depth + 1)
    elif isinstance(content, list):
        for value in content:
            yield from _walk(name, path, value, key, depth + 1)


def _fault(key: str, value: Any) -> str | None:
    from transformers.activations import ACT2FN

    if isinstance(value, float) and not math.isfinite(value) and key != "time_step_limit":  # Mamba-2's has no end
        return "allowed are finite numbers"
    if key in ("attn_implementation", "_attn_implementation") and value not in (None, *ATTENTION):
        return f"allowed: {', '.join(ATTENTION)}"
    if ACTIVATION.fullmatch(key) and value is not None and str(value) not in ACT2FN:
        return suggest(str(value), tuple(ACT2FN))
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    may_be = isinstance(value, list) or (value is None and MAY_BE_NULL.fullmatch(key))
    if COUNTS.fullmatch(key) and not may_be and (not is_whole or value < 1):
        return "allowed are whole numbers from 1 on"
    if DROPOUT.search(key) and isinstance(value, int | float) and not 0 <= value <= 1:
        return "allowed are numbers from 0 to 1"
    if key == "id2label" and not isinstance(value, dict | None):
        return "allowed is an object, from numbers to names"
    most = next(most for pattern, most in MOST.items() if re.search(pattern, key))
    if is_whole and value > most:
        return f"allowed are numbers up to {most:,}; correct it, or name another model"
    return None
