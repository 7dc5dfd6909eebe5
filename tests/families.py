"""Tiny random models of ten families, from their configurations alone, and what the lab says of each.

`FAMILIES` is checked by `test_families.py` against the models, and makes the table of `docs/families.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TOKENS = {"vocab_size": 64, "pad_token_id": 0}
ENDS = {"bos_token_id": 1, "eos_token_id": 2}
DEBERTA = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_position_embeddings": 64}
IDS = torch.tensor([[5, 9, 12, 7, 3, 2], [30, 22, 3, 11, 4, 2]])
READ = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
CLASSES, NEXT = {"labels": torch.tensor([0, 1])}, {"labels": IDS}
CLASSIFIER, CAUSAL = "AutoModelForSequenceClassification", "AutoModelForCausalLM"
PICTURE = {"pixel_values": torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8)}
SOUND = {"input_features": torch.linspace(-1, 1, 256).reshape(2, 8, 16)}


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        kind: the name that transformers has for the configuration.
        model_class: the auto-class that makes the model.
        config: sizes.
        batch: one that the model reads, with labels.
        adapted: the types of matrix that LoRA adapts and that are measured under every method.
        unmeasured: the reasons of the matrices that are neither adapted nor measured.
        also: the other reasons: of what is no matrix, new, or fixed.
    """

    name: str
    kind: str
    model_class: str
    config: dict[str, Any]
    batch: dict[str, Tensor]
    adapted: tuple[str, ...]
    unmeasured: tuple[str, ...]
    also: tuple[str, ...] = field(default=("norms", "biases", "head"))

    def model(self, model_class: str | None = None, **changes: Any) -> nn.Module:
        """The model, drawn from a seed, in eval mode: nothing is dropped."""
        import transformers

        config = transformers.AutoConfig.for_model(self.kind, **self.config | changes)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return getattr(transformers, model_class or self.model_class).from_config(config).eval()


ENCODED = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
GATED = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
FAMILIES = (
    Family(
        "BERT", "bert", CLASSIFIER, TOKENS | SIZES | {"max_position_embeddings": 64}, READ | CLASSES,
        adapted=(*ENCODED, "intermediate.dense", "output.dense"), unmeasured=("embeddings",),
    ),
    Family(
        "DeBERTa", "deberta", CLASSIFIER, TOKENS | SIZES | DEBERTA, READ | CLASSES,
        adapted=(
            "attention.self.in_proj", "attention.self.pos_proj", "attention.self.pos_q_proj", "attention.output.dense",
            "intermediate.dense", "output.dense",
        ),
        unmeasured=("embeddings",),
    ),
    Family(
        "DeBERTa v3", "deberta-v2", CLASSIFIER, TOKENS | SIZES | DEBERTA | {"position_buckets": 8}, READ | CLASSES,
        adapted=(
            "attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj",
            "attention.self.pos_key_proj", "attention.self.pos_query_proj", "attention.output.dense",
            "intermediate.dense", "output.dense",
        ),
        unmeasured=("embeddings",),
    ),
    Family(
        "GPT-2", "gpt2", CLASSIFIER, {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64} | TOKENS | ENDS,
        READ | CLASSES, adapted=("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"), unmeasured=("embeddings",),
    ),
    Family(
        "Llama", "llama", CAUSAL, TOKENS | ENDS | SIZES | {"num_key_value_heads": 1}, READ | NEXT,
        adapted=(*ATTENTION, *GATED), unmeasured=("embeddings", "output layer"), also=("norms",),
    ),
    Family(
        "Falcon", "falcon", CLASSIFIER,
        TOKENS | ENDS | {key: SIZES[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")},
        READ | CLASSES,
        adapted=("self_attention.query_key_value", "self_attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
        unmeasured=("embeddings",), also=("norms", "head"),
    ),
    Family(
        "T5", "t5", CLASSIFIER,
        TOKENS | {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "eos_token_id": 2,
                  "decoder_start_token_id": 0},
        READ | CLASSES,
        adapted=(
            "SelfAttention.q", "SelfAttention.k", "SelfAttention.v", "SelfAttention.o", "DenseReluDense.wi",
            "DenseReluDense.wo", "decoder.SelfAttention.q", "decoder.SelfAttention.k", "decoder.SelfAttention.v",
            "decoder.SelfAttention.o", "decoder.EncDecAttention.q", "decoder.EncDecAttention.k",
            "decoder.EncDecAttention.v", "decoder.EncDecAttention.o", "decoder.DenseReluDense.wi",
            "decoder.DenseReluDense.wo",
        ),
        unmeasured=("tied embeddings", "embeddings"), also=("norms", "head"),
    ),
    Family(
        "ViT", "vit", "AutoModelForImageClassification", SIZES | {"image_size": 8, "patch_size": 4, "num_channels": 1},
        PICTURE | CLASSES,
        adapted=(
            "attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj", "mlp.fc1", "mlp.fc2",
        ),
        unmeasured=("convolutions", "embeddings"),
    ),
    Family(
        "Whisper", "whisper", "AutoModelForSpeechSeq2Seq",
        TOKENS | ENDS | {
            "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_mel_bins": 8,
            "max_source_positions": 8, "max_target_positions": 16, "decoder_start_token_id": 1,
        },
        SOUND | NEXT,
        adapted=(
            "self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj", "fc1", "fc2",
            "decoder.self_attn.k_proj", "decoder.self_attn.v_proj", "decoder.self_attn.q_proj",
            "decoder.self_attn.out_proj", "decoder.encoder_attn.k_proj", "decoder.encoder_attn.v_proj",
            "decoder.encoder_attn.q_proj", "decoder.encoder_attn.out_proj", "decoder.fc1", "decoder.fc2",
        ),
        unmeasured=("convolutions", "tied embeddings", "embeddings"), also=("norms", "biases", "fixed"),
    ),
    Family(
        "Mamba", "mamba", CAUSAL,
        TOKENS | ENDS | {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}, READ | NEXT,
        adapted=("mixer.in_proj", "mixer.x_proj", "mixer.dt_proj", "mixer.out_proj"),
        unmeasured=("tied embeddings", "state-space parameters", "convolutions"), also=("norms", "biases"),
    ),
    Family(
        "Mixtral", "mixtral", CAUSAL,
        TOKENS | ENDS | SIZES | {"num_key_value_heads": 1, "num_local_experts": 4, "num_experts_per_tok": 2},
        READ | NEXT, adapted=ATTENTION,
        unmeasured=("3-D experts", "embeddings", "output layer", "routers"), also=("norms",),
    ),
)  # fmt: skip
BY_NAME = {family.name: family for family in FAMILIES}
HEADING = ("family", "adapted and measured", "not: matrices", "not: head, vectors, what is fixed")


def table() -> str:
    """The table of `docs/families.md`."""
    rows = [HEADING, ("---",) * len(HEADING)]
    for family in FAMILIES:
        adapted = ", ".join(f"`{name}`" for name in family.adapted)
        rows.append((family.name, adapted, ", ".join(family.unmeasured), ", ".join(family.also)))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
