"""A checkpoint by the name the user types: its files found, fetched where needed, and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorax_lab.errors import ConfigError, named, suggest
from lorax_lab.methods.names import is_embedding, natural
from lorax_lab.models import PRESETS, resolve
from lorax_lab.models.files import download
from lorax_lab.models.tensor_files import (
    SAFETENSORS,
    TORCH,
    WEIGHT_DTYPES,
    file_or_index,
    read_json,
    read_weights,
    shards_of,
)

FORMS = {
    "model.safetensors": "*.safetensors",
    "pytorch_model.bin": "*.bin",
    "model.pt": "*.pt",
    "model.pth": "*.pth",
}
"""What a folder is searched for, in order: a file of that name, its index, any file of the pattern."""
NOT_WEIGHTS = ("adapter_", "training_args", "optimizer", "scheduler", "rng_state", "scaler")
NOT_FETCHED = ["*/*", "consolidated*"]
"""Other forms of the same weights, in folders or under Mistral's own names, and adapters' checkpoints."""
TO_TYPE = (
    f"type a folder with model.safetensors, a file ({', '.join((SAFETENSORS, *TORCH))}), a hub id such as org/name or "
    f"org/name@revision, or a preset ({', '.join(PRESETS)})"
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The tensors of one model, on disk."""

    name: str  # as the user typed it
    files: tuple[Path, ...]  # the weights' files
    tensors: dict[str, Tensor]  # every tensor by name, aliases too
    config: dict[str, Any]  # the content of config.json; {} where there is none
    tied: dict[str, str]  # {alias: name}, tensors that are bit for bit another one, see `find_tied`


def fingerprint_of(files: Iterable[Path]) -> str:
    """A cheap identity: the SHA-256 over each file's name, size and time of change (ns). It reads no data: a copy of
    the files has another, and so has a file that was written again."""
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(states).encode()).hexdigest()


def open_checkpoint(name: str) -> Checkpoint:
    """Find and check a checkpoint; of the tensors' data, only embeddings are read, to see what is tied to them.

    Args:
        name: a folder, a file, an index file, a preset, or a hub id, `org/name` or `org/name@revision`. Where a
            folder has both forms, safetensors is read.

    Raises:
        ConfigError: nothing of that name; no weights there, or only an adapter's; a file that is missing, cut
            short, damaged, or that holds more than tensors.
    """
    path = _path(name)
    files, places = _shards(path)
    config = (path if path.is_dir() else path.parent) / "config.json"
    tensors = read_weights(files, places)
    return Checkpoint(name, tuple(files), tensors, read_json(config) if config.exists() else {}, find_tied(tensors))


def _path(name: str) -> Path:
    if name in PRESETS:
        return resolve(name)
    path = Path(name).expanduser()
    if name and path.exists():
        return path
    if not name or name.startswith((".", "/", "~")) or name.count("/") > 1 or path.suffix in (SAFETENSORS, *TORCH):
        raise ConfigError(f"checkpoint {name!r}: there is no such folder or file ({path.absolute()}); {TO_TYPE}")
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    """The repository's weights and JSON files; torch's files are fetched only where there is no safetensors."""
    folder = Path()
    for weights in ("*.safetensors", "*.bin"):
        with named(f"checkpoint {name!r}"):
            folder = download(name, [weights, "*.json"], NOT_FETCHED, f"{suggest(name, PRESETS)}; {TO_TYPE}")
        if any(folder.glob(weights)):
            break
    return folder


def _shards(path: Path) -> tuple[list[Path], dict[str, Path]]:
    if path.is_file():
        return shards_of(path)
    for form, pattern in FORMS.items():
        if source := file_or_index(path, form):
            return shards_of(source)
        if files := [file for file in sorted(path.glob(pattern)) if not file.name.startswith(NOT_WEIGHTS)]:
            return files, {}
    if any(path.glob("adapter_model.*")):
        raise ConfigError(f"{path} holds an adapter, not a whole checkpoint: merge it into its base and save that")
    raise ConfigError(f"{path} has no weights: looked for {', '.join([*FORMS, *FORMS.values()])}; {TO_TYPE}")


def find_tied(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """`{alias: name}`: matrices with the very bits of an embedding, as an output layer that is the embedding under a
    second name. Reads the embeddings and what has their shape."""
    matrices = [n for n in sorted(tensors, key=natural) if tensors[n].ndim == 2 and tensors[n].dtype in WEIGHT_DTYPES]
    tied: dict[str, str] = {}
    for embedding in filter(is_embedding, matrices):
        for alias in matrices:
            if (
                alias != embedding
                and not {alias, embedding} & tied.keys()
                and _same(tensors[alias], tensors[embedding])
            ):
                tied[alias] = embedding
    return tied


def _same(first: Tensor, second: Tensor) -> bool:
    """Whether two matrices hold the same bits, nan too."""
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[first.itemsize]
    return (first.shape, first.dtype) == (second.shape, second.dtype) and torch.equal(
        first.view(bits), second.view(bits)
    )
