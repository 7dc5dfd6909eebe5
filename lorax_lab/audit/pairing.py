"""Which matrices of two checkpoints belong together, and one note about everything that is not measured."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorax_lab.audit.checkpoint import Checkpoint
from lorax_lab.errors import ConfigError
from lorax_lab.methods.names import by_plain_name, is_embedding, is_output_layer, natural, plain_name, renames
from lorax_lab.methods.tensor_files import MEASURED, dtype_of

KINDS = ("renamed", "tied", "missing", "extra", "reshaped", "transposed", "unsupported dtype", "3-D", "not 2-D")
"""The kinds of notes. `renamed` is measured; `tied` says whether it is; the others are not measured."""
INDICES = (torch.int64, torch.bool)
SCALE = re.compile(r"scale|zero|absmax")
ADAPTER = re.compile(r"\.(lora_|hada_|lokr_|oft_|vera_)|modules_to_save")
DEQUANTIZE = "dequantize it first (model.dequantize() in transformers, then save_pretrained)"


@dataclass(frozen=True)
class Pair:
    """One matrix on both sides, of one shape, under the base's name."""

    name: str
    base: Tensor
    tuned: Tensor


@dataclass(frozen=True)
class Note:
    """What a reader of the numbers has to know: `kind` is one of `KINDS`; `names` lists what one note stands for
    where it stands for several."""

    kind: str
    name: str
    detail: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pairing:
    """The matrices to measure, in the order of the layers, and the notes, by kind and then in that order."""

    pairs: list[Pair]
    notes: list[Note]


@dataclass(frozen=True)
class _Side:
    """A checkpoint under the base's names; `tensors` may be changed."""

    label: str
    tensors: dict[str, Tensor]
    tied: dict[str, str]
    config: dict[str, Any]


def pair(base: Checkpoint, tuned: Checkpoint) -> Pairing:
    """Pair the 2-D weights of two checkpoints by name and shape; what is not paired gets a note.

    A name that differs only by a wrapper's parts is followed (`renamed`) where one tensor on each side fits. Two
    names of one tensor are measured once where both sides tie them, and apart where one side has untied them. 1-D
    tensors and kernels that both sides have share one note. A square matrix that one side keeps transposed cannot
    be told by its shape.

    Args:
        base, tuned: from `open_checkpoint`.

    Returns:
        Pairs of `MEASURED` dtypes, which may differ between the sides. It is empty where only notes are left.

    Raises:
        ConfigError: the two have no tensor in common; a few names of each are listed.
    """
    back = renames(base.tensors, tuned.tensors)
    left = _Side("BASE", dict(base.tensors), base.tied, base.config)
    right = _under_base_names(tuned, back)
    notes = []
    for tuned_name, name in back.items():
        frozen = "; it lies frozen beside an adapter, whose update is not in it" * ("base_layer" in tuned_name)
        notes.append(Note("renamed", name, f"TUNED calls it {tuned_name}; measured under this name{frozen}"))
    notes += _settle_ties(left, right) + _settle_declared_ties(left, right) + _settle_declared_ties(right, left)
    if not left.tensors.keys() & right.tensors.keys():
        raise _nothing_in_common(base, tuned)
    notes += [*_one_sided("missing", left, right), *_one_sided("extra", right, left)]
    pairs, others = _sorted_out(left.tensors, right.tensors)
    return Pairing(pairs, sorted([*notes, *others], key=lambda note: (KINDS.index(note.kind), natural(note.name))))


def _under_base_names(tuned: Checkpoint, back: Mapping[str, str]) -> _Side:
    tensors = {back.get(name, name): stored for name, stored in tuned.tensors.items()}
    tied = {back.get(alias, alias): back.get(kept, kept) for alias, kept in tuned.tied.items()}
    return _Side("TUNED", tensors, tied, tuned.config)


def _settle_ties(left: _Side, right: _Side) -> list[Note]:
    """Drop each alias that no side keeps apart from what it is tied to."""
    notes = []
    for alias in sorted({*left.tied, *right.tied}, key=natural):
        kept = left.tied.get(alias) or right.tied[alias]
        apart = [side.label for side in (left, right) if alias in side.tensors and alias not in side.tied]
        if apart:
            detail = f"{apart[0]} keeps it apart from {kept}, the other side does not; measured under its own name"
        else:
            detail = f"the same tensor as {kept}; measured once, under that name"
            for side in (left, right):
                side.tensors.pop(alias, None)
        notes.append(Note("tied", alias, detail))
    return notes


