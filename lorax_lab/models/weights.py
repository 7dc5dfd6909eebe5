"""The files that a model's weights are read from, the tensors that they hold, and the hash that identifies them all."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
import zipfile
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from lorax_lab.data.assets import State, sha256_of_file, state_of
from lorax_lab.errors import ConfigError, first_line, in_short

HASHED = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model", "*.codes", "*.spm", "*.tokenizer")
"""What is hashed of the files at a folder's top: weights, configuration, tokenizer."""
FORMS = ("model.safetensors", "pytorch_model.bin")
"""The names under which transformers looks for weights, in its order: first the file, then its index."""
INDEX = ".index.json"
LARGEST = 2**26
"""Bytes of an index or a config.json."""
WEIGHTS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""The dtypes whose entries are the weights themselves; integers and float8 are not."""


def weight_files(name: str, folder: Path) -> list[Path]:
    """The files that transformers reads the weights of the model `name` from.

    Raises:
        ConfigError: there is none; an index that cannot be read, or that names a file outside of the folder, or one
            that is not there.
    """
    if index := _index(folder):
        return sorted(set(_places(name, index).values()))
    if files := [folder / form for form in FORMS if (folder / form).is_file()]:
        return files[:1]
    looked_for = " or ".join(f"{form}[{INDEX}]" for form in FORMS)
    raise ConfigError(f"model={name} has no weights in {folder}: it needs {looked_for}; save them, or copy them again")


def _index(folder: Path) -> Path | None:
    """The index of the shards that are read; None where a single file is."""
    for form in FORMS:
        if (folder / form).is_file():
            return None
        if (folder / f"{form}{INDEX}").is_file():
            return folder / f"{form}{INDEX}"
    return None


def _places(name: str, index: Path) -> dict[str, Path]:
    """The file of each tensor, as an index of shards says."""
    content = read_json(name, index)
    places: Any = content.get("weight_map")
    is_map = isinstance(places, dict) and places and all(isinstance(place, str) for place in places.values())
    if not is_map or not isinstance(content.get("metadata"), dict):  # transformers reads both
        raise ConfigError(f"model={name}: {index} has no weight_map of tensors to files, or no metadata; copy it again")
    for place in sorted(set(places.values())):
        if PurePosixPath(place).is_absolute() or {"..", ""} & {*place.split("/")}:
            allowed = "allowed are files in the model's own folder: move the weights there and correct the index"
            raise ConfigError(f"model={name}: {index} names {place}; {allowed}")
        if not (index.parent / place).is_file():
            raise ConfigError(f"model={name}: {index} names {place}, which is not there; copy it too")
    return {key: index.parent / place for key, place in places.items()}


def read_json(name: str, path: Path) -> dict[str, Any]:
    """The object in one of a model's JSON files. A ConfigError says that it is too large, no JSON, or no object."""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
    except RecursionError:
        raise ConfigError(f"model={name}: {path} cannot be read: it is nested too deeply; copy it again") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"model={name}: {path} cannot be read: {in_short(error)}; copy it again") from None
    return content


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
    """Every tensor of the weights' files by name, on the meta device; no data is read, and no code is run.

    Raises:
        ConfigError: as `weight_files`; a file that is damaged, that holds more than tensors, or none; shards that are
            not what their index says.
    """
    tensors: dict[str, Tensor] = {}
    files: dict[str, Path] = {}
    for file in weight_files(name, folder):
        try:
            held = _tensors(file, "meta")
        except Exception as error:
            raise ConfigError(f"model={name}: {_why(file, error)}") from error
        if twice := sorted(held.keys() & tensors.keys()):
            also = f"{file} holds {twice[0]}, which another of its files holds too"
            raise ConfigError(f"model={name}: {also}; save the model anew, so that each tensor is in one file")
        tensors |= held
        files |= dict.fromkeys(held, file)
    if not tensors:
        raise ConfigError(f"model={name}: its weights in {folder} hold no tensor; copy them again")
    index = _index(folder)
    for key, place in _places(name, index).items() if index else ():
        if files.get(key) != place:
            wrong = f"{index} has {key} in {place.relative_to(folder)}, which does not hold it"
            raise ConfigError(f"model={name}: {wrong}; copy the files and the index again, or save the model anew")
    return tensors


def infinite(folder: Path, keys: Collection[str]) -> list[str]:
    """Those of the named tensors that have nan or inf inside, in fp32. Every byte of them is read."""
    return [key for key in keys if key in _infinite(folder, states(folder))]


@lru_cache(maxsize=16)
def _infinite(folder: Path, files: tuple[State, ...]) -> frozenset[str]:
    bad: list[str] = []
    for file in weight_files(str(folder), folder):
        bad += [key for key, tensor in _tensors(file, "cpu").items() if not is_finite(tensor)]
    return frozenset(bad)


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor of weights has neither nan nor inf inside, in fp32; what holds no weights is not looked at."""
    if tensor.dtype not in WEIGHTS or not tensor.numel():
        return True
    return bool(torch.stack(tensor.detach().aminmax()).float().isfinite().all())  # nan is in both ends


def _tensors(file: Path, device: str) -> dict[str, Tensor]:
    """The tensors of one file, mapped into memory where their form allows it; `meta` reads no data."""
    if file.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(file, framework="pt") as opened:
            return {key: opened.get_tensor(key).to(device) for key in opened.keys()}  # noqa: SIM118
    is_mapped = device == "cpu" and zipfile.is_zipfile(file)
    with warnings.catch_warnings(action="ignore"):
        content = torch.load(file, map_location=device, weights_only=True, mmap=is_mapped)
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise ValueError("it is no dict of tensors: save model.state_dict() alone")
    return {key: tensor.detach() for key, tensor in content.items()}


def _why(file: Path, error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        holds = "it is damaged, or holds more than tensors, and code is never run"
        return f"{file} cannot be read: {holds}; name a folder with model.safetensors"
    with file.open("rb") as content:
        is_pointer = content.read(64).startswith(b"version https://git-lfs")
    if is_pointer:
        return f"{file} cannot be read: it is a git-lfs pointer; type git lfs pull in its folder"
    return f"{file} cannot be read: {first_line(error)}; copy it again"
