"""Checkpoints by the names the user types: files found, fetched where needed, and checked; matrices of two paired."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lorax_lab.errors import ConfigError, named, suggest
from lorax_lab.methods.names import is_embedding, natural, renames
from lorax_lab.models import PRESETS, resolve, tensor_files
from lorax_lab.models.files import download
from lorax_lab.models.tensor_files import SAFETENSORS, TORCH, WEIGHT_DTYPES, dtype_of, shards_of
from lorax_lab.spectra import Update

FORMS = {"model.safetensors": "*.safetensors", "pytorch_model.bin": "*.bin", "model.pt": "*.pt", "model.pth": "*.pth"}
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
    tied: dict[str, str]  # {alias: name}, tensors that equal another one, see `find_tied`


def fingerprint_of(files: Iterable[Path]) -> str:
    """A cheap identity: the SHA-256 over each file's name, size and time of change (ns). It reads no data."""
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(states).encode()).hexdigest()


def open_checkpoint(name: str) -> Checkpoint:
    """Find and check a checkpoint; of the tensors' data, only embeddings are read, to see what is tied to them.

    Args:
        name: a folder, a file, an index file, a preset, or a hub id, `org/name` or `org/name@revision`.

    Raises:
        ConfigError: nothing of that name, no weights there, or a file that is damaged or holds more than tensors.
    """
    path = _path(name)
    files, places = _shards(path)
    config = (path if path.is_dir() else path.parent) / "config.json"
    tensors = tensor_files.read_weights(files, places)
    settings = tensor_files.read_json(config) if config.exists() else {}
    return Checkpoint(name, tuple(files), tensors, settings, find_tied(tensors))


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
        if source := tensor_files.file_or_index(path, form):
            return shards_of(source)
        if files := [file for file in sorted(path.glob(pattern)) if not file.name.startswith(NOT_WEIGHTS)]:
            return files, {}
    if any(path.glob("adapter_model.*")):
        raise ConfigError(f"{path} holds an adapter, not a whole checkpoint: merge it into its base and save that")
    raise ConfigError(f"{path} has no weights: looked for {', '.join([*FORMS, *FORMS.values()])}; {TO_TYPE}")


