"""Tiny random models of eleven families, from their configurations alone."""

from dataclasses import dataclass
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
    """A family of models: transformers' name of its configuration, its auto-class, sizes, a batch with labels."""

    name: str
    kind: str
    model_class: str
    config: dict[str, Any]
    batch: dict[str, Tensor]

    def model(self, model_class: str | None = None, **changes: Any) -> nn.Module:
        """The model, drawn from a seed, in eval mode: nothing is dropped."""
        import transformers

        config = transformers.AutoConfig.for_model(self.kind, **self.config | changes)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return getattr(transformers, model_class or self.model_class).from_config(config).eval()


FAMILIES = (
    Family("BERT", "bert", CLASSIFIER, TOKENS | SIZES | {"max_position_embeddings": 64}, READ | CLASSES),
    Family("DeBERTa", "deberta", CLASSIFIER, TOKENS | SIZES | DEBERTA, READ | CLASSES),
    Family("DeBERTa v3", "deberta-v2", CLASSIFIER, TOKENS | SIZES | DEBERTA | {"position_buckets": 8}, READ | CLASSES),
    Family(
        "GPT-2", "gpt2", CLASSIFIER, {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64} | TOKENS | ENDS,
        READ | CLASSES,
    ),
    Family("Llama", "llama", CAUSAL, TOKENS | ENDS | SIZES | {"num_key_value_heads": 1}, READ | NEXT),
    Family(
        "Falcon", "falcon", CLASSIFIER,
        TOKENS | ENDS | {key: SIZES[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")},
        READ | CLASSES,
    ),
    Family(
        "T5", "t5", CLASSIFIER,
        TOKENS | {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "eos_token_id": 2,
                  "decoder_start_token_id": 0},
        READ | CLASSES,
    ),
    Family(
        "ViT", "vit", "AutoModelForImageClassification", SIZES | {"image_size": 8, "patch_size": 4, "num_channels": 1},
        PICTURE | CLASSES,
    ),
    Family(
        "Whisper", "whisper", "AutoModelForSpeechSeq2Seq",
        TOKENS | ENDS | {
            "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_mel_bins": 8,
            "max_source_positions": 8, "max_target_positions": 16, "decoder_start_token_id": 1,
        },
        SOUND | NEXT,
    ),
    Family(
        "Mamba", "mamba", CAUSAL,
        TOKENS | ENDS | {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}, READ | NEXT,
    ),
    Family(
        "Mixtral", "mixtral", CAUSAL,
        TOKENS | ENDS | SIZES | {"num_key_value_heads": 1, "num_local_experts": 4, "num_experts_per_tok": 2},
        READ | NEXT,
    ),
)  # fmt: skip
BY_NAME = {family.name: family for family in FAMILIES}
