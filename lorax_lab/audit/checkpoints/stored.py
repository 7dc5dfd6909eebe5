"""One tensor on disk, read a block at a time, and the difference of two.

Blocks come by plain reads at the tensor's offset, never through a memory map. A mapped block of columns touches
every page of its tensor, so the process grows by the whole tensor; a slice that safetensors gives is a view that
keeps its file mapped; and a mapped file that shrinks while it is read ends the process with a bus error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import fsum, prod, sqrt
from pathlib import Path

import torch
from torch import Tensor

from lorax_lab.errors import ConfigError

MEASURED = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""The dtypes whose entries are the weights themselves: float8 and integers need their scales."""
PIECE_BYTES = 4 * 2**20
"""Bytes read at once on the way to a block of columns, beside the block itself."""


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: `offset` in bytes from the file's start, `strides` in entries."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path
    offset: int
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return prod(self.shape) * self.dtype.itemsize

    def block(self, dim: int, start: int, stop: int) -> Tensor:
        """Rows (dim 0) or columns (dim 1) from `start` to `stop` of a matrix, as W[start:stop] or W[:, start:stop].

        A block of columns reads the whole tensor, `PIECE_BYTES` at a time: whole sequential reads are what disks
        like, and the later blocks of the same tensor find it in the system's cache.

        Args:
            dim: 0 or 1.
            start, stop: 0 ≤ start ≤ stop; a stop beyond the end is the end.

        Returns:
            (stop − start, in) or (out, stop − start), the stored dtype, row-major, in memory of its own.

        Raises:
            ConfigError: the file is gone, or ends before the block does.
        """
        assert (len(self.shape), dim) in ((2, 0), (2, 1)), f"{self.name}, {self.shape}: no blocks along {dim}"
        assert 0 <= start <= stop, f"rows or columns {start} to {stop} of {self.shape}"
        stop = max(start, min(stop, self.shape[dim]))
        if self.strides[1] != 1 and self.shape[1] > 1:  # column-major
            turned = replace(self, shape=self.shape[::-1], strides=self.strides[::-1])
            return turned.block(1 - dim, start, stop).t().contiguous()
        return self._rows(start, stop) if dim == 0 else self._columns(start, stop)

    def _rows(self, start: int, stop: int) -> Tensor:
        count, columns, step = stop - start, self.shape[1], self.strides[0]
        flat = torch.empty((count - 1) * step + columns if count else 0, dtype=self.dtype)
        _fill(flat, self.file, self.offset + start * step * self.dtype.itemsize)
        return flat.as_strided((count, columns), (step, 1)).contiguous()

    def _columns(self, start: int, stop: int) -> Tensor:
        rows, width = self.shape
        block = torch.empty(rows, stop - start, dtype=self.dtype)
        step = max(1, PIECE_BYTES // max(1, width * self.dtype.itemsize))
        for top in range(0, rows, step):
            block[top : top + step] = self._rows(top, min(top + step, rows))[:, start:stop]
        return block


def as_matrix(stored: Stored) -> Stored:
    """A tensor of several sides as the matrix of its first side by all others, as a convolution's kernel (out, in · k ·
    k); a 1-D tensor as one row, and one number as (1, 1). A matrix is returned as it is.

    Raises:
        ConfigError: its entries do not lie in a row.
    """
    if len(stored.shape) == 2:
        return stored
    if stored.strides != torch.empty(stored.shape, device="meta").stride():
        raise ConfigError(f"{stored.file}: {stored.name} is not contiguous; save it again after .contiguous()")
    rows = stored.shape[0] if len(stored.shape) > 2 else 1
    columns = prod(stored.shape) // rows if rows else 0
    return replace(stored, shape=(rows, columns), strides=(columns, 1))


@dataclass(frozen=True)
class Difference:
    """TUNED − BASE of two stored matrices of one shape, (out, in), which stays on disk."""

    base: Stored
    tuned: Stored

    def __post_init__(self) -> None:
        assert self.base.shape == self.tuned.shape, f"{self.base.shape} − {self.tuned.shape}"

    @property
    def shape(self) -> tuple[int, ...]:
        """(out, in)."""
        return self.base.shape

    def block(self, dim: int, start: int, stop: int) -> Tensor:
        """The same slice of both, each upcast first: tuned.double() − base.double(), fp64.

        fp16 differences are exact. fp32 and bf16 ones are exact where both entries and their difference span less
        than 2^53 in size, as weights do; beyond that, and for fp64, they are rounded once (1.1e-16 relative).

        Raises:
            ConfigError: as `Stored.block`.
        """
        return self.tuned.block(dim, start, stop).double().sub_(self.base.block(dim, start, stop))


def identical(first: Stored, second: Stored) -> bool:
    """Whether two matrices of one shape and dtype hold the same bits, read a few rows at a time; the first block
    that differs ends the reading."""
    if (first.file, first.offset, first.strides) == (second.file, second.offset, second.strides):
        return True
    rows, columns = first.shape
    step = max(1, PIECE_BYTES // max(1, columns * first.dtype.itemsize))
    blocks = ((start, min(start + step, rows)) for start in range(0, rows, step))
    return all(torch.equal(_bits(first.block(0, *b)), _bits(second.block(0, *b))) for b in blocks)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.view(torch.uint8)


def _fill(out: Tensor, file: Path, offset: int) -> None:
    """Fill a 1-D tensor with the bytes at `offset`."""
    view = _bits(out).numpy().data
    try:
        with file.open("rb", buffering=0) as source:
            source.seek(offset)
            while view:  # one raw read may stop short: at 2 GiB on Linux
                count = source.readinto(view)
                if not count:
                    raise ConfigError(f"{file} ends early: it changed after it was opened; start again")
                view = view[count:]
    except OSError as error:
        raise ConfigError(f"{file} cannot be read any more ({error.strerror}); start again") from error


def norm(stored: Stored) -> float:
    """‖W‖_F of a matrix, read a few rows at a time, in fp64."""
    rows, columns = stored.shape
    step = max(1, PIECE_BYTES // max(1, columns * stored.dtype.itemsize))
    blocks = (stored.block(0, start, start + step) for start in range(0, rows, step))
    return sqrt(fsum(float(torch.linalg.vector_norm(block, dtype=torch.float64)) ** 2 for block in blocks))
