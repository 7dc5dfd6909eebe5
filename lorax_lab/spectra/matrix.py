"""Update matrices, dense or low-rank, and their singular values in fp64.

Before LAPACK sees a matrix, it is checked (2-D, finite), upcast to fp64 and divided by a power of two. The division is
exact, and afterwards the squares of 1e-200 or 1e200 stay inside the fp64 range. A low-rank update is never multiplied
out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

ENERGY_TOLERANCE = 1e-8
"""Allowed relative gap between Σσ² and ‖A‖²_F: far above rounding, far below a failed SVD."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """A low-rank update, ΔW = scaling · B A (Hu et al. 2021, sec. 4.1), kept as its factors.

    Args:
        B: (out, rank), the factor `lora_B`, any real dtype.
        A: (rank, in), the factor `lora_A`, any real dtype. Rank 0 and rank > min(out, in) are allowed.
        scaling: alpha / rank for LoRA. Finite, any sign.

    Raises:
        ValueError: a factor is not 2-D, the inner sizes differ, or scaling is not finite.

    >>> update = LowRank(torch.ones(2, 1), torch.ones(1, 3), scaling=0.5)
    >>> update.shape
    (2, 3)
    >>> update.dense().sum().item()
    3.0
    """

    B: Float[Tensor, "out rank"]
    A: Float[Tensor, "rank in"]
    scaling: float = 1.0

    def __post_init__(self) -> None:
        if self.B.ndim != 2 or self.A.ndim != 2 or self.B.shape[1] != self.A.shape[0]:
            raise ValueError(
                f"B has shape {tuple(self.B.shape)} and A has shape {tuple(self.A.shape)}; "
                "expected B (out, rank) and A (rank, in): pass lora_B first and lora_A second"
            )
        if not math.isfinite(self.scaling):
            raise ValueError(f"scaling is {self.scaling}; expected a finite number such as alpha / rank")

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in), the shape of the product."""
        return self.B.shape[0], self.A.shape[1]

    @property
    def T(self) -> LowRank:
        """ΔWᵀ = scaling · Aᵀ Bᵀ, again as factors."""
        return LowRank(self.A.T, self.B.T, self.scaling)

    def dense(self) -> Float64[Tensor, "out in"]:
        """scaling · B A in fp64, multiplied out: for merging and tests, not for spectra."""
        return self.scaling * (self.B.to(torch.float64) @ self.A.to(torch.float64))


Update = torch.Tensor | LowRank


class OneByOne(Mapping[str, Tensor]):
    """Matrices by name, each made whenever it is asked for, so that one at a time is in memory.

    Args:
        names: in their order.
        make: from a name to its matrix.

    >>> OneByOne(["a", "b"], lambda name: torch.eye(2))["b"].shape
    torch.Size([2, 2])
    """

    def __init__(self, names: Iterable[str], make: Callable[[str], Tensor]) -> None:
        self._names, self._make = list(names), make

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def svd(
    x: Update,
) -> tuple[Float64[Tensor, "out m"], Float64[Tensor, " m"], Float64[Tensor, "m in"]]:
    """Thin singular value decomposition x = U diag(σ) Vh, in fp64, LAPACK on the whole matrix or on a small core.

    Args:
        x: dense (out, in) of any real dtype, or LowRank.

    Returns:
        (U, sigma, Vh) in torch's order, sigma descending; m as in `singular_values`. Each pair of singular
        vectors has an arbitrary common sign, and equal singular values an arbitrary common basis.

    Raises:
        ValueError, ArithmeticError: as `singular_values`.

    >>> U, sigma, Vh = svd(LowRank(torch.eye(3, 1), torch.eye(1, 2), scaling=-2.0))
    >>> U.shape, Vh.shape, round((U * sigma @ Vh)[0, 0].item(), 12)
    (torch.Size([3, 1]), torch.Size([1, 2]), -2.0)
    """
    if isinstance(x, LowRank):
        Q_B, core, Q_A, exponent = core_of(x)
        U, sigma, Vh = torch.linalg.svd(core, full_matrices=False)
        U, Vh = Q_B @ U, Vh @ Q_A.T
    else:
        core, exponent = scaled(checked_matrix(x, "the matrix"))
        U, sigma, Vh = torch.linalg.svd(core, full_matrices=False)
    check_energy(sigma, core)
    return U, times_power_of_two(sigma, exponent), Vh