def _settle_declared_ties(side: _Side, other: _Side) -> list[Note]:
    """Where `side` leaves its output layer out because it is the embedding, and `other` keeps one apart: compare
    that with the embedding."""
    notes = []
    for name in sorted(other.tensors.keys() - side.tensors.keys() if _declares_ties(side.config) else ()):
        shape = other.tensors[name].shape
        embeddings = [n for n, stored in side.tensors.items() if is_embedding(n) and stored.shape == shape]
        if is_output_layer(name) and len(embeddings) == 1:
            side.tensors[name] = side.tensors[embeddings[0]]
            detail = f"{side.label} ties it to {embeddings[0]}, {other.label} keeps it apart; measured against that"
            notes.append(Note("tied", name, detail))
    return notes


def _nothing_in_common(base: Checkpoint, tuned: Checkpoint) -> ConfigError:
    sides = [
        f"{label} {side.name!r} has {', '.join(sorted(side.tensors, key=natural)[:3])}, …"
        for label, side in (("BASE", base), ("TUNED", tuned))
    ]
    return ConfigError(
        f"the two checkpoints have no tensor in common: {'; '.join(sides)}: name a base and a model tuned from it; "
        "an adapter has to be merged into its base first"
    )


def _one_sided(kind: str, holder: _Side, other: _Side) -> Iterator[Note]:
    rivals = by_plain_name(other.tensors)
    for name in holder.tensors.keys() - other.tensors.keys():
        detail = f"in {holder.label} {tuple(holder.tensors[name].shape)}, not in {other.label}"
        if fitting := rivals.get(plain_name(name)):
            detail += f"; {', '.join(sorted(fitting, key=natural))} may be it, but more than one name fits"
        if ADAPTER.search(name):
            detail += f"; part of an adapter that {holder.label} has not merged: merge it (merge_and_unload) and save"
        yield Note(kind, name, detail)


def _sorted_out(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> tuple[list[Pair], list[Note]]:
    """What both sides have: the pairs to measure, and a note for the rest."""
    pairs, notes, flat = [], [], []
    quantized = {_module(name) for side in (left, right) for name, stored in side.items() if _is_quantized(stored)}
    for name in sorted(left.keys() & right.keys(), key=natural):
        base, tuned = left[name], right[name]
        if base.shape == tuned.shape and len(base.shape) not in (2, 3) and not any(map(_is_quantized, (base, tuned))):
            flat.append(name)
        elif reason := _why_not(
            name, base, tuned, _module(name) in quantized and SCALE.search(name.rpartition(".")[2])
        ):
            notes.append(Note(reason[0], name, reason[1]))
        else:
            pairs.append(Pair(name, base, tuned))
    if flat:
        several = f"{len(flat)} tensors" if len(flat) > 1 else "1 tensor"
        notes.append(Note("not 2-D", several, "norms, biases and the like, no matrices; not measured", tuple(flat)))
    return pairs, notes


def _why_not(name: str, base: Tensor, tuned: Tensor, is_scale: object) -> tuple[str, str] | None:
    """The kind and detail of a note, None for a pair."""
    for label, stored in (("BASE", base), ("TUNED", tuned)):
        if stored.dtype not in MEASURED:
            reason = "indices or a mask, no weight" if stored.dtype in INDICES else f"not measured: {DEQUANTIZE}"
            return "unsupported dtype", f"{dtype_of(stored)} in {label}; {reason}"
    if is_scale:
        return "unsupported dtype", f"the scale of a quantized matrix; not measured: {DEQUANTIZE}"
    if base.shape != tuned.shape:
        return _other_shape(name, base, tuned)
    if len(base.shape) == 3:
        return (
            "3-D",
            f"{tuple(base.shape)}, a stack of matrices such as fused experts; not measured: save them one by one",
        )
    return None


def _other_shape(name: str, base: Tensor, tuned: Tensor) -> tuple[str, str]:
    shapes = f"{tuple(base.shape)} in BASE, {tuple(tuned.shape)} in TUNED"
    if len(base.shape) == 2 and base.shape == tuned.shape[::-1]:
        return "transposed", f"{shapes}; not measured: transpose one of them and save it again"
    vocabulary = (is_embedding(name) or is_output_layer(name)) and base.shape[1:] == tuned.shape[1:]
    change = f", a vocabulary with {tuned.shape[0] - base.shape[0]:+d} rows" if vocabulary else ""
    return "reshaped", f"{shapes}{change}; not measured"


def _is_quantized(stored: Tensor) -> bool:
    return stored.dtype not in (*MEASURED, *INDICES) and len(stored.shape) >= 2


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _declares_ties(config: Mapping[str, Any]) -> bool:
    """Whether config.json says in so many words that the output layer is the embedding."""
    parts = [config, config.get("text_config")]
    return any(isinstance(part, Mapping) and part.get("tie_word_embeddings") is True for part in parts)
