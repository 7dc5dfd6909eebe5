"""An epoch of batches of like lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch

WINDOW = 50
"""Batches sorted by length together: enough for little padding, few enough to mix an epoch well."""


def length_bucketed_batches(lengths: Sequence[int], batch_size: int, generator: torch.Generator) -> list[list[int]]:
    """One epoch: every index exactly once, in batches of like lengths.

    Indices are shuffled, cut into windows of 50 batches, sorted by length inside a window and cut into batches,
    whose order is shuffled again. All but one batch have `batch_size` indices.
    """
    shuffled = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for start in range(0, len(shuffled), WINDOW * batch_size):
        window = sorted(shuffled[start : start + WINDOW * batch_size], key=lengths.__getitem__)
        batches += [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
