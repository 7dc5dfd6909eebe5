"""The matrices that can be adapted, by name, and the head.

GPT-2's `Conv1D` stores its weight (in, out): `out_in` is the one place that knows it.
"""

import hashlib
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lorax_lab.errors import ConfigError, suggest

POOLER = "pooler"
MAPPED = 2**22
"""Entries of a matrix, 16 MiB in fp32, from which on a copy of it is mapped to a file."""
READ = re.compile(r".*(mixer|mamba)\.(dt_proj|x_proj|out_proj)")
"""Matrices of Mamba's mixers, whose weights its code reads, on some devices or on all, and does not call the layer."""


def head_modules(model: nn.Module) -> list[str]:
    """Names of the modules that belong to the head: those beside the pretrained body, and the pooler, which sentence
    encoders are not trained with. An output layer over the vocabulary is pretrained: it is no head, and not adapted."""
    pretrained = output_layer(model)
    heads = [name for name in _beside_the_body(model) if name != pretrained]
    return [name for name in heads if any(True for _ in model.get_submodule(name).parameters())]


def _beside_the_body(model: nn.Module) -> list[str]:
    """The model's own modules but for the body, and the body's pooler. Where a model has no module for the body, as of
    `AutoModel` or T5, only the output layer is beside it; where it has another name, as CLIP's, the classifier."""
    body = getattr(model, "base_model_prefix", "")
    children = [name for name, _ in model.named_children()]
    if body not in children:
        return [name for name in children if name in (POOLER, "classifier", output_layer(model))]
    inside = [name for name, _ in model.get_submodule(body).named_children()]
    return [name for name in children if name != body] + [f"{body}.{name}" for name in inside if name == POOLER]


def output_layer(model: Any) -> str | None:
    """The module that holds the output layer over the vocabulary, None where there is none."""
    layer = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    children = model.named_children() if layer is not None else []
    return next((name for name, child in children if any(part is layer for part in child.modules())), None)


def is_read(name: str) -> bool:
    """Whether the model's code multiplies by a matrix's weight itself, and does not call the layer."""
    return READ.fullmatch(name) is not None


def head_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The head's parameters by dotted name."""
    heads = head_modules(model)
    return {name: parameter for name, parameter in model.named_parameters() if is_head(name, heads)}


def head_sha256(model: nn.Module) -> str:
    """What identifies the head's values: SHA-256 over the names, shapes and bytes of its parameters."""
    digest = hashlib.sha256()
    for name, parameter in head_parameters(model).items():
        digest.update(f"{name}{tuple(parameter.shape)}".encode() + parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def is_head(parameter: str, heads: list[str]) -> bool:
    """Whether a parameter's dotted name lies in one of the head's modules."""
    return any(parameter.startswith(f"{head}.") for head in heads)


def adaptable(model: nn.Module) -> dict[str, nn.Module]:
    """The weight matrices an update is measured on: every linear module of the body, by dotted name."""
    outside = _beside_the_body(model)
    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) or _is_turned(m)}
    return {name: module for name, module in linear.items() if not is_head(f"{name}.", outside)}


def shapes_of(model: nn.Module) -> dict[str, tuple[int, int]]:
    """(out, in) of each adaptable matrix of a bare model, by dotted name."""
    return {name: shape_of(module) for name, module in adaptable(model).items()}


class Turned(tuple[int, int]):
    """(out, in) of a weight that is stored (in, out), as GPT-2's `Conv1D` does."""


def shape_of(module: nn.Module) -> tuple[int, int]:
    """(out, in) of a linear module; `Turned` where it stores (in, out)."""
    rows, columns = delta_view(module).shape
    return Turned((rows, columns)) if _is_turned(module) else (rows, columns)


def like(shape: tuple[int, int]) -> nn.Module:
    """A linear module of its own, with a weight of this shape (out, in), stored as `shape_of` says."""
    from transformers.pytorch_utils import Conv1D

    return Conv1D(*shape) if isinstance(shape, Turned) else nn.Linear(shape[1], shape[0])


