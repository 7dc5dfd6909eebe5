"""Folders of models that are not what they seem: each is a tiny BERT's folder with one thing changed."""

from __future__ import annotations

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


def settings(file: str = "config.json", without: tuple[str, ...] = (), **changes: Any) -> Spoil:
    """Other values in one of the folder's JSON files."""

    def spoil(folder: Path) -> None:
        content = json.loads((folder / file).read_text()) if (folder / file).is_file() else {}
        content = {key: value for key, value in (content | changes).items() if key not in without}
        (folder / file).write_text(json.dumps(content))

    return spoil


def text(content: str, file: str = "config.json") -> Spoil:
    return lambda folder: (folder / file).write_text(content)


def raw(content: bytes, file: str = SAFE) -> Spoil:
    return lambda folder: (folder / file).write_bytes(content)


def cut(share: float) -> Spoil:
    def spoil(folder: Path) -> None:
        os.truncate(folder / SAFE, int((folder / SAFE).stat().st_size * share))

    return spoil


def header(entries: dict[str, Any], data: bytes = b"") -> bytes:
    written = json.dumps(entries).encode()
    return struct.pack("<Q", len(written)) + written + data


def sharded(where: str, place: Callable[[Path], Path] | None = None) -> Spoil:
    """The weights under another name, which an index gives."""

    def spoil(folder: Path) -> None:
        target = place(folder) if place else folder / where
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


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda content: {f"{prefix}{name}": tensor for name, tensor in content.items()}


def half(content: Tensors) -> Tensors:
    return dict(list(content.items())[::2])


def more_layers(content: Tensors) -> Tensors:
    return content | {n.replace("layer.1.", "layer.2."): t.clone() for n, t in content.items() if "layer.1." in n}


def grown_tokenizer(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {"film": 5000}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def forged(folder: Path) -> None:
    """An adapter's settings beside the weights: transformers would read the base that they name instead."""
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "../other"})
    )


