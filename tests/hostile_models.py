"""Folders of models that are not what they seem: each is a tiny BERT's folder with one thing changed."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

SAFE, BIN, INDEX = "model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"
Tensors = dict[str, Tensor]
Spoil = Callable[[Path], object]
WEIGHT = "encoder.layer.1.attention.self.query.weight"


def tensors(change: Callable[[Tensors], Tensors]) -> Spoil:
    """Write other tensors in place of the model's own."""

    def spoil(folder: Path) -> None:
        content = load_file(folder / SAFE)
        (folder / SAFE).unlink()
        save_file(
            {name: tensor.contiguous() for name, tensor in change(content).items()}, folder / SAFE, {"format": "pt"}
        )

    return spoil


def one(value: Tensor) -> Spoil:
    """Another value for one matrix of the body."""
    return tensors(lambda content: content | {WEIGHT: value})


def settings(file: str = "config.json", **changes: Any) -> Spoil:
    """Other values in one of the folder's JSON files."""

    def spoil(folder: Path) -> None:
        content = json.loads((folder / file).read_text()) if (folder / file).is_file() else {}
        (folder / file).write_text(json.dumps(content | changes))

    return spoil


def text(content: str, file: str = "config.json") -> Spoil:
    return lambda folder: (folder / file).write_text(content)


def raw(content: bytes, file: str = SAFE) -> Spoil:
    return lambda folder: (folder / file).write_bytes(content)


def header(entries: dict[str, Any], data: bytes = b"") -> bytes:
    written = json.dumps(entries).encode()
    return struct.pack("<Q", len(written)) + written + data


def sharded(where: str) -> Spoil:
    """The weights under another name, which an index gives."""

    def spoil(folder: Path) -> None:
        target = folder / where
        target.parent.mkdir(exist_ok=True, parents=True)
        names = list(load_file(folder / SAFE))
        (folder / SAFE).rename(target)
        index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, where)}
        (folder / INDEX).write_text(json.dumps(index))

    return spoil


def as_bin(change: Callable[[Tensors], Any] = lambda content: content) -> Spoil:
    def spoil(folder: Path) -> None:
        torch.save(change(load_file(folder / SAFE)), folder / BIN)
        (folder / SAFE).unlink()

    return spoil


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


def remove(file: str) -> Spoil:
    return lambda folder: (folder / file).unlink()


def both(first: Spoil, second: Spoil) -> Spoil:
    return lambda folder: (first(folder), second(folder))


def more_layers(content: Tensors) -> Tensors:
    return content | {n.replace("layer.1.", "layer.2."): t.clone() for n, t in content.items() if "layer.1." in n}


def former(content: Tensors) -> Tensors:
    return content | {n.replace("LayerNorm.weight", "LayerNorm.gamma"): t * 3 for n, t in content.items()}


