"""A model's shape without its weights, from a name, a `config.json` or a hub id, built on fake tensors.

Nothing here reads or allocates a weight. A skeleton of 180 billion parameters takes seconds and a few megabytes.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.errors import ConfigError, named, suggest
from lorax_lab.models.files import from_hub
from lorax_lab.models.skeleton import check_content, readable
from lorax_lab.models.tensor_files import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION = ("flash", "sdpa", "eager")
"""`eager` keeps every score. `flash` keeps none, as fused kernels on a GPU do. `sdpa` is torch's choice on a CPU: as
flash, or all scores where attention has dropout, as in BERT and GPT-2."""
ATTENTION_DROPOUT = {"attention_probs_dropout_prob", "attn_pdrop", "attention_dropout", "attn_dropout"}
HEADS = ("auto", "classifier", "lm")
SHIFTED = (
    "roberta", "camembert", "mpnet", "data2vec-text", "ibert", "longformer", "lilt", "layoutlmv3", "luke", "markuplm",
    "xmod",
)  # fmt: skip
"""Types of model, or parts of their names, whose positions begin after that of padding, two later."""
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


def _sizes(kind: str, *sizes: int, **more: Any) -> dict[str, Any]:
    return {"model_type": kind} | dict(zip(SIZES, sizes, strict=True)) | more


def _llama(kind: str, *sizes: int, words: int, positions: int, **more: Any) -> dict[str, Any]:
    *four, key_values = sizes
    more |= {"num_key_value_heads": key_values, "vocab_size": words, "max_position_embeddings": positions}
    return _sizes(kind, *four, **more)


def _gpt2(width: int, layers: int, heads: int, positions: int = 1024) -> dict[str, Any]:
    return {"model_type": "gpt2", "n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": positions}


_ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
_LLAMA_2 = {"words": 32000, "positions": 4096}
_LLAMA_3 = {"words": 128256, "positions": 8192}
_LLAMA_32: Any = {"words": 128256, "positions": 131072, "tie_word_embeddings": True}
_FALCON = {"num_kv_heads": 8, "new_decoder_architecture": True, "parallel_attn": True, "bias": False, "alibi": False}

PRESETS: dict[str, dict[str, Any]] = {
    "minilm": _sizes("bert", 384, 1536, 6, 12, vocab_size=30522),
    "smollm2-135m": _llama("llama", 576, 1536, 30, 9, 3, words=49152, positions=8192, tie_word_embeddings=True),
    "roberta-base": _sizes("roberta", 768, 3072, 12, 12, **_ROBERTA),
    "roberta-large": _sizes("roberta", 1024, 4096, 24, 16, **_ROBERTA),
    "gpt2": _gpt2(768, 12, 12),
    "gpt2-xl": _gpt2(1600, 48, 25),
    "gpt3-175b": _gpt2(12288, 96, 96, positions=2048),
    "llama-2-7b": _llama("llama", 4096, 11008, 32, 32, 32, **_LLAMA_2),
    "llama-2-13b": _llama("llama", 5120, 13824, 40, 40, 40, **_LLAMA_2),
    "llama-2-70b": _llama("llama", 8192, 28672, 80, 64, 8, **_LLAMA_2),
    "llama-3.2-1b": _llama("llama", 2048, 8192, 16, 32, 8, head_dim=64, **_LLAMA_32),
    "llama-3.2-3b": _llama("llama", 3072, 8192, 28, 24, 8, head_dim=128, **_LLAMA_32),
    "llama-3-8b": _llama("llama", 4096, 14336, 32, 32, 8, **_LLAMA_3),
    "llama-3-70b": _llama("llama", 8192, 28672, 80, 64, 8, **_LLAMA_3),
    "mistral-7b": _llama("mistral", 4096, 14336, 32, 32, 8, words=32768, positions=32768, sliding_window=None),
    "qwen2.5-7b": _llama("qwen2", 3584, 18944, 28, 28, 4, words=152064, positions=32768),
    "qwen3-8b": _llama("qwen3", 4096, 12288, 36, 32, 8, words=151936, positions=40960, head_dim=128),
    "gemma-2-2b": _llama("gemma2", 2304, 9216, 26, 8, 4, words=256000, positions=8192, head_dim=256),
    "falcon-180b": _sizes("falcon", 14848, 4 * 14848, 80, 232, vocab_size=65024, tie_word_embeddings=False, **_FALCON),
}
"""Published shapes by name; a size that is not given is transformers' default for the model type. GPT-3 is a GPT-2 of
the sizes published (Brown et al. 2020, table 2.1); its alternating sparse attention is taken as dense. Mistral is its
version 0.3. Any other model is named by its hub id or its config.json."""


@dataclass(frozen=True)
class Architecture:
    """A model's configuration and what kind of model it is."""

    name: str
    config: Any
    kind: str  # `encoder`, `decoder` or `image`
    head: str  # `classifier` or `lm` (logits over the vocabulary)

    @property
    def longest(self) -> int | None:
        """The longest sequence that the positions allow; None where there is no such limit."""
        positions = getattr(self.config, "max_position_embeddings", None) or getattr(self.config, "n_positions", None)
        is_shifted = any(kin in self.config.model_type for kin in SHIFTED)
        return positions - 2 if is_shifted and positions else positions


