"""What a model's config.json may say: sizes that can be, no other place for the weights, and no code."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lorax_lab.errors import ConfigError, cut, named, suggest
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
ADAPTER = "adapter_config.json"
MAY_BE_NULL = re.compile(r"num_key_value_heads|(intermediate|embedding)_size|d_ff|n_inner")
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")


def check_settings(name: str, folder: Path) -> None:
    """Refuse a config.json that no model can be built from, before transformers reads it: building 100,000 layers or
    naming a thousand million classes takes all time and memory there is.

    Raises:
        ConfigError: it names the key, its value, what is allowed and what to type.
    """
    path = folder / "config.json"
    with named(f"model={name}"):
        content = read_json(path)
    if (folder / ADAPTER).is_file():
        held = f"{folder} holds an adapter ({ADAPTER}), whose base would be read in its place"
        raise ConfigError(f"model={name}: {held}; merge it, or name a folder with a base alone")
    for key, reason in REFUSED.items():
        if content.get(key):
            raise ConfigError(f"model={name}: {key}={_short(content[key])} in {path} is not possible: {reason}")
    check_sizes(name, path, content)
    check_type(name, path, content)


def check_sizes(name: str, path: Path, content: dict[str, Any]) -> None:
    """Refuse sizes that no model can have, wherever they are in a configuration, as `check_settings` does."""
    for key, value in _walk(name, path, content):
        if reason := _fault(key.rpartition(".")[2], value):
            raise ConfigError(f"model={name}: {key}={_short(value)} in {path} is not possible: {reason}")


def check_type(name: str, path: Path, content: dict[str, Any]) -> None:
    """Refuse a model_type that transformers does not know, as `check_settings` does."""
    from transformers import CONFIG_MAPPING, __version__

    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        nearest = suggest(str(kind), tuple(CONFIG_MAPPING)).partition("allowed:")[0]
        code = "; the code that it brings (auto_map) is never run" if "auto_map" in content else ""
        unknown = f"model_type={_short(kind)} in {path} is no architecture of transformers {__version__}"
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

    if isinstance(value, float) and not math.isfinite(value):
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


def _short(value: Any) -> str:
    text = cut(value, 41)
    return text if len(text) <= 40 else f"{cut(text, 40)}…"
