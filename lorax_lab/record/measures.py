"""The measures of recorded updates, derived when they are read: `rows(folder)`, `means(folder)`.

A record keeps primary data alone: σ in `spectra.npz`, and of each matrix what needs the weights (`result.Matrix`). So a
measure that is added to `spectra.MEASURES` has a column for every run that was ever recorded.
"""

import dataclasses
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lorax_lab import spectra
from lorax_lab.config.defaults import flat
from lorax_lab.record.files import plain_values
from lorax_lab.record.folder import SPECTRA, load_arrays
from lorax_lab.record.record import RECORD, read_record
from lorax_lab.record.result import UNDEFINED, Captured, Matrix
from lorax_lab.spectra import NULLS, Row

STAND_IN = "gaussian"
"""The part of `spectra.npz` with σ of the Gaussian matrix that stood in for the update; the part of a null of `NULLS`
has its name."""
LIKE_NOISE = ("full", "lora", "peft/lora", "peft/rslora")
"""Methods whose null is known: dense Gaussian noise, or a product of two Gaussian factors. What another method makes of
noise depends on its form: a LoHa of noise alone has .46 of dense noise's effective rank at 32², and .05 at 384²."""
NO_REFERENCE = "the reference's ΔW is zero"


def rows(folder: Path) -> dict[str, Row]:
    """The measures of each matrix of a run by name: of noise of its shape under `null`, of noise with its structure
    under `nulls`, of the reference under `captured`; none for a trial. What has no value is None, and `undefined` says
    why. Derived once in a process.

    Raises:
        FileNotFoundError: the run or its spectra are gone. DamagedRecord: they are not what was written.
    """
    return dict(plain_values(_derived(folder.resolve(), _stamp(folder))))


def rows_of(matrices: Mapping[str, Matrix], arrays: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Row]:
    """As `rows`, of a run whose record and spectra are read already."""
    return {name: dict(plain_values(row(matrix, arrays[name]))) for name, matrix in matrices.items()}


def stand_in_rows(folder: Path) -> dict[str, Row]:
    """As `rows`, of the Gaussian matrices that stood in for the update; empty where none did."""
    matrices = read_record(folder).completed.matrices
    drawn = {
        name: dataclasses.replace(matrix, rounding=matrix.stand_in, captured=None)
        for name, matrix in matrices.items()
        if matrix.stand_in
    }
    arrays = load_arrays(folder, SPECTRA, parts=(STAND_IN,)) if drawn else {}
    return rows_of(drawn, {name: {"sigma": parts[STAND_IN]} for name, parts in arrays.items()})


def means(folder: Path) -> dict[str, Any]:
    """The means over all matrices of a run by measure (`effective_rank`, `null.effective_rank`, …), and under
    `by_module` over each type of matrix; empty for a trial. None where a matrix has no value. Raises as `rows`."""
    table = _derived(folder.resolve(), _stamp(folder))
    return dict(plain_values(summarise(table))) if table else {}


def effective_ranks(folder: Path) -> tuple[float | None, float | None] | None:
    """The mean effective rank of a run's updates, and that of noise where the method has a null; as `means` has them,
    in a tenth of its time. None for a trial. Raises as `rows`."""
    record = read_record(folder)
    matrices = record.completed.matrices
    if not matrices:
        return None
    arrays = load_arrays(folder, SPECTRA, parts=("sigma",))
    updates = [spectra.effective_rank(torch.from_numpy(arrays[name]["sigma"])) for name in matrices]
    noise = [spectra.gaussian_null(matrix.shape, matrix.rank)["effective_rank"] for matrix in matrices.values()]
    null = plain_values(statistics.fmean(noise))
    return plain_values(statistics.fmean(updates)), null if has_null(record.method, null) else None


def row(matrix: Matrix, arrays: Mapping[str, np.ndarray]) -> Row:
    """The measures of one update, whose arrays `load_spectra` gives; NaN where they have no value."""
    sigma = torch.from_numpy(arrays["sigma"])
    rounding = spectra.Rounding(**dataclasses.asdict(matrix.rounding)) if matrix.rounding else None
    measured = spectra.row_of(sigma, matrix.shape, matrix.base_norm, matrix.rank, rounding)
    reasons = [measured.pop(UNDEFINED)] if UNDEFINED in measured else []
    made: Row = {"shape": list(matrix.shape), "module": matrix.module, "layer": matrix.layer} | measured
    if matrix.captured:
        made["captured"] = _captured(matrix, matrix.captured)
        reasons += [NO_REFERENCE] if math.isnan(made["captured"]["best"]) else []
    made |= {UNDEFINED: " and ".join(reasons)} if reasons else {}
    drawn = {name: torch.from_numpy(arrays[name]) for name in NULLS if name in arrays}
    nulls = {name: spectra.measures_of_null(sigma, [values]) for name, values in drawn.items()}
    return made | ({"nulls": nulls} if nulls else {})


def summarise(table: Mapping[str, Row]) -> dict[str, Any]:
    """Means over all matrices, and under `by_module` over the layers of each module type."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for measured in table.values():
        groups[measured["module"]].append(measured)
    by_module = {module: _means(members) for module, members in groups.items()}
    return _means(list(table.values())) | {"by_module": by_module}


@lru_cache(maxsize=4096)
def _derived(folder: Path, stamp: tuple[int, ...]) -> dict[str, Row]:
    """The rows of a run; `stamp` changes where a file does."""
    matrices = read_record(folder).completed.matrices
    arrays = load_arrays(folder, SPECTRA, parts=("sigma", *NULLS)) if matrices else {}
    return {name: row(matrix, arrays[name]) for name, matrix in matrices.items()}


def _stamp(folder: Path) -> tuple[int, ...]:
    paths = [path for name in (RECORD, SPECTRA) if (path := folder / name).exists()]
    return tuple(number for path in paths for number in (path.stat().st_mtime_ns, path.stat().st_size))


def _captured(matrix: Matrix, shares: Captured) -> Row:
    """The shares, beside what a random space of the same rank holds."""
    assert matrix.rank is not None, "only a low-rank update captures a share of another"
    measured = {name: math.nan if share is None else share for name, share in dataclasses.asdict(shares).items()}
    random = {"random_column_share": matrix.rank / matrix.shape[0], "random_row_share": matrix.rank / matrix.shape[1]}
    return measured | random


def _means(members: list[Row]) -> dict[str, Any]:
    by_key = [flat(member) for member in members]
    return {
        key: statistics.fmean(member[key] for member in by_key)
        for key, value in by_key[0].items()
        if isinstance(value, (int, float)) and key != "layer" and all(key in member for member in by_key)
    }


def share_of_noise(row: Mapping[str, Any], method: str) -> float | None:
    """The effective rank of one matrix's row as a share of noise's. None where either is missing, and where noise tells
    nothing: of rank 1 everything has an effective rank of 1, and most methods have no null."""
    value, null = row.get("effective_rank"), row.get("null", {}).get("effective_rank")
    return None if value is None or not has_null(method, null) else value / null


def has_null(method: str, null: float | None) -> bool:
    """Whether the effective rank of a method's update may be held against that of noise, which is `null`.

    >>> has_null("full", 190.5), has_null("lora", 1.0), has_null("peft/pissa", 3.4), has_null("peft/loha", 23.4)
    (True, False, False, False)
    """
    return method in LIKE_NOISE and null is not None and null > 1 + 1e-9