@lru_cache(maxsize=64)
def architecture(name: str, head: str = "auto") -> Architecture:
    """The architecture `name`: a preset, a `config.json` or its folder, or a hub id (only its config.json is fetched).
    `head=auto` gives a decoder an `lm` head and all others a `classifier`.

    Raises:
        ConfigError: an unknown name; an encoder-decoder, a mixture of experts, one of several kinds of input, or what
            transformers has no model for; a head that the model does not have.
    """
    config = _config(name, PRESETS[name] if name in PRESETS else _settings(name))
    kind = _kind(name, config)
    key = "image_size" if kind == "image" else "vocab_size"
    if not hasattr(config, key):
        raise ConfigError(f"model={name}: {config.model_type} has no {key} of its own, so no step is predicted")
    head = head if head != "auto" else "lm" if kind == "decoder" else "classifier"
    if kind == "image" and head == "lm":
        raise ConfigError(f"head=lm: {name} reads images and has no vocabulary; type head=classifier")
    return Architecture(name, config, kind, head)


def skeleton(shape: Architecture, attention: str, dtype: Any) -> PreTrainedModel:
    """The model with its head in `dtype`; of `ATTENTION` transformers may not have each for it, as for Gemma 2. Where
    tensors are fake, no weights are drawn."""
    import transformers
    from torch._guards import detect_fake_mode
    from transformers.initialization import no_init_weights

    config = copy.deepcopy(shape.config)
    if attention == "flash":
        for key in vars(config).keys() & ATTENTION_DROPOUT:
            setattr(config, key, 0.0)

    kinds = {
        ("encoder", "lm"): transformers.AutoModelForMaskedLM,
        ("decoder", "lm"): transformers.AutoModelForCausalLM,
        ("image", "classifier"): transformers.AutoModelForImageClassification,
    }
    auto: Any = kinds.get((shape.kind, shape.head), transformers.AutoModelForSequenceClassification)
    if attention != "eager" and not getattr(auto._model_mapping.get(type(config), None), "_supports_sdpa", True):
        only = f"transformers has eager attention alone for {config.model_type}; type attention=eager"
        raise ConfigError(f"attention={attention} is not possible with model={shape.name}: {only}")
    transformers.logging.set_verbosity_error()  # its advice is for those who train
    weights = no_init_weights() if detect_fake_mode() else nullcontext()
    with readable(shape.name, Path(shape.name), auto.__name__), weights:
        model: PreTrainedModel = auto.from_config(
            config, attn_implementation=attention.replace("flash", "sdpa"), dtype=dtype
        )
    model.tie_weights()
    return model


def _settings(name: str) -> dict[str, Any]:
    path = Path(name).expanduser()
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        if name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise ConfigError(f"model={name} is no architecture and no file; {_what_to_type(name)}")
        path = from_hub(name, ("config.json",)) / "config.json"
    with named(f"model={name}"):
        settings = read_json(path)
    check_content(name, path, settings)
    return settings


def _what_to_type(name: str = "") -> str:
    return f"{suggest(name, list(PRESETS))}; or the path of a config.json, or a hub id such as org/name"


def _config(name: str, settings: dict[str, Any]) -> Any:
    import transformers

    unused = {"model_type", "architectures", "auto_map", "torch_dtype", "dtype", "transformers_version"}
    unused |= {"quantization_config"}
    sizes = {key: value for key, value in settings.items() if key not in unused}
    with readable(name, Path(name), "AutoConfig"):
        config: Any = transformers.AutoConfig.for_model(settings["model_type"], **sizes)
    config.use_cache = False
    config.pad_token_id = 0 if getattr(config, "pad_token_id", None) is None else config.pad_token_id
    return config


def _kind(name: str, config: Any) -> str:
    from transformers.models.auto import modeling_auto

    model_type = config.model_type
    if model_type in modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        predicted = "encoders, decoders and image models are predicted"
        raise ConfigError(f"model={name}: {model_type} is an encoder-decoder; {predicted}")
    if any(getattr(config, key, None) for key in ("num_experts", "num_local_experts", "n_routed_experts")):
        raise ConfigError(f"model={name}: {model_type} routes tokens to experts by their content: no step is predicted")
    for kind, names in (
        ("image", modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES),
        ("encoder", modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
        ("decoder", modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    ):
        if model_type in names:
            return kind
    raise ConfigError(f"model={name}: {model_type} is no encoder, decoder or image classifier; {_what_to_type()}")
