"""The two kinds of files that hold tensors, safetensors and torch's zip: which tensors they hold, and where.

Nothing here reads a tensor's data. torch's files hold a pickle: it is read with `weights_only=True`, which builds
tensors and plain containers and runs no code, and onto the meta device, which notes where each storage lies.
"""

from __future__ import annotations

import json
import pickle
import re
import struct
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorax_lab.audit.checkpoints.stored import Stored
from lorax_lab.errors import ConfigError, first_line

SAFETENSORS = ".safetensors"
TORCH = (".bin", ".pt", ".pth", ".ckpt")
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2FNUZ": torch.float8_e5m2fnuz, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "BOOL": torch.bool,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
}  # fmt: skip
"""safetensors' names; its 4 and 6 bit floats, which have no dtype of their own in torch, count as bytes."""
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which training code keeps the weights, beside epochs and optimizers."""
PARSERS = (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
BROKEN = (*PARSERS, RuntimeError, MemoryError, struct.error, zipfile.BadZipFile)
"""What the readers of zip and pickle raise, all of it, over bytes that are wrong."""
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9"
LFS_POINTER = b"version https://git-lfs"


def read_tensors(file: Path) -> dict[str, Stored]:
    """The tensors of one file by name, in its order; no data is read.

    Raises:
        ConfigError: another kind of file, cut short, damaged, a git-lfs pointer, Python objects beside tensors.
    """
    if file.suffix == SAFETENSORS:
        return _read_safetensors(file)
    if file.suffix in TORCH:
        return _read_torch(file)
    raise ConfigError(f"{file} is no file of weights; allowed: {', '.join((SAFETENSORS, *TORCH))}")


def _read_safetensors(file: Path) -> dict[str, Stored]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt"):  # checks the header, every offset, and the file's size
            pass
    except (SafetensorError, OSError) as error:
        raise _damaged(file, error) from error
    with file.open("rb") as source:
        length = int.from_bytes(source.read(8), "little")
        header = json.loads(source.read(length))
    header.pop("__metadata__", None)
    return {name: _from_header(name, entry, file, 8 + length) for name, entry in header.items()}


def _from_header(name: str, entry: dict[str, Any], file: Path, data: int) -> Stored:
    shape = tuple(entry["shape"])
    strides = torch.empty(shape, device="meta").stride()
    dtype = DTYPES.get(entry["dtype"], torch.uint8)
    return Stored(name, shape, dtype, file, data + entry["data_offsets"][0], strides)


def _read_torch(file: Path) -> dict[str, Stored]:
    records = _records(file)
    try:
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(file, map_location="meta", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        object_name = f" ({asked[1]})" if asked else ""
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
    return {name: _from_meta(name, tensor, file, records) for name, tensor in tensors.items()}


def _unwrapped(content: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, taken out of what training code wraps around it."""
    if not isinstance(content, dict):
        return {}
    for key in WRAPPERS:
        if isinstance(content.get(key), dict):
            return _unwrapped(content[key])
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}


def _from_meta(name: str, tensor: Tensor, file: Path, records: dict[int, int]) -> Stored:
    plain = tensor.layout == torch.strided and (tensor.ndim != 2 or 1 in tensor.stride() or min(tensor.shape) <= 1)
    if not plain:
        raise ConfigError(f"{file}: {name} is not kept as a plain matrix; save it again after .to_dense().contiguous()")
    start = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
    first, size = int(tensor.storage_offset()), tensor.element_size()
    last = first + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    if tensor.numel() and (start is None or (last + 1) * size > records.get(start, 0)):
        raise _damaged(file, ValueError(f"the entries of {name} are not all there"))
    return Stored(name, tuple(tensor.shape), tensor.dtype, file, (start or 0) + first * size, tensor.stride())


def _records(file: Path) -> dict[int, int]:
    """Where each record of torch's zip file begins and its size, both in bytes."""
    try:
        with zipfile.ZipFile(file) as archive, file.open("rb") as source:
            entries = archive.infolist()
            names = [entry.filename.partition("/")[2] for entry in entries]
            orders = {archive.read(e) for e, name in zip(entries, names, strict=True) if name == "byteorder"}
            sizes = {_data_offset(source, entry.header_offset): entry.file_size for entry in entries}
    except BROKEN as error:
        raise _damaged(file, error) from error
    if "constants.pkl" in names:
        raise ConfigError(f"{file} is a TorchScript program; save model.state_dict() of the model it was made from")
    if any(entry.compress_type for entry in entries) or orders - {sys.byteorder.encode()}:
        raise ConfigError(f"{file} is compressed, or of another byte order: load it with torch and save it again")
    return sizes


def _data_offset(source: Any, header: int) -> int:
    """A zip entry's data begin after its local header: 30 bytes, its name and an extra field."""
    source.seek(header + 26)
    return header + 30 + sum(struct.unpack("<HH", source.read(4)))


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
