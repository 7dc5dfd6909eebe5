"""One matrix: its update's spectrum, the measures, what noise gives beside them, and how far storage can be trusted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorax_lab.audit import base, store
from lorax_lab.audit.checkpoints import Difference, Stored, norm
from lorax_lab.audit.store import Measured, Row
from lorax_lab.audit.updates import Matrix, Updates
from lorax_lab.console import WorkBar
from lorax_lab.models import layer_number, short_name
from lorax_lab.spectra import (
    MEASURES,
    Certified,
    LowRank,
    bulk_misfit,
    certified,
    edge_of,
    gaussian_null,
    gavish_donoho_rank,
    low_rank_singular_values,
    noise_ceiling,
    noise_scale,
    rounding_energy,
    signal_share,
    spectrum,
    spikes,
    summary,
    untrusted,
)
from lorax_lab.streams import generator

WANTED = 1e-6
"""Relative to σ_1: smaller values are not wanted, since all m of them move no measure by more than m · 1e-6."""
CERTIFIED_ENTRIES = 2**25
"""Largest update that the certified mode holds in memory, 256 MiB in fp64; larger ones are streamed, exactly."""
COARSE = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
"""From the coarsest to the finest."""


class Watched:
    """ΔW of two stored matrices as blocks on a device, with what else one pass over them tells."""

    def __init__(self, update: Difference, device: torch.device) -> None:
        self.base, self.tuned, self.device = update.base, update.tuned, device
        self.shape = update.shape

    def block(self, dim: int, start: int, stop: int) -> Tensor:
        if start == 0:  # a solver that reads again begins again
            self.base_energy, self.unchanged = 0.0, 0
            self.rounding = [torch.zeros(side, dtype=torch.float64) for side in self.shape]
        base, tuned = self.base.block(dim, start, stop), self.tuned.block(dim, start, stop)
        difference = tuned.to(self.device, torch.float64).sub_(base.to(self.device))
        self._watch(base, tuned, dim, slice(start, start + tuned.shape[dim]))
        self.unchanged += difference.numel() - int(difference.count_nonzero())
        return difference

    def _watch(self, base: Tensor, tuned: Tensor, dim: int, place: slice) -> None:
        self.base_energy += float(torch.linalg.vector_norm(base, dtype=torch.float64)) ** 2
        rounded = [tuned]
        if COARSE.index(base.dtype) < COARSE.index(tuned.dtype):
            rounded.append(base)
        for weight in rounded:
            along = rounding_energy(weight, weight.dtype)
            self.rounding[dim][place] += along[dim]
            self.rounding[1 - dim] += along[1 - dim]


def measure_all(
    subject: Updates, folder: Path, device: torch.device, top: int | None, directions: bool, bar: WorkBar
) -> tuple[dict[str, Measured], list[str]]:
    """Measure every matrix that `folder` does not have yet, and keep each as soon as it is measured.

    Returns:
        ({matrix: measured}, a line for each matrix that could not be measured).
    """
    done: dict[str, Measured] = {}
    failures: list[str] = []
    base_mark = subject.base.fingerprint() if directions and subject.base else ""
    for index, matrix in enumerate(subject.matrices):
        bar.begin(matrix.name)
        before = found = store.load(folder, index, matrix.name)
        try:
            found = found or measure(matrix, device, top)
            if directions and not found.row.get("directions"):
                more = base.directions(matrix, found.row["frobenius_norm"], base_mark, device)
                found = Measured(found.row | more | {"directions": True}, found.sigma)
        except (ValueError, ArithmeticError) as error:
            failures.append(f"{matrix.name}: {error}")
        else:
            if found is not before:
                store.save(folder, index, found)
            done[matrix.name] = found
        bar.advance(matrix.cost, matrix.name)
    return done, failures


def measure(matrix: Matrix, device: torch.device, top: int | None = None) -> Measured:
    """The row and the singular values of one update.

    Args:
        device: where dense updates are decomposed.
        top: None for all values, exact; a number k for the top k with brackets, exact only where those are too wide.

    Raises:
        ValueError: nan or inf in the weights. ArithmeticError: no solver worked.
    """
    update = matrix.update()
    head: Row = {
        "matrix": matrix.name,
        "module": short_name(matrix.name.removesuffix(".weight")),
        "layer": layer_number(matrix.name),
        "kind": matrix.kind,
        "out": matrix.shape[0],
        "in": matrix.shape[1],
        "base_dtype": _dtype(matrix.base),
        "tuned_dtype": _dtype(matrix.tuned),
    }
    if isinstance(update, LowRank):
        return _low_rank(head, update, matrix.base)
    if isinstance(update, Tensor):
        return _dense(head, update.to(device), _base_norm(matrix.base))
    return _pair(head, Watched(update, device), top)


def _pair(head: Row, watched: Watched, top: int | None) -> Measured:
    rows, columns = watched.shape
    if top and rows * columns <= CERTIFIED_ENTRIES:
        whole = watched.block(0, 0, rows)
        found = certified(whole, min(top, min(rows, columns) - 1), generator(0, "audit"))
        measured = _certified(head, found)
    else:
        measured = _exact(head, watched)
    return Measured(measured.row | _storage(watched, measured), measured.sigma)


def _storage(watched: Watched, measured: Measured) -> Row:
    """How far the stored precision can be trusted. TUNED's rounding is always there. BASE is what training started
    from, hence exact, unless it is kept coarser than TUNED and so may be a rounded copy of the true start."""
    row, shape, sigma = measured.row, (int(watched.shape[0]), int(watched.shape[1])), torch.from_numpy(measured.sigma)
    norm, base_norm = row["frobenius_norm"], math.sqrt(watched.base_energy)
    edge = edge_of(*watched.rounding)
    whole = len(sigma) == min(shape)
    return {
        "base_norm": base_norm,
        "relative_norm": norm / base_norm if base_norm else math.nan,
        "unchanged": watched.unchanged / math.prod(shape) if math.prod(shape) else math.nan,
        "rounding_edge": edge,
        "rounding_share": min(1.0, float(watched.rounding[0].sum()) / norm**2) if norm else math.nan,
        "numerical_rank": float((sigma > edge).sum()) if whole or sigma[-1] <= edge else math.nan,
        "untrusted": " ".join(_untrusted(sigma, shape, edge)) if whole else "",
    }


def _untrusted(sigma: Tensor, shape: tuple[int, int], edge: float) -> list[str]:
    """The flagged measures but the numerical rank, which counts only what is above the edge."""
    return [name for name in untrusted(sigma, shape, edge) if name != "numerical_rank"]


def _exact(head: Row, x: Tensor | Watched) -> Measured:
    found = spectrum(x, WANTED)
    row = head | summary(found.sigma, found.shape) | _noise(found.sigma, found.shape)
    row |= {f"null.{name}": value for name, value in gaussian_null(found.shape).items()}
    largest = float(found.sigma[0]) if len(found.sigma) else 0.0
    row["error"] = float(found.error.max()) / largest if largest else 0.0
    return Measured(row | {"route": "; ".join(found.route)}, found.sigma.cpu().numpy())


def _noise(sigma: Tensor, shape: tuple[int, int]) -> Row:
    """What stands above the noise, the noise taken from the bulk."""
    std = noise_scale(sigma, shape)
    raw, cleaned = signal_share(sigma, shape, std)
    try:
        threshold: float = gavish_donoho_rank(sigma, shape)
    except ValueError:  # no bulk to take the noise from: the update is numerically low-rank
        threshold = math.nan
    return {
        "noise_std": std,
        "noise_edge": noise_ceiling(shape, std),
        "bulk_misfit": bulk_misfit(sigma, shape, std),
        "spikes": float(spikes(sigma, shape, std)),
        "spike_energy": raw,
        "signal_share": cleaned,
        "gavish_donoho_rank": float(threshold),
    }


def _certified(head: Row, found: Certified) -> Measured:
    """A bracket's upper end stands for it, which is certain to be enough; `.low` has the other."""
    shape, sigma = (head["out"], head["in"]), found.sigma.cpu()
    row = head | dict.fromkeys(MEASURES, math.nan) | {name: b.high for name, b in found.brackets.items()}
    row |= {f"{name}.low": bracket.low for name, bracket in found.brackets.items()}
    row |= {f"null.{name}": value for name, value in gaussian_null(shape).items()}
    row |= {"frobenius_norm": found.norm, "spectral_norm": float(sigma[0]) if len(sigma) else 0.0}
    if len(sigma) == min(shape):
        row |= summary(sigma, shape) | _noise(sigma, shape)
    else:
        row |= _noise_below(sigma, found.norm, shape)
    return Measured(row | {"route": "; ".join(found.route)}, sigma.numpy())


