"""The spectral engine against torch on the same matrices, taking turns in one process."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks import now
from lorax_lab.spectra import LowRank, low_rank_singular_values, singular_values, spectrum

SIZE = 4096
FAST = 30
"""Rounds for work of milliseconds. Work of seconds has as many rounds as the caller asks for."""
BARE = {64: "≥ 0.77"}
"""Aims against the unchecked Cholesky, by rank."""
Call = Callable[[], object]


def measure(rounds: int = 3) -> dict[str, Any]:
    """Ratios of the peer's time to ours, medians over rounds in which each contender has its turn."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    noise = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0)).to(device)
    dense = _turns(
        {
            "ours": lambda: spectrum(noise),
            "svdvals": lambda: torch.linalg.svdvals(noise),
            "svd": lambda: torch.linalg.svd(noise, full_matrices=False),
            "fp64": lambda: torch.linalg.svdvals(noise.double()),
        },
        rounds,
    )
    rows = [_row("all values, 4096²: torch svdvals / ours", dense["svdvals"], dense["ours"], "≥ 2.5")]
    rows += [_row("all values, 4096²: torch svd / ours", dense["svd"], dense["ours"], "≥ 3")]
    rows += [_row("all values, 4096²: torch svdvals in fp64 / ours", dense["fp64"], dense["ours"], "")]
    rows += _errors(noise)
    for rank in (4, 8, 16, 64, 256):
        rows += _factors(rank, device)
    return {
        "title": "Singular values of an update",
        "rows": rows,
        "median_seconds": {name: statistics.median(times) for name, times in dense.items()},
        "note": f"fp32 matrices; {rounds} rounds of the dense ones. All values and factors: iid Gaussian. Errors "
        "are against svdvals in fp64.",
    }


def _errors(x: Tensor) -> list[dict[str, Any]]:
    oracle = torch.linalg.svdvals(x.double())
    ours = float(((spectrum(x).sigma - oracle).abs() / oracle).max())
    theirs = float(((torch.linalg.svdvals(x).double() - oracle).abs() / oracle).max())
    return [_row(f"largest relative error: fp32 svdvals {theirs:.0e} / ours {ours:.0e}", [theirs], [ours], "≥ 1")]


def _factors(rank: int, device: torch.device) -> list[dict[str, Any]]:
    draw = torch.Generator().manual_seed(rank)
    B, A = (torch.randn(shape, generator=draw).to(device) for shape in ((SIZE, rank), (rank, SIZE)))
    update = LowRank(B, A, 2.0)
    calls: dict[str, Call] = {
        "ours": lambda: singular_values(update),
        "QR": lambda: _by_qr(B, A, 2.0),
        "Cholesky": lambda: _by_cholesky(B, A, 2.0),
    }
    times = _turns(calls, FAST)
    each = [time / 64 for time in _turns({"64": lambda: low_rank_singular_values([update] * 64)}, 3)["64"]]
    where = f"factors, 4096², r = {rank}"
    return [
        _row(f"{where}: QR of both and svdvals of the core / ours", times["QR"], times["ours"], "≥ 1"),
        _row(f"{where}, 64 at once: the same / ours", times["QR"], each, "≥ 1"),
        _row(f"{where}: unchecked Cholesky of both / ours", times["Cholesky"], times["ours"], BARE.get(rank, "")),
    ]


def _by_qr(B: Tensor, A: Tensor, scaling: float) -> Tensor:
    """The three lines that everyone would write."""
    R_B = torch.linalg.qr(B.double(), mode="r").R
    R_A = torch.linalg.qr(A.T.double(), mode="r").R
    return torch.linalg.svdvals(scaling * R_B @ R_A.T)


def _by_cholesky(B: Tensor, A: Tensor, scaling: float) -> Tensor:
    """The least that it takes; wrong where columns are nearly parallel."""
    B, A = B.double(), A.double()
    return torch.linalg.svdvals(scaling * torch.linalg.cholesky(B.T @ B).T @ torch.linalg.cholesky(A @ A.T))


def _turns(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = now()
            call()
            if turn or rounds == 1:
                times[name].append(now() - start)
    return times


def _row(what: str, theirs: list[float], ours: list[float], aim: str) -> dict[str, Any]:
    low, high = min(theirs) / max(ours), max(theirs) / min(ours)
    spread = f"{low:.3g} – {high:.3g}" if len(theirs) + len(ours) > 2 else "one pass"
    return {"what": what, "ratio": statistics.median(theirs) / statistics.median(ours), "spread": spread, "aim": aim}
