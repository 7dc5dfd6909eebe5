"""A model's shape without its weights, from a name, a `config.json` or a hub id, built on fake tensors.

Nothing here reads or allocates a weight. A skeleton of 180 billion parameters takes seconds and a few megabytes.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.errors import ConfigError, suggest
from lorax_lab.models import check_sizes
from lorax_lab.models.files import from_hub
from lorax_lab.models.weights import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION = ("flash", "sdpa", "eager")
"""`eager` keeps every score. `flash` keeps none, as fused kernels on a GPU do. `sdpa` is torch's choice on a CPU: as
flash, or all scores where attention has dropout, as in BERT and GPT-2."""
ATTENTION_DROPOUT = {"attention_probs_dropout_prob", "attn_pdrop", "attention_dropout", "attn_dropout"}
HEADS = ("auto", "classifier", "lm")


def _llama(hidden: int, inner: int, layers: int, heads: int, key_values: int, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": key_values}
    return {"model_type": "llama", "vocab_size": 32000, "max_position_embeddings": 4096} | sizes | more


def _llama_3(hidden: int, inner: int, layers: int, heads: int, width: int) -> dict[str, Any]:
    more = {"vocab_size": 128256, "max_position_embeddings": 131072, "head_dim": width, "tie_word_embeddings": True}
    return _llama(hidden, inner, layers, heads, 8, **more)


def _qwen3(hidden: int, inner: int, layers: int, heads: int, tied: bool) -> dict[str, Any]:
    more = {"vocab_size": 151936, "max_position_embeddings": 40960, "head_dim": 128, "tie_word_embeddings": tied}
    return _llama(hidden, inner, layers, heads, 8, **more) | {"model_type": "qwen3"}


def _gpt2(width: int, layers: int, heads: int, positions: int = 1024) -> dict[str, Any]:
    return {"model_type": "gpt2", "n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": positions}


def _encoder(kind: str, hidden: int, inner: int, layers: int, heads: int, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers}
    return {"model_type": kind, "num_attention_heads": heads} | sizes | more


_ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}

PRESETS: dict[str, dict[str, Any]] = {
    "minilm": _encoder("bert", 384, 1536, 6, 12, vocab_size=30522),
    "smollm2-135m": _llama(
        576, 1536, 30, 9, 3, vocab_size=49152, max_position_embeddings=8192, tie_word_embeddings=True
    ),
    "roberta-base": _encoder("roberta", 768, 3072, 12, 12, **_ROBERTA),
    "roberta-large": _encoder("roberta", 1024, 4096, 24, 16, **_ROBERTA),
    "gpt2": _gpt2(768, 12, 12),
    "gpt2-medium": _gpt2(1024, 24, 16),
    "gpt2-large": _gpt2(1280, 36, 20),
    "gpt2-xl": _gpt2(1600, 48, 25),
    "gpt3-175b": _gpt2(12288, 96, 96, positions=2048),
    "llama-2-7b": _llama(4096, 11008, 32, 32, 32),
    "llama-2-13b": _llama(5120, 13824, 40, 40, 40),
    "llama-2-70b": _llama(8192, 28672, 80, 64, 8),
    "llama-3.2-1b": _llama_3(2048, 8192, 16, 32, 64),
    "llama-3.2-3b": _llama_3(3072, 8192, 28, 24, 128),
    "falcon-180b": {
        "model_type": "falcon",
        "vocab_size": 65024,
        "hidden_size": 14848,
        "num_hidden_layers": 80,
        "num_attention_heads": 232,
        "num_kv_heads": 8,
        "new_decoder_architecture": True,
        "parallel_attn": True,
        "bias": False,
        "alibi": False,
        "tie_word_embeddings": False,
    },
    "qwen3-0.6b": _qwen3(1024, 3072, 28, 16, True),
    "qwen3-1.7b": _qwen3(2048, 6144, 28, 16, True),
    "qwen3-4b": _qwen3(2560, 9728, 36, 32, True),
    "qwen3-8b": _qwen3(4096, 12288, 36, 32, False),
    "qwen3-14b": _qwen3(5120, 17408, 40, 40, False),
    "qwen3-32b": _qwen3(5120, 25600, 64, 64, False),
}
"""Published shapes by name; a size that is not given is transformers' default for the model type. GPT-3 is a GPT-2 of
the sizes published (Brown et al. 2020, table 2.1); its alternating sparse attention is taken as dense."""


@dataclass(frozen=True)
class Architecture:
    """A model's configuration and what kind of model it is.

    `kind` is `encoder`, `decoder` or `image`; `head` is `classifier` or `lm` (logits over the vocabulary).
    """

    name: str
    config: Any
    kind: str
    head: str

    @property
    def longest(self) -> int | None:
        """The longest sequence that the positions allow; None where there is no such limit."""
        known = getattr(self.config, "max_position_embeddings", None) or getattr(self.config, "n_positions", None)
        return known - 2 if self.config.model_type == "roberta" and known else known


def architecture(name: str, head: str = "auto") -> Architecture:
    """The architecture `name`: a preset, a `config.json` or its folder, or a hub id (only its config.json is fetched).

    Args:
        head: `auto` gives a decoder an `lm` head and all others a `classifier`.

    Raises:
        ConfigError: an unknown name; a configuration that transformers has no model for, or of a kind that no step is
            predicted for (encoder-decoders, mixtures of experts); a head that the model does not have.
    """
    settings = PRESETS[name] if name in PRESETS else _read(name)
    config = _config(name, dict(settings))
    kind = _kind(name, config)
    head = head if head != "auto" else "lm" if kind == "decoder" else "classifier"
    if kind == "image" and head == "lm":
        raise ConfigError(f"head=lm: {name} reads images and has no vocabulary; type head=classifier")
    return Architecture(name, config, kind, head)


def skeleton(shape: Architecture, attention: str, dtype: Any) -> PreTrainedModel:
    """The model with its head in `dtype`. Where tensors are fake, no weights are drawn.

    Args:
        attention: one of `ATTENTION`.
    """
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
    auto = kinds.get((shape.kind, shape.head), transformers.AutoModelForSequenceClassification)
    transformers.logging.set_verbosity_error()  # its advice is for those who train
    try:
        with no_init_weights() if detect_fake_mode() else nullcontext():
            model = auto.from_config(config, attn_implementation=attention.replace("flash", "sdpa"), dtype=dtype)
    except (ValueError, TypeError, KeyError) as error:
        reason = f"no model can be built of its settings ({' '.join(str(error).split())})"
        raise ConfigError(f"model={shape.name}: {reason}; {_what_to_type()}") from error
    model.tie_weights()
    return model


def _read(name: str) -> dict[str, Any]:
    path = Path(name).expanduser()
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        if name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise ConfigError(f"model={name} is no architecture and no file; {_what_to_type(name)}")
        path = from_hub(name, ("config.json",)) / "config.json"
    content = read_json(name, path)
    if "model_type" not in content:
        raise ConfigError(f"model={name}: {path} has no model_type, so its sizes cannot be read")
    check_sizes(name, path, content)
    return content


def _what_to_type(name: str = "") -> str:
    return f"{suggest(name, list(PRESETS))}; or the path of a config.json, or a hub id such as org/name"


def _config(name: str, settings: dict[str, Any]) -> Any:
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    kind = settings.pop("model_type")
    for unused in ("architectures", "auto_map", "torch_dtype", "dtype", "transformers_version", "quantization_config"):
        settings.pop(unused, None)
    try:
        config = transformers.AutoConfig.for_model(kind, **settings)
    except ValueError:
        sizes = {key: value for key, value in settings.items() if isinstance(value, int) and "size" in key}
        read = f"; what could be read of it: {sizes}" if sizes else ""
        known = suggest(str(kind), sorted(transformers.CONFIG_MAPPING)).partition(" allowed:")[0]
        unknown = f"model={name}: model_type={kind} is no architecture of transformers {transformers.__version__}"
        raise ConfigError(
            f"{unknown}{read}. {known} How its layers are joined is not known, so nothing is assumed"
        ) from None
    except (TypeError, AttributeError, KeyError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"model={name}: its settings are no {kind} configuration ({reason})") from None
    config.use_cache = False
    config.pad_token_id = 0 if getattr(config, "pad_token_id", None) is None else config.pad_token_id
    return config


def _kind(name: str, config: Any) -> str:
    from transformers.models.auto import modeling_auto as known

    of = config.model_type
    if of in known.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        raise ConfigError(
            f"model={name}: {of} is an encoder-decoder; encoders, decoders and image models are predicted"
        )
    if any(getattr(config, key, None) for key in ("num_experts", "num_local_experts", "n_routed_experts")):
        raise ConfigError(f"model={name}: {of} routes tokens to experts by their content, so no step can be predicted")
    if of in known.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES:
        return "image"
    if of in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return "encoder"
    if of in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "decoder"
    raise ConfigError(f"model={name}: {of} is no encoder, decoder or image classifier; {_what_to_type()}")
