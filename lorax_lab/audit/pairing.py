"""Which matrices of two checkpoints belong together, and one note about everything that is not measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from lorax_lab.audit.checkpoint import Checkpoint
from lorax_lab.errors import ConfigError
from lorax_lab.methods.names import natural, renames
from lorax_lab.models.tensor_files import WEIGHT_DTYPES, dtype_of

KINDS = ("renamed", "tied", "missing", "extra", "reshaped", "unsupported dtype", "3-D", "not 2-D")
"""The kinds of notes. `renamed` is measured; `tied` says whether it is; the others are not measured."""
INDICES = (torch.int64, torch.bool)
DEQUANTIZE = "not measured: dequantize it first (model.dequantize() in transformers, then save_pretrained)"


class Pair(NamedTuple):
    """One matrix on both sides, of one shape, under the base's name."""

    name: str
    base: Tensor
    tuned: Tensor


class Note(NamedTuple):
    """What a reader of the numbers has to know: `kind` is one of `KINDS`."""

    kind: str
    name: str
    detail: str


class Pairing(NamedTuple):
    """The matrices to measure, in the order of the layers, and the notes, by kind and then in that order."""

    pairs: list[Pair]
    notes: list[Note]


def pair(base: Checkpoint, tuned: Checkpoint) -> Pairing:
    """Pair the 2-D weights of two checkpoints by name and shape; what is not paired gets a note.

    A name that differs only by a wrapper's parts is followed (`renamed`) where one tensor on each side fits. Two
    names of one tensor are measured once where both sides tie them, and apart where one side has untied them. 1-D
    tensors and kernels that both sides have share one note. A square matrix that one side keeps transposed cannot
    be told by its shape.

    Args:
        base, tuned: from `open_checkpoint`.

    Returns:
        Pairs of `WEIGHT_DTYPES` dtypes, which may differ between the sides. It is empty where only notes are left.

    Raises:
        ConfigError: the two have no tensor in common; a few names of each are listed.
    """
    base_names = renames(base.tensors, tuned.tensors)
    left = replace(base, name="BASE", tensors=dict(base.tensors))
    right = _with_base_names(tuned, base_names)
    notes = []
    for tuned_name, name in base_names.items():
        frozen = "; it lies frozen beside an adapter, whose update is not in it" * ("base_layer" in tuned_name)
        notes.append(Note("renamed", name, f"TUNED calls it {tuned_name}; measured under this name{frozen}"))
    notes += _settle_ties(left, right)
    if not left.tensors.keys() & right.tensors.keys():
        first_names = [", ".join(sorted(side.tensors, key=natural)[:3]) for side in (base, tuned)]
        raise ConfigError(
            f"the two checkpoints have no tensor in common: BASE {base.name!r} has {first_names[0]}, …; TUNED "
            f"{tuned.name!r} has {first_names[1]}, …: name a base and a model tuned from it"
        )
    notes += [*_one_sided("missing", left, right), *_one_sided("extra", right, left)]
    pairs, unmeasured = _compared(left.tensors, right.tensors)
    notes = sorted([*notes, *unmeasured], key=lambda note: (KINDS.index(note.kind), natural(note.name)))
    return Pairing(pairs, notes)


def _with_base_names(tuned: Checkpoint, base_names: Mapping[str, str]) -> Checkpoint:
    tensors = {base_names.get(name, name): stored for name, stored in tuned.tensors.items()}
    tied = {base_names.get(alias, alias): base_names.get(name, name) for alias, name in tuned.tied.items()}
    return replace(tuned, name="TUNED", tensors=tensors, tied=tied)


def _settle_ties(left: Checkpoint, right: Checkpoint) -> list[Note]:
    """Drop each alias that no side keeps apart from what it is tied to."""
    notes = []
    for alias in sorted({*left.tied, *right.tied}, key=natural):
        name = left.tied.get(alias) or right.tied[alias]
        apart = [side.name for side in (left, right) if alias in side.tensors and alias not in side.tied]
        if apart:
            detail = f"{apart[0]} keeps it apart from {name}, the other side does not; measured under its own name"
        else:
            detail = f"the same tensor as {name}; measured once, under that name"
            for side in (left, right):
                side.tensors.pop(alias, None)
        notes.append(Note("tied", alias, detail))
    return notes


def _one_sided(kind: str, holder: Checkpoint, lacking: Checkpoint) -> Iterator[Note]:
    for name in holder.tensors.keys() - lacking.tensors.keys():
        yield Note(kind, name, f"in {holder.name} {tuple(holder.tensors[name].shape)}, not in {lacking.name}")


def _compared(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> tuple[list[Pair], list[Note]]:
    """What both sides have: the pairs to measure, and a note for the rest."""
    pairs, notes, flat = [], [], []
    quantized = {_module(name) for side in (left, right) for name, stored in side.items() if _is_quantized(stored)}
    for name in sorted(left.keys() & right.keys(), key=natural):
        base, tuned = left[name], right[name]
        if base.shape == tuned.shape and base.ndim not in (2, 3) and not (_is_quantized(base) or _is_quantized(tuned)):
            flat.append(name)
        elif reason := _why_not(base, tuned, _module(name) in quantized):
            notes.append(Note(reason[0], name, reason[1]))
        else:
            pairs.append(Pair(name, base, tuned))
    if flat:
        several = f"{len(flat)} tensors" if len(flat) > 1 else "1 tensor"
        notes.append(Note("not 2-D", several, "norms, biases and the like, no matrices; not measured"))
    return pairs, notes


def _why_not(base: Tensor, tuned: Tensor, is_quantized: bool) -> tuple[str, str] | None:
    """The kind and detail of a note, None for a pair."""
    if base.dtype in INDICES or tuned.dtype in INDICES:
        return "unsupported dtype", "indices or a mask, no weight"
    if is_quantized or not {base.dtype, tuned.dtype} <= {*WEIGHT_DTYPES}:
        return "unsupported dtype", f"{dtype_of(base)} in BASE, {dtype_of(tuned)} in TUNED, quantized; {DEQUANTIZE}"
    if base.shape != tuned.shape:
        return "reshaped", f"{tuple(base.shape)} in BASE, {tuple(tuned.shape)} in TUNED; not measured"
    if base.ndim == 3:
        return "3-D", f"{tuple(base.shape)}, a stack of matrices such as fused experts; not measured"
    return None


def _is_quantized(stored: Tensor) -> bool:
    return stored.dtype not in (*WEIGHT_DTYPES, *INDICES) and stored.ndim >= 2


def _module(name: str) -> str:
    return name.rpartition(".")[0]
