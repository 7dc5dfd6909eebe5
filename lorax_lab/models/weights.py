"""The files that a model's weights are read from, the tensors that they state, and the hash that identifies them all.

A file that changes has another size, inode or time of change: `state_of` sees it without reading the file, so each
state is hashed once.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from lorax_lab.errors import ConfigError, first_line, in_short

HASHED = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model", "*.codes", "*.spm", "*.tokenizer")
"""What is hashed of the files at a folder's top: weights, configuration, tokenizer."""
FORMS = ("model.safetensors", "pytorch_model.bin")
"""The names under which transformers looks for weights, in its order: first the file, then its index."""
INDEX = ".index.json"
LARGEST = 2**26
"""Bytes of an index or a config.json."""
STATED = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""safetensors' names of the dtypes whose entries are the weights themselves."""
BF16_EXPONENT = 0x7F80
"""The bits that are all set in a number of bf16 that is not finite."""
State = tuple[tuple[str, int, int, int, int], ...]


@dataclass(frozen=True)
class Stated:
    """A tensor as its file states it; `dtype` is None where its entries are no weights, such as integers."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None


def weight_files(name: str, folder: Path) -> list[Path]:
    """The files that transformers reads the weights of the model `name` from.

    Raises:
        ConfigError: there is none; an index that cannot be read, or that names a file outside of the folder, or one
            that is not there.
    """
    if files := _files(name, folder):
        return files
    looked_for = " or ".join(f"{form}[{INDEX}]" for form in FORMS)
    raise ConfigError(f"model={name} has no weights in {folder}: it needs {looked_for}; save them, or copy them again")


def _files(name: str, folder: Path) -> list[Path]:
    if index := _index(folder):
        return _shards(name, index)
    return [folder / form for form in FORMS if (folder / form).is_file()][:1]


def _index(folder: Path) -> Path | None:
    """The index of the shards that are read; None where a single file is."""
    for form in FORMS:
        if (folder / form).is_file():
            return None
        if (folder / f"{form}{INDEX}").is_file():
            return folder / f"{form}{INDEX}"
    return None


def _shards(name: str, index: Path) -> list[Path]:
    files = sorted(set(_weight_map(name, index).values()))
    if outside := [file for file in files if PurePosixPath(file).is_absolute() or {"..", ""} & {*file.split("/")}]:
        allowed = "allowed are files in the model's own folder: move the weights there and correct the index"
        raise ConfigError(f"model={name}: {index} names {outside[0]}; {allowed}")
    if lacking := [file for file in files if not (index.parent / file).is_file()]:
        raise ConfigError(f"model={name}: {index} names {lacking[0]}, which is not there; copy it too")
    return [index.parent / file for file in files]


def _weight_map(name: str, index: Path) -> dict[str, str]:
    """The file of each tensor, as an index of shards says."""
    content = read_json(name, index)
    places = content.get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(place, str) for place in places.values()):
        raise ConfigError(f"model={name}: {index} has no weight_map of tensors to files; copy it again")
    if not isinstance(content.get("metadata"), dict):
        raise ConfigError(f"model={name}: {index} has no metadata, which transformers reads; copy it again")
    return places


def read_json(name: str, path: Path) -> dict[str, Any]:
    """The object in one of a model's JSON files.

    Raises:
        ConfigError: it is too large, no JSON, or no object.
    """
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


def state_of(folder: Path) -> State:
    """Name, size, inode and times of change (ns) of every file that identifies a model. No file is read.

    Raises:
        ConfigError: an index of weights that cannot be read, or that names a file outside of the folder, or one that
            is not there.
    """
    top = {path for pattern in HASHED for path in folder.glob(pattern) if path.is_file()}
    files = sorted(top | set(_files(str(folder), folder)))
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    return tuple((name, s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for name, s in stats)


def folder_sha256(folder: Path) -> str:
    """The SHA-256 over the names and contents of the files that identify a model.

    Raises:
        ConfigError: as `state_of`.
    """
    return _sha256(folder, state_of(folder))


@lru_cache(maxsize=16)
def _sha256(folder: Path, state: State) -> str:
    digest = hashlib.sha256()
    for name, *_ in state:
        with (folder / name).open("rb") as file:
            digest.update(f"{name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def stated(name: str, folder: Path) -> dict[str, Stated]:
    """Every tensor of the weights' files, by name; no data is read, and no code is run.

    Raises:
        ConfigError: as `weight_files`; a file that is damaged, that holds more than tensors, or none; shards that are
            not what their index says.
    """
    tensors: dict[str, Stated] = {}
    places: dict[str, Path] = {}
    for file in weight_files(name, folder):
        try:
            held = _of_safetensors(file) if file.suffix == ".safetensors" else _of_torch(file)
        except Exception as error:
            raise ConfigError(f"model={name}: {_why(file, error)}") from error
        if twice := sorted(held.keys() & tensors.keys()):
            also = f"{file} holds {twice[0]}, which another of its files holds too"
            raise ConfigError(f"model={name}: {also}; save the model anew, so that each tensor is in one file")
        tensors |= held
        places |= dict.fromkeys(held, file)
    if not tensors:
        raise ConfigError(f"model={name}: its weights in {folder} hold no tensor; copy them again")
    _refuse_misplaced(name, folder, places)
    return tensors


def _refuse_misplaced(name: str, folder: Path, places: Mapping[str, Path]) -> None:
    """Refuse shards of which one lacks a tensor that the index has in it, or holds one that it has in another.

    Args:
        places: the file that holds each tensor.
    """
    index = _index(folder)
    for key, place in _weight_map(name, index).items() if index else ():
        if places.get(key) != folder / place:
            other = f"{places[key].relative_to(folder)} holds it" if key in places else "no file holds it"
            wrong = f"{index} has {key} in {place}, and {other}"
            raise ConfigError(f"model={name}: {wrong}; copy the files and the index again, or save the model anew")


def infinite(folder: Path, keys: Collection[str]) -> list[str]:
    """Those of the named tensors that have nan or inf inside, in fp32. Every byte of them is read."""
    return [key for key in keys if key in _infinite(folder, state_of(folder))]


@lru_cache(maxsize=16)
def _infinite(folder: Path, state: State) -> frozenset[str]:
    from safetensors import safe_open

    bad: list[str] = []
    for file in _files(str(folder), folder):
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as content:
                bad += [key for key in content.keys() if not _is_finite(content.get_tensor(key))]  # noqa: SIM118
        else:
            loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
            bad += [key for key, tensor in loaded.items() if not _is_finite(tensor)]
    return frozenset(bad)


def _is_finite(tensor: torch.Tensor) -> bool:
    """By numpy, in one thread: waking several costs more than they save."""
    if tensor.dtype not in STATED.values() or not tensor.numel():
        return True
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return not ((tensor.contiguous().view(torch.int16).numpy() & BF16_EXPONENT) == BF16_EXPONENT).any()
    values = tensor.numpy()
    ends = torch.tensor([float(values.min()), float(values.max())], dtype=torch.float64)  # nan is in both
    return bool(ends.float().isfinite().all())


def _is_zip(file: Path) -> bool:
    import zipfile

    return zipfile.is_zipfile(file)


def _of_safetensors(file: Path) -> dict[str, Stated]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as content:
        slices = {key: content.get_slice(key) for key in content.keys()}  # noqa: SIM118
        return {key: Stated(tuple(s.get_shape()), STATED.get(s.get_dtype())) for key, s in slices.items()}


def _of_torch(file: Path) -> dict[str, Stated]:
    with warnings.catch_warnings(action="ignore"):
        content = torch.load(file, map_location="meta", weights_only=True)
    if not isinstance(content, dict) or not all(isinstance(t, torch.Tensor) for t in content.values()):
        raise ValueError("it is no dict of tensors: save model.state_dict() alone")
    known = STATED.values()
    return {key: Stated(tuple(t.shape), t.dtype if t.dtype in known else None) for key, t in content.items()}


def _why(file: Path, error: Exception) -> str:
    from pickle import UnpicklingError

    if isinstance(error, UnpicklingError):
        return (
            f"{file} cannot be read: it is damaged, or holds more than tensors, and code is never run; name a folder "
            "with model.safetensors"
        )
    with file.open("rb") as content:
        pointer = content.read(64).startswith(b"version https://git-lfs")
    if pointer:
        return f"{file} cannot be read: it is a git-lfs pointer; type git lfs pull in its folder"
    return f"{file} cannot be read: {first_line(error)}; copy it again"
