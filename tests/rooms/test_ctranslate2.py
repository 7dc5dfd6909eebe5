"""Files of CTranslate2: bytes laid by hand, and a tiny Whisper that comes back whole."""

import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ran, tiny_config, tiny_speech_processor
from test_speech import columns_of, table
from torch import Tensor
from transformers import AutoModelForSpeechSeq2Seq, WhisperTokenizer

from lorax_lab.models.ctranslate2 import DTYPES, read_variables, save_whisper

Variables = dict[str, Tensor]


def text(words: str) -> bytes:
    return struct.pack("<H", len(words) + 1) + words.encode() + b"\0"


def packed(variables: Variables, *aliases: tuple[str, str]) -> bytes:
    content = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(variables))
    for name, tensor in variables.items():
        shape = struct.pack(f"<B{tensor.ndim}I", tensor.ndim, *tensor.shape)
        data = bytes(tensor.contiguous().flatten().view(torch.uint8).tolist())
        content += text(name) + shape + struct.pack("<BI", DTYPES.index(tensor.dtype), len(data)) + data
    content += struct.pack("<I", len(aliases))
    return content + b"".join(text(words) for pair in aliases for words in pair)


def test_bytes_laid_by_hand_are_read() -> None:
    """One matrix of two rows in half precision, one whole number, and another name of the matrix."""
    content = bytes.fromhex(
        "06000000" "0200" "5300" "03000000" "02000000"  # version 6, "S", revision 3, two variables
        "0200" "6100" "02" "02000000" "01000000" "04" "04000000" "003c" "00c0"  # "a", sides 2 and 1, fp16, 1 and -2
        "0200" "6e00" "00" "02" "02000000" "0800"  # "n", no sides, 16 bits, 8
        "01000000" "0200" "6200" "0200" "6100"  # "b" is "a"
    )  # fmt: skip
    variables = read_variables(content)
    assert {name: (tensor.tolist(), tensor.dtype) for name, tensor in variables.items()} == {
        "a": ([[1.0], [-2.0]], torch.float16),
        "n": (8, torch.int16),
        "b": ([[1.0], [-2.0]], torch.float16),
    }


def as_ctranslate2(model: Any) -> Variables:
    """What CTranslate2 keeps of a Whisper, layer by layer as its converter names them."""
    variables: Variables = {"encoder/num_heads": torch.tensor(2, dtype=torch.int16)}

    def add(name: str, *layers: Any) -> None:
        is_norm = "layer_norm" in name
        for part, kind in (("weight", "gamma" if is_norm else "weight"), ("bias", "beta" if is_norm else "bias")):
            weights = [layer.weight for layer in layers]
            rows = [getattr(layer, part) for layer in layers]
            rows = [torch.zeros(len(w)) if row is None else row for row, w in zip(rows, weights, strict=True)]
            variables[f"{name}/{kind}"] = torch.cat(rows).detach().half()

    for half, body in (("encoder", model.model.encoder), ("decoder", model.model.decoder)):
        variables[f"{half}/position_encodings/encodings"] = body.embed_positions.weight.detach().half()
        add(f"{half}/layer_norm", body.layer_norm)
        for i, layer in enumerate(body.layers):
            place, attention = f"{half}/layer_{i}", layer.self_attn
            add(f"{place}/self_attention/layer_norm", layer.self_attn_layer_norm)
            add(f"{place}/self_attention/linear_0", attention.q_proj, attention.k_proj, attention.v_proj)
            add(f"{place}/self_attention/linear_1", attention.out_proj)
            add(f"{place}/ffn/layer_norm", layer.final_layer_norm)
            add(f"{place}/ffn/linear_0", layer.fc1)
            add(f"{place}/ffn/linear_1", layer.fc2)
            if half == "decoder":
                add(f"{place}/attention/layer_norm", layer.encoder_attn_layer_norm)
                add(f"{place}/attention/linear_0", layer.encoder_attn.q_proj)
                add(f"{place}/attention/linear_1", layer.encoder_attn.k_proj, layer.encoder_attn.v_proj)
                add(f"{place}/attention/linear_2", layer.encoder_attn.out_proj)
    add("encoder/conv1", model.model.encoder.conv1)
    add("encoder/conv2", model.model.encoder.conv2)
    return variables | {"decoder/embeddings/weight": model.model.decoder.embed_tokens.weight.detach().half()}


def test_a_whisper_in_two_parts_comes_back_with_every_weight(tmp_path: Path) -> None:
    torch.manual_seed(1)
    config: Any = tiny_config("whisper")
    config.max_source_positions = 1500
    model = AutoModelForSpeechSeq2Seq.from_config(config).half().float()
    vocabulary = tiny_speech_processor().tokenizer.get_vocab()
    vocabulary |= {token: len(vocabulary) + i for i, token in enumerate(("<|en|>", "<|transcribe|>"))}
    tokenizer = tmp_path / "tokenizer"
    WhisperTokenizer(vocab=vocabulary, merges=[], pad_token="<|endoftext|>").save_pretrained(tokenizer)
    alias = ("decoder/projection/weight", "decoder/embeddings/weight")
    content, parts = packed(as_ctranslate2(model), alias), [tmp_path / "one", tmp_path / "two"]
    parts[0].write_bytes(content[:5000])
    parts[1].write_bytes(content[5000:])
    halves = [f"{half}_{size}" for half in ("encoder", "decoder") for size in ("layers", "attention_heads", "ffn_dim")]
    names = ["vocab_size", "d_model", "num_mel_bins", "max_source_positions", "max_target_positions", *halves]
    save_whisper(parts, tokenizer, {name: getattr(config, name) for name in names}, tmp_path / "made")
    loaded, loading = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "made", output_loading_info=True)
    assert not any(loading.values())
    start = WhisperTokenizer.from_pretrained(tokenizer).convert_tokens_to_ids("<|startoftranscript|>")
    assert loaded.config.decoder_start_token_id == start
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


@pytest.mark.network
def test_the_real_whisper_has_every_weight_and_learns(tmp_path: Path) -> None:
    """Tones with a word each; that its ears are right is in docs/tasks.md, by real speech."""
    from lorax_lab.models import resolve
    from lorax_lab.record.record import read_record

    model, loading = AutoModelForSpeechSeq2Seq.from_pretrained(resolve("whisper_base"), output_loading_info=True)
    assert not any(loading.values())
    assert sum(parameter.numel() for parameter in model.parameters()) == 72_593_920
    few = [f"task.{split}_examples={count}" for split, count in (("train", 4), ("validation", 2), ("test", 2))]
    words = ["model=whisper_base", "task=local", *columns_of(table(tmp_path / "data", rows=16)), *few]
    ran(*words, "train.batch_size=2", "train.epochs=1", "rank=4", "tracking=disabled", f"runs_dir={tmp_path}")
    full, lora = (read_record(next(tmp_path.glob(f"whisper*{name}*"))).completed for name in ("full", "lora"))
    assert len(full.matrices) == len(lora.matrices) == 96
    assert lora.parameters.adapter == 540_672
    assert {matrix.rank for matrix in lora.matrices.values()} == {4}