CASES: dict[str, Spoil] = {
    "a wrapper's prefix": tensors(prefixed("wrapper.")),
    "module. of DataParallel": tensors(prefixed("module.")),
    "half of the tensors": tensors(half),
    "one tensor missing": tensors(lambda c: {n: t for n, t in c.items() if n != WEIGHT}),
    "one tensor renamed": tensors(
        lambda c: {n.replace("1.attention.self.query.weight", "1.attention.self.q.weight"): t for n, t in c.items()}
    ),
    "no tensor": tensors(lambda c: {}),
    "a layer too many": tensors(more_layers),
    "a wrapped copy": tensors(lambda c: c | {f"ema.{n}": t * 2 for n, t in c.items()}),
    "both names": tensors(lambda c: c | {f"bert.{n}": t * 3 for n, t in c.items()}),
    "both norms": tensors(lambda c: c | {"embeddings.LayerNorm.gamma": c["embeddings.LayerNorm.weight"] * 3}),
    "half a pooler": tensors(lambda c: {n: t for n, t in c.items() if n != "pooler.dense.bias"}),
    "another shape": one(torch.zeros(32, 31)),
    "a transposed shape": tensors(
        lambda c: {n: t.T if n.endswith("intermediate.dense.weight") else t for n, t in c.items()}
    ),
    "a scalar": one(torch.tensor(1.0)),
    "nan": one(torch.full((32, 32), torch.nan)),
    "inf": one(torch.full((32, 32), torch.inf)),
    "too large for fp32": one(torch.full((32, 32), 1e300, dtype=torch.float64)),
    "bytes": one(torch.ones(32, 32, dtype=torch.int8)),
    "float8": one(torch.ones(32, 32).to(torch.float8_e4m3fn)),
    "complex": one(torch.ones(32, 32, dtype=torch.complex64)),
    "another family": settings(model_type="distilbert"),
    "an empty file": raw(b""),
    "a truncated file": cut(0.5),
    "a header cut": cut(0.01),
    "a header of an exabyte": raw(struct.pack("<Q", 2**60) + b"{}"),
    "a header that lies": raw(
        header({WEIGHT: {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4]}}, b"1234")
    ),
    "a header without data": raw(header({WEIGHT: {"dtype": "F32", "shape": [32, 32], "data_offsets": [0, 4096]}})),
    "a git-lfs pointer": raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    "a pickle as safetensors": raw(pickle.dumps(Evil())),
    "a pickle in .bin": lambda folder: (raw(pickle.dumps(Evil()), BIN)(folder), (folder / SAFE).unlink()),
    "a zip with code in .bin": as_bin(lambda c: c | {"x": Evil()}),
    "half a .bin": lambda folder: (as_bin()(folder), os.truncate(folder / BIN, 40_000)),
    "a .bin of a list": as_bin(lambda c: list(c.values())),
    "a .bin with a wrapper": as_bin(lambda c: {"state_dict": c}),
    "no weights": lambda folder: (folder / SAFE).unlink(),
    "weights that are a folder": lambda folder: ((folder / SAFE).unlink(), (folder / SAFE).mkdir()),
    "a dangling link": lambda folder: ((folder / SAFE).unlink(), (folder / SAFE).symlink_to("nowhere")),
    "an index to the outside": sharded("../outside/w.safetensors"),
    "an index to an absolute path": lambda folder: sharded(str(folder.parent / "w.safetensors"))(folder),
    "an index to nothing": text(json.dumps({"metadata": {}, "weight_map": {"a": "b.safetensors"}}), INDEX)
    and (
        lambda folder: (
            (folder / SAFE).unlink(),
            text(json.dumps({"metadata": {}, "weight_map": {"a": "b.safetensors"}}), INDEX)(folder),
        )
    ),
    "an index that is a list": lambda folder: ((folder / SAFE).unlink(), text("[]", INDEX)(folder)),
    "an index of numbers": lambda folder: ((folder / SAFE).unlink(), text('{"weight_map": {"a": 5}}', INDEX)(folder)),
    "an index without metadata": lambda folder: (
        sharded("w.safetensors")(folder),
        text(json.dumps({"weight_map": {"a": "w.safetensors"}}), INDEX)(folder),
    ),
    "other weights named": settings(transformers_weights="../other/model.safetensors"),
    "an adapter inside": forged,
    "quantized": settings(quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}),
    "fp8": settings(quantization_config={"quant_method": "fp8"}),
    "1e9 labels": settings(num_labels=10**9),
    "1e5 layers": settings(num_hidden_layers=10**5),
    "1e7 wide": settings(hidden_size=10**7, intermediate_size=10**7, num_attention_heads=10),
    "1e12 words": settings(vocab_size=10**12),
    "1e9 positions": settings(max_position_embeddings=10**9),
    "a negative size": settings(hidden_size=-32),
    "no layers": settings(num_hidden_layers=0),
    "negative layers": settings(num_hidden_layers=-1),
    "a size in words": settings(hidden_size="thirty-two"),
    "a size as a float": settings(hidden_size=32.5),
    "a size as a list": settings(hidden_size=[32]),
    "a size of null": settings(hidden_size=None),
    "heads that do not divide": settings(num_attention_heads=5),
    "no heads": settings(num_attention_heads=0),
    "nan in the settings": text('{"model_type": "bert", "hidden_size": NaN}'),
    "nan as dropout": settings(hidden_dropout_prob=float("nan")),
    "a dropout of 7": settings(hidden_dropout_prob=7),
    "an unknown activation": settings(hidden_act="evil"),
    "another attention": settings(attn_implementation="kernels-community/evil"),
    "deep JSON": text("[" * 100_000),
    "deep settings": text('{"model_type": "bert", "x": ' + '{"a":' * 900 + "1" + "}" * 901),
    "a list": text("[]"),
    "null": text("null"),
    "empty": text(""),
    "no JSON": text("hello"),
    "binary": raw(b"\xff\xfe\x00\x80" * 9, "config.json"),
    "a number of 5000 digits": text('{"model_type": "bert", "hidden_size": ' + "9" * 5000 + "}"),
    "an unknown model_type": settings(model_type="evil"),
    "no model_type": settings(without=("model_type",)),
    "a model_type that is a list": settings(model_type=["bert"]),
    "labels of strings": settings(id2label="many", num_labels="many"),
    "an unhashable id2label": settings(id2label={"x": ["y"]}),
    "config.json is a folder": lambda folder: ((folder / "config.json").unlink(), (folder / "config.json").mkdir()),
    "no config": lambda folder: (folder / "config.json").unlink(),
    "no tokenizer": lambda folder: [(folder / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
    "a damaged tokenizer": text('{"version": "1.0"', "tokenizer.json"),
    "a tokenizer that is a list": text("[]", "tokenizer.json"),
    "a tokenizer's settings a list": text("[]", "tokenizer_config.json"),
    "an unknown tokenizer": settings("tokenizer_config.json", tokenizer_class="EvilTokenizer"),
    "a tokenizer beyond the embedding": grown_tokenizer,
    "few words": settings(vocab_size=8),
    "few positions": lambda folder: (
        settings(max_position_embeddings=4)(folder),
        tensors(
            lambda c: c | {"embeddings.position_embeddings.weight": c["embeddings.position_embeddings.weight"][:4]}
        )(folder),
    ),
    "remote code": settings(
        auto_map={"AutoConfig": "evil.Evil", "AutoModelForSequenceClassification": "evil.Evil"}, model_type="evil"
    ),
    "generation settings damaged": text("[", "generation_config.json"),
}


def spoiled(name: str, source: Path, target: Path) -> Path:
    """A copy of the folder `source` at `target`, with the damage of that name."""
    shutil.copytree(source, target)
    CASES[name](target)
    return target