def checked_matrix(x: Tensor, name: str, offset: tuple[int, int] = (0, 0)) -> Float64[Tensor, "out in"]:
    """x in fp64, detached, after the checks every measurement needs: LAPACK may answer a NaN with a number.

    Raises:
        ValueError: not 2-D, complex, or nan or inf inside; the message calls x by `name`, and counts rows and columns
            from `offset` where x is a part of it.

    >>> checked_matrix(torch.tensor([[0.0, float("nan")]]), "lora_A")
    Traceback (most recent call last):
    ValueError: lora_A has 1 non-finite entries, the first nan at (0, 1): a diverged run or a bad file
    """
    if x.ndim != 2:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected two dimensions (out, in)")
    if x.is_complex():
        raise ValueError(f"{name} has dtype {x.dtype}; expected a real dtype")
    x = x.detach().to(torch.float64)
    if x.numel() and not torch.isfinite(torch.linalg.vector_norm(x, math.inf)):
        bad = ~torch.isfinite(x)
        row, column = bad.nonzero()[0].tolist()
        raise ValueError(
            f"{name} has {int(bad.sum())} non-finite entries, the first {x[row, column].item()} "
            f"at ({row + offset[0]}, {column + offset[1]}): a diverged run or a bad file"
        )
    return x


def scaled(x: Float64[Tensor, "out in"]) -> tuple[Float64[Tensor, "out in"], int]:
    """(x / 2^e, e) with the largest absolute entry of x / 2^e in [1, 2); exact, and zeros stay zeros.

    >>> scaled(torch.tensor([[6.0, -3.0]], dtype=torch.float64))[1]
    2
    """
    largest = torch.linalg.vector_norm(x, math.inf).item() if x.numel() else 0.0
    exponent = math.frexp(largest)[1] - 1
    return x / math.ldexp(1.0, exponent), exponent


def core_of(
    x: LowRank,
) -> tuple[Float64[Tensor, "out k"], Float64[Tensor, "k l"], Float64[Tensor, "in l"], int]:
    """(Q_B, C, Q_A, e) with ΔW = 2^e · Q_B C Q_Aᵀ and orthonormal columns in both Q.

    Householder QR is stable column by column, so (B D, D⁻¹ A), the same update for every diagonal D, loses
    no digits to an ill-scaled D.
    """
    B, exponent_B = scaled(checked_matrix(x.B, "B"))
    A, exponent_A = scaled(checked_matrix(x.A, "A"))
    mantissa, exponent_scaling = math.frexp(x.scaling)
    Q_B, R_B = torch.linalg.qr(B)
    Q_A, R_A = torch.linalg.qr(A.T)
    core, exponent_core = scaled(mantissa * R_B @ R_A.T)
    return Q_B, core, Q_A, exponent_B + exponent_A + exponent_scaling + exponent_core


def check_energy(sigma: Float64[Tensor, " m"], x: Float64[Tensor, "out in"]) -> None:
    energy, expected = sigma.square().sum().item(), x.square().sum().item()
    if not abs(energy - expected) <= ENERGY_TOLERANCE * expected:
        raise ArithmeticError(
            f"the SVD of a {tuple(x.shape)} matrix on {x.device} is wrong: "
            f"Σσ² = {energy} but ‖A‖²_F = {expected} (both of the scaled matrix); compute it on the cpu"
        )


def times_power_of_two(sigma: Float64[Tensor, " m"], exponent: int) -> Float64[Tensor, " m"]:
    """2^exponent · σ, also where 2^exponent alone leaves the fp64 range.

    Raises:
        ValueError: a value does.
    """
    try:
        return sigma.new_tensor([math.ldexp(value, exponent) for value in sigma.tolist()])
    except OverflowError:
        raise ValueError("a singular value is above 1.8e308, the largest fp64: divide the update") from None
