"""Whether two folders of one run hold the same bits: trained weights, outputs, singular values and measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lorax_lab.errors import cut

MEASURED = ("metrics", "truncation", "matrices", "gaussian")
"""Parts of a result that hold numbers."""
ARRAYS = ("outputs.npz", "spectra.npz")
SHOWN = 20


def differences(before: Path, after: Path) -> tuple[int, list[str]]:
    """How many numbers of the first folder were compared, and each place in which the second differs or lacks them, at
    most `SHOWN` of them. Numbers that only the second has, such as a new measure, do not count."""
    count, moved = 0, list[str]()
    ours, theirs = _numbers(before), dict(_numbers(after))
    for place, value in ours:
        count += value[0]
        if place not in theirs:
            moved.append(f"{place}: is missing")
        elif theirs[place] != value:
            moved.append(f"{place}: {_text(value)} became {_text(theirs[place])}")
    more = [f"and {len(moved) - SHOWN} more places"] if len(moved) > SHOWN else []
    return count, [*moved[:SHOWN], *more]


def _numbers(folder: Path) -> Iterator[tuple[str, tuple[int, Any]]]:
    """Every result of a run by its place: the count of its numbers, and its bits."""
    record = content_of(folder)
    for part in MEASURED:
        for place, value in _leaves(record.get(part), part):
            yield place, (1, value)
    yield from _tensors(folder)


def content_of(folder: Path) -> dict[str, Any]:
    """A run's record and its result as one table. A record of an older version is read in the present layout."""
    from lorax_lab.store.record import read_record

    content = dataclasses.asdict(read_record(folder))
    result = content.pop("result") or {}
    return content | result


def _tensors(folder: Path) -> Iterator[tuple[str, tuple[int, Any]]]:
    import hashlib

    import numpy as np
    import torch
    from safetensors.torch import load_file

    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in load_file(path).items():
            bits = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
            content = f"{list(tensor.shape)} {tensor.dtype} {hashlib.sha256(bits).hexdigest()}"
            yield f"{path.name}: {name}", (tensor.numel(), content)
    for path in (folder / name for name in ARRAYS if (folder / name).is_file()):
        with np.load(path) as arrays:
            for name in arrays.files:
                array = np.ascontiguousarray(arrays[name])
                content = f"{array.shape} {array.dtype} {hashlib.sha256(array.tobytes()).hexdigest()}"
                yield f"{path.name}: {name}", (array.size, content)


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


def _text(value: tuple[int, Any]) -> str:
    return cut(value[1], 60)
