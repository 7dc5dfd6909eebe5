"""An epoch of batches of like lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def length_bucketed_batches(
    lengths: Sequence[int], batch_size: int, generator: torch.Generator, window: int
) -> list[list[int]]:
    """One epoch: every index exactly once, in batches of like lengths.

    Indices are shuffled, cut into windows of `window` batches, sorted by length inside a window and cut into batches,
    whose order is shuffled again. All but one batch have `batch_size` indices. A window of 1 leaves chance alone to
    choose what a batch holds.
    """
    shuffled = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for start in range(0, len(shuffled), window * batch_size):
        alike = sorted(shuffled[start : start + window * batch_size], key=lengths.__getitem__)
        batches += [alike[i : i + batch_size] for i in range(0, len(alike), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
