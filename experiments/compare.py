"""Whether two folders of one run hold the same: trained weights to the bit, outputs, singular values and measures to
rounding."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lorax_lab.errors import cut

MEASURED = ("metrics", "truncation", "matrices", "gaussian")
"""Parts of a result that hold numbers."""
ARRAYS = ("outputs.npz", "spectra.npz")
SHOWN = 20
ROUNDING = 1e-6
"""The largest move of a number, relative to its size, or of an array, relative to its largest entry, that another order
of sums can make. The weights have no such room."""


@dataclass
class Moves:
    """What differs between two runs.

    Attributes:
        numbers: how many were compared.
        moved: each place that differs or is missing, at most `SHOWN` of them.
        rounding: the largest relative move of what counts as equal; 0 where all have the same bits.
    """

    numbers: int = 0
    moved: list[str] = field(default_factory=list)
    rounding: float = 0.0


def differences(before: Path, after: Path) -> Moves:
    """Compare each number of the first folder. Weights have to have the same bits, other numbers may differ by
    `ROUNDING`. Numbers that only the second has, such as a new measure, do not count."""
    moves, theirs = Moves(), dict(_numbers(after))
    for place, value in _numbers(before):
        moves.numbers += value.size if isinstance(value, np.ndarray) else 1
        if place not in theirs:
            moves.moved.append(f"{place}: is missing")
            continue
        move = _move(value, theirs[place], exact=_is_weight(place))
        if move > ROUNDING:
            moves.moved.append(f"{place}: {_text(value)} became {_text(theirs[place])}")
        else:
            moves.rounding = max(moves.rounding, move)
    more = [f"and {len(moves.moved) - SHOWN} more places"] if len(moves.moved) > SHOWN else []
    moves.moved = [*moves.moved[:SHOWN], *more]
    return moves


def _is_weight(place: str) -> bool:
    return place.partition(":")[0].endswith(".safetensors")


def _move(value: Any, other: Any, exact: bool) -> float:
    """How far a value moved, relative to its size; infinite where it is of another kind, or may not move at all."""
    ours, theirs = np.asarray(value), np.asarray(other)
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return math.inf
    if ours.tobytes() == theirs.tobytes():
        return 0.0
    if exact or ours.dtype.kind != "f" or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return math.inf
    size = max(float(np.abs(ours).max()), float(np.abs(theirs).max()))
    return float(np.abs(ours.astype(np.float64) - theirs).max()) / size if size else 0.0


def _numbers(folder: Path) -> Iterator[tuple[str, Any]]:
    """Every result of a run by its place."""
    record = content_of(folder)
    for part in MEASURED:
        yield from _leaves(record.get(part), part)
    yield from _tensors(folder)


def content_of(folder: Path) -> dict[str, Any]:
    """A run's record and its result as one table. A record of an older version is read in the present layout."""
    from lorax_lab.record.record import read_record

    content = dataclasses.asdict(read_record(folder))
    result = content.pop("result") or {}
    return content | result


def _tensors(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    import torch
    from safetensors.torch import load_file

    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in load_file(path).items():
            bits = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor  # which numpy does not know
            yield f"{path.name}: {name}", bits.numpy()
    for path in (folder / name for name in ARRAYS if (folder / name).is_file()):
        with np.load(path) as arrays:
            yield from ((f"{path.name}: {name}", arrays[name]) for name in arrays.files)


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Numbers and names by their place; null means that nothing was measured."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, f"{place}/{key}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _leaves(part, f"{place}/{number}")
    elif value is not None:
        yield place, value


def _text(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return cut(value, 60)
    return f"{list(value.shape)} {value.dtype} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]}"
