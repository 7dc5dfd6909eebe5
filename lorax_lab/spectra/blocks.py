"""Matrices read a block at a time: what a Gram matrix and a product need, whether in memory or on disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from lorax_lab.spectra.matrix import checked_matrix

if TYPE_CHECKING:
    from jaxtyping import Float64

BLOCK_ENTRIES = 2**22
"""Entries of one block: 32 MiB in fp64, deep enough for matrix products at full speed."""
BLOCK_LENGTH = 1024
"""Most rows of one block. A longer sum of equal terms, each rounded the same way, would exceed `gram_error`."""


@runtime_checkable
class Blocks(Protocol):
    """A matrix (out, in) that is read a slice at a time: a tensor on disk, the difference of two.

    If it also has a `device`, its blocks lie there, and the work is done there.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(out, in)."""

    def block(self, dim: int, start: int, stop: int) -> Tensor:
        """Rows (dim 0) or columns (dim 1) from start to stop, 2-D."""


def times(x: Tensor | Blocks, columns: Float64[Tensor, "d k"], transposed: bool = False) -> Float64[Tensor, "e k"]:
    """x @ columns, or xᵀ @ columns, in fp64, a block of x at a time.

    Args:
        x: (out, in).
        columns: (in, k); (out, k) if transposed.

    >>> times(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [1.0]], dtype=torch.float64)).tolist()
    [[3.0]]
    """
    shape = shape_of(x)
    if (shape[0] >= shape[1]) != transposed:
        return torch.cat([block @ columns for block in tall(x)])
    total, start = columns.new_zeros(min(shape), columns.shape[1]), 0
    for block in tall(x):
        total += block.T @ columns[start : start + len(block)]
        start += len(block)
    return total


def tall(x: Tensor | Blocks, name: str = "the matrix") -> Iterator[Float64[Tensor, "rows m"]]:
    """Checked fp64 blocks of x, or of xᵀ if x is wide: a few rows of the longer side at a time. A message calls x by
    `name`."""
    long_side, m = (0, x.shape[1]) if x.shape[0] >= x.shape[1] else (1, x.shape[0])
    step = max(1, min(BLOCK_ENTRIES // max(m, 1), BLOCK_LENGTH))
    for start in range(0, max(x.shape[long_side], 1), step):
        stop = min(start + step, x.shape[long_side])
        block = piece(x, long_side, start, stop)
        block = checked_matrix(block, name, offset=(start, 0) if long_side == 0 else (0, start))
        yield block if long_side == 0 else block.T


def shape_of(x: Tensor | Blocks) -> tuple[int, int]:
    """(out, in), or a ValueError."""
    if len(x.shape) != 2:
        raise ValueError(f"the matrix has shape {tuple(x.shape)}; expected two dimensions (out, in)")
    return int(x.shape[0]), int(x.shape[1])


def device_of(x: Tensor | Blocks) -> torch.device:
    """Where the blocks are."""
    device = getattr(x, "device", None)
    return device if isinstance(device, torch.device) else torch.device("cpu")


def piece(x: Tensor | Blocks, dim: int, start: int, stop: int) -> Tensor:
    """Rows (dim 0) or columns (dim 1) from start to stop, 2-D."""
    return x.narrow(dim, start, stop - start) if isinstance(x, Tensor) else x.block(dim, start, stop)