def _noise_below(sigma: Tensor, norm: float, shape: tuple[int, int]) -> Row:
    """As `_noise`, the noise taken from the energy that the top k leave."""
    k = len(sigma)
    left = max(norm**2 - float(sigma.square().sum()), 0.0)
    std = math.sqrt(left / ((shape[0] - k) * (shape[1] - k)))
    edge = noise_ceiling(shape, std)
    count = int((sigma > edge).sum())
    energy = float(sigma[:count].square().sum()) / norm**2 if norm else math.nan
    return {"noise_std": std, "noise_edge": edge, "spikes": float(count), "spike_energy": energy}


def _dense(head: Row, update: Tensor, base_norm: float) -> Measured:
    """DoRA's update: computed in fp64 from the factors and W0, so no storage rounds it."""
    measured = _exact(head, update)
    return Measured(measured.row | _relative(measured.row, base_norm) | {"untrusted": ""}, measured.sigma)


def _low_rank(head: Row, update: LowRank, base: Stored | None) -> Measured:
    (sigma,) = low_rank_singular_values([update])
    row = head | summary(sigma, update.shape)
    null = gaussian_null(update.shape, update.B.shape[1])
    row |= {f"null.{name}": value for name, value in null.items()}
    row |= {"rank": update.B.shape[1], "untrusted": "", "route": "factors"}
    return Measured(row | _relative(row, _base_norm(base)), sigma.cpu().numpy())


def _relative(row: Row, base_norm: float) -> Row:
    return {"base_norm": base_norm, "relative_norm": row["frobenius_norm"] / base_norm if base_norm else math.nan}


def _base_norm(stored: Stored | None) -> float:
    return math.nan if stored is None else norm(stored)


def _dtype(stored: Stored | None) -> Any:
    return None if stored is None else str(stored.dtype).removeprefix("torch.")