def select(model: nn.Module, targets: list[str]) -> list[str]:
    """`choose` among the adaptable matrices of a model."""
    return choose(list(adaptable(model)), targets)


def choose(names: list[str], targets: list[str]) -> list[str]:
    """Those of the matrices' dotted names that `targets` name: `all-linear`, or last parts of the names
    (`query`, `attention.output.dense`). A ConfigError names a target that matches nothing, and the nearest names."""
    if targets == ["all-linear"]:
        return names
    chosen = {target: [n for n in names if n == target or n.endswith(f".{target}")] for target in targets}
    for target, matches in chosen.items():
        if not matches:
            ends = dict.fromkeys(e for n in names for e in (n.rpartition(".")[2], _in_its_layer(n)))
            unmatched = f"method.target_modules={target} matches no matrix of the model"
            raise ConfigError(f"{unmatched}; {suggest(target, tuple(ends))}, or all-linear")
    return [name for name in names if any(name in matches for matches in chosen.values())]


def short_name(name: str) -> str:
    """A matrix's type: what follows the number of its layer, after `decoder` where the layer is in a decoder, since an
    encoder beside it has matrices of the same names.

    >>> short_name("bert.encoder.layer.3.attention.output.dense")
    'attention.output.dense'
    >>> short_name("model.encoder.layers.0.fc1"), short_name("model.decoder.layers.0.fc1")
    ('fc1', 'decoder.fc1')
    """
    inside = _in_its_layer(name)
    before = name.removesuffix(inside).split(".")
    return f"decoder.{inside}" if "decoder" in before else inside


def _in_its_layer(name: str) -> str:
    parts = name.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[numbers[-1] + 1 :]) if numbers else name


def layer_number(name: str) -> int | None:
    """The depth of a matrix: the first number in its dotted name, None where there is none. Those that follow count
    parts of a layer, as in T5.

    >>> layer_number("bert.encoder.layer.3.output.dense"), layer_number("encoder.block.2.layer.0.SelfAttention.q")
    (3, 2)
    """
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def _is_turned(module: Any) -> bool:
    """Whether it is a `Conv1D`, or one with a parametrized weight, whose class torch derives from it."""
    return any(kind.__name__ == "Conv1D" for kind in type(module).__mro__)


def out_in(module: nn.Module, weight: Tensor) -> Tensor:
    """A weight stored the way `module` stores it, seen as (out, in): GPT-2's `Conv1D` keeps (in, out)."""
    assert weight.ndim == 2, f"a linear module has a 2-D weight, not {tuple(weight.shape)}"
    return weight.t() if _is_turned(module) else weight


def delta_view(module: nn.Module) -> Tensor:
    """The module's weight seen as (out, in), whatever way it is stored; a view, so it can be written to. Of a layer in
    front of another one, that of its `base`."""
    stored = getattr(module, "base", module)
    weight = stored.weight
    assert isinstance(weight, Tensor)
    return out_in(stored, weight)


def base_weights(model: nn.Module, names: list[str], folder: Path | None = None) -> dict[str, Tensor]:
    """Copies of the named weights W0, each (out, in), fp32, on the CPU; large ones `mapped` to files in a folder."""
    return {name: mapped(delta_view(model.get_submodule(name)).detach().cpu(), folder) for name in names}


def mapped(matrix: Tensor, folder: Path | None = None) -> Tensor:
    """A copy of an fp32 tensor of the processor's. A large one is mapped to a file without a name, which is gone with
    the tensor: the system may write it out, so that no memory of the process's own holds it.

    Args:
        folder: on whose disk the file is; None for the system's folder of temporary files.

    Raises:
        OSError: the disk is full.
    """
    if matrix.numel() < MAPPED:
        return matrix.clone()
    with tempfile.TemporaryFile(dir=folder) as file:
        matrix.numpy().tofile(file)
        return torch.from_numpy(np.memmap(file, np.float32, "r+", shape=tuple(matrix.shape)))
