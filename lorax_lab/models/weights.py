"""The files that a model's weights are read from, the tensors that they hold, and the hash that identifies them all."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from lorax_lab.data.assets import State, sha256_of_file, state_of
from lorax_lab.errors import ConfigError, named
from lorax_lab.models.tensor_files import INDEX, WEIGHT_DTYPES, file_or_index, read_tensors, read_weights, shards_of

HASHED = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model", "*.codes", "*.spm", "*.tokenizer")
"""What is hashed of the files at a folder's top: weights, configuration, tokenizer."""
FORMS = ("model.safetensors", "pytorch_model.bin")
"""The names under which transformers looks for weights, in its order: first the file, then its index."""


def weight_files(name: str, folder: Path) -> list[Path]:
    """The files that transformers reads the weights of the model `name` from.

    Raises:
        ConfigError: there is none; an index that cannot be read, or that names a file outside of the folder, or one
            that is not there.
    """
    return _shards(name, folder)[0]


def _shards(name: str, folder: Path) -> tuple[list[Path], dict[str, Path]]:
    source = next(filter(None, (file_or_index(folder, form) for form in FORMS)), None)
    if source is None:
        wanted = " or ".join(f"{form}[{INDEX}]" for form in FORMS)
        raise ConfigError(f"model={name} has no weights in {folder}: it needs {wanted}; save them, or copy them again")
    with named(f"model={name}"):
        return shards_of(source, needs_metadata=True)


def folder_sha256(folder: Path) -> str:
    """The SHA-256 over the names and contents of the files that identify a model, each read once for each state."""
    top = {path for pattern in HASHED for path in folder.glob(pattern) if path.is_file()}
    digest = hashlib.sha256()
    for path in sorted(top | set(weight_files(str(folder), folder))):
        digest.update(f"{path.relative_to(folder).as_posix()}:{sha256_of_file(path)}\n".encode())
    return digest.hexdigest()


def states(folder: Path) -> tuple[State, ...]:
    """The states of the files that say which tensors there are, and which there should be. No file is read."""
    files = [*sorted(folder.glob("*.json")), *weight_files(str(folder), folder)]
    return tuple(map(state_of, files))


def empty_tensors(name: str, folder: Path) -> dict[str, Tensor]:
    """Every tensor of the weights' files by name, on the meta device. No code is run, and no data is read,
    but that of a file in the form of torch before 1.6.

    Raises:
        ConfigError: as `weight_files`; a file that is damaged, that holds more than tensors, or none; shards that are
            not what their index says.
    """
    files, places = _shards(name, folder)
    with named(f"model={name}"):
        return {key: tensor.to("meta") for key, tensor in read_weights(files, places, is_plain=True).items()}


def infinite(folder: Path, keys: Collection[str]) -> list[str]:
    """Those of the named tensors that have nan or inf inside, in fp32. Every byte of them is read."""
    return [key for key in keys if key in _infinite(folder, states(folder))]


@lru_cache(maxsize=16)
def _infinite(folder: Path, files: tuple[State, ...]) -> frozenset[str]:
    bad: list[str] = []
    for file in weight_files(str(folder), folder):
        bad += [key for key, tensor in read_tensors(file, is_plain=True).items() if not is_finite(tensor)]
    return frozenset(bad)


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor of weights has neither nan nor inf inside, in fp32; what holds no weights is not looked at."""
    if tensor.dtype not in WEIGHT_DTYPES or not tensor.numel():
        return True
    return bool(torch.stack(tensor.detach().aminmax()).float().isfinite().all())  # nan is in both ends
