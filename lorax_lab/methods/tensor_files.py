"""Files of tensors of others, safetensors and torch's zip, mapped into memory: data is read where it is asked for.

No code of theirs is run. torch's files hold a pickle, which is read with `weights_only=True`: that builds tensors and
plain containers alone.
"""

from __future__ import annotations

import pickle
import re
import struct
import sys
import warnings
import zipfile
from collections.abc import Iterator
from math import fsum, sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorax_lab.errors import ConfigError, first_line

MEASURED = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""The dtypes whose entries are the weights themselves: float8 and integers need their scales."""
SAFETENSORS = ".safetensors"
TORCH = (".bin", ".pt", ".pth", ".ckpt")
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which training code keeps the weights, beside epochs and optimizers."""
PIECE_BYTES = 4 * 2**20
"""Of a matrix that is read a few rows at a time."""
PARSERS = (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
BROKEN = (*PARSERS, RuntimeError, MemoryError, struct.error, zipfile.BadZipFile)
"""What the readers of zip and pickle raise, all of it, over bytes that are wrong."""
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9"
LFS_POINTER = b"version https://git-lfs"


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of one file by name, in its order. They are views of the mapped file: never write to them.

    Raises:
        ConfigError: another kind of file, cut short, damaged, a git-lfs pointer, Python objects beside tensors.
    """
    if file.suffix == SAFETENSORS:
        return _read_safetensors(file)
    if file.suffix in TORCH:
        return _read_torch(file)
    raise ConfigError(f"{file} is no file of weights; allowed: {', '.join((SAFETENSORS, *TORCH))}")


def pieces(matrix: Tensor) -> Iterator[Tensor]:
    """The rows of a matrix, a few at a time."""
    return iter(matrix.split(max(1, PIECE_BYTES // max(1, matrix.shape[1] * matrix.itemsize))))


def norm(matrix: Tensor) -> float:
    """‖W‖_F, read a few rows at a time, in fp64."""
    return sqrt(fsum(float(torch.linalg.vector_norm(piece, dtype=torch.float64)) ** 2 for piece in pieces(matrix)))


def as_matrix(tensor: Tensor) -> Tensor:
    """A tensor of several sides as the matrix of its first side by all others, as a convolution's kernel (out, in · k ·
    k); a 1-D tensor as one row. A matrix is returned as it is."""
    return tensor.flatten(1) if tensor.ndim > 2 else tensor.reshape(1, -1) if tensor.ndim < 2 else tensor


def dtype_of(tensor: Tensor) -> str:
    """The dtype in one word, as `bfloat16`."""
    return str(tensor.dtype).removeprefix("torch.")


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:  # checks the header, every offset, and the file's size
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, *BROKEN) as error:
        raise _damaged(file, error) from error


def _read_torch(file: Path) -> dict[str, Tensor]:
    held = _checked_zip(file)
    try:
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        match = re.search(r"GLOBAL (\S+)", str(error))
        object_name = f" ({match[1]})" if match else ""
        raise ConfigError(
            f"{file} holds Python objects beside tensors{object_name}, and a checkpoint's code is never run: where "
            "you trust it, load it yourself and save model.state_dict() alone, best with safetensors.torch.save_file"
        ) from error
    except BROKEN as error:
        raise _damaged(file, error) from error
    tensors = _unwrapped(content)
    if not tensors:
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ConfigError(f"{file} holds no tensors by name, only: {keys}; save model.state_dict() alone")
    for name, tensor in tensors.items():  # an expanded view may claim any size
        if tensor.layout != torch.strided or tensor.nbytes > file.stat().st_size:
            raise ConfigError(f"{file}: {name} is not kept as a plain tensor; save it again after .to_dense().clone()")
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()}
    if sum(storages.values()) > held:  # torch maps what the pickle claims, past the end of what is there
        raise _damaged(file, ValueError("the entries of its tensors are not all there"))
    return tensors


def _unwrapped(content: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, taken out of what training code wraps around it."""
    if not isinstance(content, dict):
        return {}
    for key in WRAPPERS:
        if isinstance(content.get(key), dict):
            return _unwrapped(content[key])
    named = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    return {name: tensor.detach() for name, tensor in named.items()}


def _checked_zip(file: Path) -> int:
    """The bytes of all storages in a torch zip.

    Raises:
        ConfigError: a zip that torch would map and misread, or a program.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            names = {entry.filename.partition("/")[2]: entry for entry in entries}
            order = archive.read(names["byteorder"]) if "byteorder" in names else sys.byteorder.encode()
    except BROKEN as error:
        raise _damaged(file, error) from error
    if "constants.pkl" in names:
        raise ConfigError(f"{file} is a TorchScript program; save model.state_dict() of the model it was made from")
    if any(entry.compress_type for entry in entries) or order != sys.byteorder.encode():
        raise ConfigError(f"{file} is compressed, or of another byte order: load it with torch and save it again")
    return sum(entry.file_size for name, entry in names.items() if name.startswith("data/"))


def _damaged(file: Path, error: Exception) -> ConfigError:
    try:
        with file.open("rb") as source:
            start = source.read(32)
    except OSError as refused:
        return ConfigError(f"{file} cannot be read: {refused.strerror}")
    if start.startswith(LFS_POINTER):
        return ConfigError(f"{file} is a git-lfs pointer, not the weights: type git lfs pull in its folder")
    if start.startswith(OLD_TORCH):
        again = "torch.save(torch.load(file, weights_only=True), file)"
        return ConfigError(f"{file} is in the form of torch before 1.6, which is read whole or not at all: {again}")
    return ConfigError(f"{file} is not whole ({first_line(error)}): copy or download it again")