def find_tied(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """`{alias: name}`: matrices with the very numbers of an embedding, as an output layer that is the embedding under a
    second name. Reads the embeddings and what has their shape."""
    matrices = [n for n in sorted(tensors, key=natural) if tensors[n].ndim == 2 and tensors[n].dtype in WEIGHT_DTYPES]
    tied: dict[str, str] = {}
    for name in filter(is_embedding, matrices):
        for alias in matrices:
            are_free = alias != name and not {alias, name} & tied.keys()
            if are_free and tensors[alias].dtype == tensors[name].dtype and torch.equal(tensors[alias], tensors[name]):
                tied[alias] = name
    return tied


# ---- which matrices of two checkpoints belong together

CPU = torch.device("cpu")
KINDS = ("renamed", "tied", "missing", "extra", "reshaped", "unsupported dtype", "3-D", "not 2-D")
"""The kinds of notes. `renamed` is measured; `tied` says whether it is; the others are not measured."""
INDICES = (torch.int64, torch.bool)


@dataclass(frozen=True, eq=False)
class Difference:
    """TUNED − BASE of two stored matrices of one shape, (out, in), which stays on disk; its blocks lie on `device`."""

    base: Tensor
    tuned: Tensor
    device: torch.device = CPU

    @property
    def shape(self) -> tuple[int, ...]:
        """(out, in)."""
        return tuple(self.base.shape)

    def to(self, device: torch.device) -> Difference:
        """The same difference, with its blocks on another device."""
        return replace(self, device=device)

    def block(self, dim: int, start: int, stop: int) -> Tensor:
        """The same slice of both, each upcast first, fp64. It is exact where both entries and their difference span
        less than 2^53 in size, as weights do; beyond, rounded once (1.1e-16)."""
        base, tuned = (side.narrow(dim, start, stop - start) for side in (self.base, self.tuned))
        return tuned.to(self.device, torch.float64, copy=True).sub_(base.to(self.device))


@dataclass(frozen=True, eq=False)
class Matrix:
    """One update to be measured; its data is read when `update` is called."""

    name: str  # the weight's name in the base
    kind: str  # `pair`, or the adapter's method
    shape: tuple[int, int]  # (out, in)
    base: Tensor | None  # W0 as it is stored, mapped; None where there is no base
    tuned: Tensor | None
    update: Callable[[], Difference | Update]  # ΔW: the difference on disk, factors, or a dense matrix
    module: str = ""  # an adapter's own name of the module, which may have a wrapper's parts that the base's lacks


class Note(NamedTuple):
    """What a reader of the numbers has to know: `kind` is one of `KINDS`, `caution` or `adapter`."""

    kind: str
    name: str
    detail: str


class Pairing(NamedTuple):
    """The matrices to measure, in the order of the layers, and the notes, by kind and then in that order."""

    pairs: list[Matrix]
    notes: list[Note]


def pair(base: Checkpoint, tuned: Checkpoint) -> Pairing:
    """Pair the 2-D weights of two checkpoints by name and shape; what is not paired gets a note.

    A name that differs only by a wrapper's parts is followed where one tensor on each side fits. Two names of one
    tensor are measured once where both sides tie them. A square matrix that one side keeps transposed is not seen.

    Returns:
        Pairs of `WEIGHT_DTYPES` dtypes, which may differ between the sides; empty where only notes are left.

    Raises:
        ConfigError: the two have no tensor in common; a few names of each are listed.
    """
    names = renames(base.tensors, tuned.tensors)
    left, right = dict(base.tensors), {names.get(name, name): tensor for name, tensor in tuned.tensors.items()}
    notes = []
    for tuned_name, name in names.items():
        frozen = "; it lies frozen beside an adapter, whose update is not in it" * ("base_layer" in tuned_name)
        notes.append(Note("renamed", name, f"TUNED calls it {tuned_name}; measured under this name{frozen}"))
    tied = {names.get(alias, alias): names.get(name, name) for alias, name in tuned.tied.items()}
    for alias, name in (tied | base.tied).items():
        if (alias in left and alias not in base.tied) or (alias in right and alias not in tied):
            notes.append(Note("tied", alias, f"one side keeps it apart from {name}; measured under its own name"))
        else:
            left.pop(alias, None), right.pop(alias, None)
            notes.append(Note("tied", alias, f"the same tensor as {name}; measured once, under that name"))
    if not left.keys() & right.keys():
        first_names = [", ".join(sorted(side.tensors, key=natural)[:3]) for side in (base, tuned)]
        raise ConfigError(
            f"the two checkpoints have no tensor in common: BASE {base.name!r} has {first_names[0]}, …; TUNED "
            f"{tuned.name!r} has {first_names[1]}, …: name a base and a model tuned from it"
        )
    for kind, holder, lacking in (("missing", left, right), ("extra", right, left)):
        here = "in BASE alone" if kind == "missing" else "in TUNED alone"
        notes += [Note(kind, name, f"{tuple(holder[name].shape)}, {here}") for name in holder.keys() - lacking.keys()]
    pairs, unmeasured = _compared(left, right)
    notes = sorted([*notes, *unmeasured], key=lambda note: (KINDS.index(note.kind), natural(note.name)))
    return Pairing(pairs, notes)


def _compared(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> tuple[list[Matrix], list[Note]]:
    """What both sides have: the pairs to measure, and a note for the rest."""
    pairs, notes, flat = [], [], 0
    quantized = {name.rpartition(".")[0] for side in (left, right) for name in side if _is_quantized(side[name])}
    for name in sorted(left.keys() & right.keys(), key=natural):
        base, tuned = left[name], right[name]
        if base.shape == tuned.shape and base.ndim not in (2, 3) and not (_is_quantized(base) or _is_quantized(tuned)):
            flat += 1
        elif base.dtype in INDICES or tuned.dtype in INDICES:
            notes.append(Note("unsupported dtype", name, "indices or a mask, no weight"))
        elif name.rpartition(".")[0] in quantized or not {base.dtype, tuned.dtype} <= {*WEIGHT_DTYPES}:
            dtypes = f"{dtype_of(base)} in BASE, {dtype_of(tuned)} in TUNED, quantized"
            notes.append(Note("unsupported dtype", name, f"{dtypes}; dequantize it first (model.dequantize())"))
        elif base.shape != tuned.shape:
            notes.append(Note("reshaped", name, f"{tuple(base.shape)} in BASE, {tuple(tuned.shape)} in TUNED"))
        elif base.ndim == 3:
            notes.append(Note("3-D", name, f"{tuple(base.shape)}, a stack of matrices such as fused experts"))
        else:
            out, into = base.shape
            pairs.append(Matrix(name, "pair", (out, into), base, tuned, partial(Difference, base, tuned)))
    if flat:
        several = f"{flat} tensors" if flat > 1 else "1 tensor"
        notes.append(Note("not 2-D", several, "norms, biases and the like, no matrices; not measured"))
    return pairs, notes


def _is_quantized(stored: Tensor) -> bool:
    return stored.dtype not in (*WEIGHT_DTYPES, *INDICES) and stored.ndim >= 2
