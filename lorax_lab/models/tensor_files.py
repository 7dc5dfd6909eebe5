"""Files of weights of others, safetensors and torch's zip, mapped into memory: data is read where it is asked for.

No code of theirs is run. torch's files hold a pickle, which is read with `weights_only=True`: that builds tensors and
plain containers alone. A message begins with the file; `lorax_lab.errors.named` puts before it whose file it is.
"""

import json
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from math import fsum, sqrt
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from lorax_lab.errors import ConfigError, first_line, in_short

WEIGHT_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""The dtypes whose entries are the weights themselves: float8 and integers need their scales."""
SAFETENSORS = ".safetensors"
TORCH = (".bin", ".pt", ".pth", ".ckpt")
INDEX = ".index.json"
"""Follows a file's name in that of the index of its shards."""
LARGEST_JSON = 2**26
"""Bytes of an index or of settings."""
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which training code keeps the weights, beside epochs and optimizers."""
PIECE_BYTES = 4 * 2**20
"""Of a matrix that is read a few rows at a time."""
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9"
ZIP = b"PK\x03\x04"
LFS_POINTER = b"version https://git-lfs"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. A ConfigError says that it is missing, too large, no JSON, or no object."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"it has more than {LARGEST_JSON:,} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
    except RecursionError:
        raise ConfigError(f"{path} cannot be read: it is nested too deeply; copy it again") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {in_short(error)}; copy it again") from None
    return content


def file_or_index(folder: Path, name: str) -> Path | None:
    """The file of that name, else the index of its shards; None where there is neither."""
    return next((path for path in (folder / name, folder / f"{name}{INDEX}") if path.is_file()), None)


def shards_of(source: Path, needs_metadata: bool = False) -> tuple[list[Path], dict[str, Path]]:
    """The files of weights behind `source`, which is one itself or an index of them, and the file of each tensor where
    an index says so. transformers reads no index without metadata (`needs_metadata`).

    Raises:
        ConfigError: an index that cannot be read, or that names a file outside of its folder, or one that is not there.
    """
    if not source.name.endswith(INDEX):
        return [source], {}
    content = read_json(source)
    places: Any = content.get("weight_map")
    is_map = isinstance(places, dict) and places and all(isinstance(place, str) for place in places.values())
    if not is_map or (needs_metadata and not isinstance(content.get("metadata"), dict)):
        raise ConfigError(f"{source} has no weight_map of tensors to files, or no metadata; copy it again")
    for place in sorted(set(places.values())):
        if PurePosixPath(place).is_absolute() or {"..", ""} & {*place.split("/")}:
            raise ConfigError(f"{source} names {place}; allowed are files in its own folder")
        if not (source.parent / place).is_file():
            raise ConfigError(f"{source} names {place}, which is not there; copy it too")
    places = {key: source.parent / place for key, place in places.items()}
    return sorted(set(places.values())), places


def read_weights(files: Sequence[Path], places: Mapping[str, Path], is_plain: bool = False) -> dict[str, Tensor]:
    """The tensors of all files by name, see `shards_of` and `read_tensors`. A ConfigError names a tensor that is in two
    files, or not in the one that the index names."""
    tensors: dict[str, Tensor] = {}
    holders: dict[str, Path] = {}
    for file in files:
        held = read_tensors(file, is_plain)
        if twice := sorted(held.keys() & tensors.keys()):
            both = f"{file} holds {twice[0]}, which {holders[twice[0]].name} holds too"
            raise ConfigError(f"{both}; name the file that is meant, or save the model anew")
        tensors |= held
        holders |= dict.fromkeys(held, file)
    for key, place in places.items():
        if holders.get(key) != place:
            raise ConfigError(f"{place} does not hold {key}, which its index has there; copy all again")
    if not tensors:
        raise ConfigError(f"the weights in {files[0].parent} hold no tensor; copy them again")
    return tensors


def read_tensors(file: Path, is_plain: bool = False) -> dict[str, Tensor]:
    """The tensors of one file by name, in its order. They are views of the mapped file: never write to them.

    Args:
        is_plain: of torch's files, take what transformers takes: a state dict that nothing wraps, also in the form of
            torch before 1.6, which cannot be mapped.

    Raises:
        ConfigError: another kind of file, damaged, a git-lfs pointer, Python objects beside tensors.
    """
    if file.suffix == SAFETENSORS:
        return _read_safetensors(file)
    if file.suffix in TORCH:
        return _read_torch(file, is_plain)
    raise ConfigError(f"{file} is no file of weights; allowed: {', '.join((SAFETENSORS, *TORCH))}")


def norm(matrix: Tensor) -> float:
    """‖W‖_F, read a few rows at a time, in fp64."""
    pieces = matrix.split(max(1, PIECE_BYTES // max(1, matrix.shape[1] * matrix.itemsize)))
    return sqrt(fsum(float(torch.linalg.vector_norm(piece, dtype=torch.float64)) ** 2 for piece in pieces))


def as_matrix(tensor: Tensor) -> Tensor:
    """A tensor of several sides as the matrix of its first side by all others, as a convolution's kernel (out, in · k ·
    k); a 1-D tensor as one row; a matrix as it is."""
    return tensor.flatten(1) if tensor.ndim > 2 else tensor.reshape(1, -1) if tensor.ndim < 2 else tensor


def dtype_of(tensor: Tensor) -> str:
    """The dtype in one word, as `bfloat16`."""
    return str(tensor.dtype).removeprefix("torch.")


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import safe_open

    try:
        with safe_open(file, framework="pt") as opened:  # checks the header, every offset, and the file's size
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except Exception as error:
        raise _damaged(file, error) from error


def _read_torch(file: Path, is_plain: bool) -> dict[str, Tensor]:
    try:
        is_old = is_plain and not _start(file).startswith(ZIP)  # as torch tells its two forms apart
        held = file.stat().st_size if is_old else _checked_zip(file)
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=not is_old)
        state = content if is_plain else _unwrapped(content)
    except ConfigError:
        raise
    except pickle.UnpicklingError as error:
        match = re.search(r"GLOBAL (\S+)", str(error))
        holds = f"is damaged, or holds Python objects beside tensors{f' ({match[1]})' if match else ''}"
        cure = "where you trust it, load it yourself and save model.state_dict() alone"
        raise ConfigError(f"{file} {holds}, and a checkpoint's code is never run: {cure}") from error
    except Exception as error:  # the readers of zip and pickle raise all kinds over bytes that are wrong
        raise _damaged(file, error) from error
    entries = state.items() if isinstance(state, dict) else ()
    tensors = {name: value.detach() for name, value in entries if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors or (is_plain and len(tensors) < len(state)):
        names = [name if isinstance(name, str) else type(name).__name__ for name, _ in entries]
        holds = ", ".join(name for name in names if name not in tensors) or type(state).__name__
        raise ConfigError(f"{file} is no dict of tensors, it holds: {holds:.200}; save model.state_dict() alone")
    for name, tensor in tensors.items():  # an expanded view may claim any size
        if tensor.layout != torch.strided or tensor.is_meta or tensor.nbytes > file.stat().st_size:
            raise ConfigError(f"{file}: {name} is not kept as a plain tensor; save it again after .to_dense().clone()")
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()}
    if sum(storages.values()) > held:  # torch maps what the pickle claims, past the end of what is there
        raise _damaged(file, ValueError("the entries of its tensors are not all there"))
    return tensors


def _unwrapped(content: Any) -> Any:
    keys = [key for key in WRAPPERS if isinstance(content, dict) and isinstance(content.get(key), dict)]
    return _unwrapped(content[keys[0]]) if keys else content


def _checked_zip(file: Path) -> int:
    """The bytes of all storages in a torch zip; a ConfigError refuses what torch would misread, or a program."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            names = {entry.filename.partition("/")[2]: entry for entry in entries}
            order = archive.read(names["byteorder"]) if "byteorder" in names else sys.byteorder.encode()
    except Exception as error:
        raise _damaged(file, error) from error
    if "constants.pkl" in names:
        raise ConfigError(f"{file} is a TorchScript program; save model.state_dict() of the model it was made from")
    if any(entry.compress_type for entry in entries) or order != sys.byteorder.encode():
        raise ConfigError(f"{file} is compressed, or of another byte order: load it with torch and save it again")
    return sum(entry.file_size for name, entry in names.items() if name.startswith("data/"))


def _start(file: Path) -> bytes:
    with file.open("rb") as source:
        return source.read(32)


def _damaged(file: Path, error: Exception) -> ConfigError:
    try:
        start = _start(file)
    except OSError as refused:
        return ConfigError(f"{file} cannot be read: {refused.strerror}")
    if start.startswith(LFS_POINTER):
        return ConfigError(f"{file} cannot be read: it is a git-lfs pointer; type git lfs pull in its folder")
    if start.startswith(OLD_TORCH):
        again = "torch.save(torch.load(file, weights_only=True), file)"
        return ConfigError(f"{file} is in the form of torch before 1.6, which is read whole or not at all: {again}")
    return ConfigError(f"{file} cannot be read: {first_line(error)}; copy or download it again")