FORGED = {"peft_type": "LORA", "base_model_name_or_path": "../other"}
"""An adapter's settings beside the weights: transformers would read the base that they name instead."""
LIES = header({WEIGHT: {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4]}}, b"1234")
DEEP = '{"model_type": "bert", "x": ' + '{"a":' * 900 + "1" + "}" * 901
REMOTE = {"AutoConfig": "evil.Evil", "AutoModelForSequenceClassification": "evil.Evil"}
CASES: dict[str, tuple[Spoil, str]] = {
    "a wrapper's prefix": (tensors(lambda c: {f"wrapper.{n}": c[n] for n in c}), "37 .bert.emb.*32 .wrapper.encoder"),
    "half of the tensors": (tensors(lambda c: dict(list(c.items())[::2])), r"19 \(.*of its 41 tensors are missing"),
    "no tensor": (tensors(lambda c: {}), "hold no tensor"),
    "a layer too many": (tensors(more_layers), r"16 \(encoder.layer.2.attention.*no place"),
    "both names": (tensors(lambda c: c | {f"bert.{n}": t * 3 for n, t in c.items()}), "are one tensor of the model"),
    "former names too": (tensors(former), "LayerNorm.gamma and .*LayerNorm.weight, which are one tensor of the model"),
    "half a pooler": (tensors(lambda c: {n: c[n] for n in c if n != "pooler.dense.bias"}), "1 .bert.pooler.dense.bias"),
    "another shape": (one(torch.zeros(32, 31)), r"query.weight is \(32, 31\), and \(32, 32\)"),
    "nan": (one(torch.full((32, 32), torch.nan)), "query.weight in .* has nan or inf inside"),
    "inf in a .bin": (as_bin(lambda c: c | {WEIGHT: torch.full((32, 32), -torch.inf).bfloat16()}), "has nan or inf"),
    "bytes": (one(torch.ones(32, 32, dtype=torch.int8)), "are no floating-point numbers"),
    "another family": (settings(model_type="distilbert"), r"32 \(distilbert.transformer"),
    "a header that lies": (raw(LIES), "cannot be read"),
    "a pickle in .bin": (both(raw(pickle.dumps(Evil()), BIN), remove(SAFE)), "code is never run"),
    "a zip with code in .bin": (as_bin(lambda c: c | {"x": Evil()}), "code is never run"),
    "a .bin of a list": (as_bin(lambda c: list(c.values())), "no dict of tensors"),
    "a .bin that is wrapped": (as_bin(lambda c: {"state_dict": c}), "no dict of tensors, it holds: state_dict"),
    "a .bin of a sparse tensor": (as_bin(lambda c: c | {"x": torch.eye(2).to_sparse()}), "x is not kept as a plain"),
    "an index to another form": (sharded("w.npz"), "w.npz is no file of weights"),
    "no weights": (remove(SAFE), "has no weights"),
    "an index to the outside": (sharded("../outside/w.safetensors"), "names ../outside/w.safetensors"),
    "an index without metadata": (
        both(sharded("w.safetensors"), text(json.dumps({"weight_map": {"a": "w.safetensors"}}), INDEX)),
        "no metadata",
    ),
    "other weights named": (settings(transformers_weights="../x/model.safetensors"), "transformers_weights=../x"),
    "an adapter inside": (settings("adapter_config.json", **FORGED), "holds an adapter"),
    "quantized": (settings(quantization_config={"quant_method": "bitsandbytes"}), "quantization_config=.*dequantize"),
    "1e9 labels": (settings(num_labels=10**9), "num_labels=1000000000 in .*up to 100,000"),
    "1e5 layers": (settings(num_hidden_layers=10**5), "num_hidden_layers=100000 in .*up to 1,000"),
    "1e7 wide": (settings(hidden_size=10**7, intermediate_size=10**7, num_attention_heads=10), r"\(10000000,\) by"),
    "1e9 positions": (settings(max_position_embeddings=10**9), "max_position_embeddings=1000000000 in"),
    "a negative size": (settings(hidden_size=-32), "hidden_size=-32 in .*whole numbers from 1 on"),
    "a size in words": (settings(hidden_size="thirty-two"), "hidden_size=thirty-two in"),
    "an infinity": (settings(layer_norm_eps=float("inf")), "layer_norm_eps=inf in .*finite"),
    "names of labels as a list": (settings(id2label=["a", "b"]), "id2label=.*an object"),
    "a size as a list": (settings(hidden_size=[32]), "'hidden_size' expected int, got list"),
    "heads that do not divide": (settings(num_attention_heads=5), r"number of attention heads \(5\)"),
    "nan in the settings": (text('{"model_type": "bert", "hidden_size": NaN}'), "hidden_size=nan in .*finite"),
    "a dropout of 7": (settings(hidden_dropout_prob=7), "hidden_dropout_prob=7 in .*from 0 to 1"),
    "an unknown activation": (settings(hidden_act="evil"), "hidden_act=evil in .*allowed: gelu"),
    "another attention": (settings(attn_implementation="kernels/evil"), "attn_implementation=kernels/evil in"),
    "deep settings": (text(DEEP), "nested more than 32 deep"),
    "an unknown model_type": (settings(model_type="evil"), "model_type=evil in .*type model=minilm"),
    "a model_type that is a list": (settings(model_type=["bert"]), r"model_type=\['bert'\]"),
    "no config": (remove("config.json"), "has no config.json"),
    "no tokenizer": (both(remove("tokenizer.json"), remove("tokenizer_config.json")), "has no tokenizer"),
    "a damaged tokenizer": (text('{"version": "1.0"', "tokenizer.json"), "cannot be read"),
    "remote code": (settings(auto_map=REMOTE, model_type="evil"), r"\(auto_map\) is never run"),
}
"""What is wrong with the folder, how it is made so, and what the message says."""


def spoiled(name: str, source: Path, target: Path) -> Path:
    """A copy of the folder `source` at `target`, with the damage of that name."""
    shutil.copytree(source, target)
    CASES[name][0](target)
    return target
