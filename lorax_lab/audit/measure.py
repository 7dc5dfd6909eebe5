"""One matrix: the spectrum of its update, and its row of measures with what one pass over the weights tells.

An audit keeps them in a folder: `audit.json` says what was audited, and `matrices/00012.npz` holds a row (JSON) and its
singular values. Each file is written whole, so a stopped audit goes on where it was.
"""

import itertools
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorax_lab import spectra
from lorax_lab.audit.checkpoint import Difference, Matrix
from lorax_lab.audit.updates import Updates
from lorax_lab.config.defaults import flat
from lorax_lab.console import bar, say
from lorax_lab.errors import ConfigError
from lorax_lab.models import layer_number, short_name
from lorax_lab.models.tensor_files import dtype_of, norm, read_json
from lorax_lab.record.files import write_arrays, write_json
from lorax_lab.record.redact import redacted
from lorax_lab.spectra import LowRank, Rounding, Row, Spectrum
from lorax_lab.streams import generator

WANTED = 1e-6
"""Relative to σ_1: smaller values need no digits, since all m of them move no measure by more than m · 1e-6."""
LARGEST = 1e150
"""A matrix's norm at most: fp64 holds its square, and the sum of those of all matrices."""
DRAWN = "nulls_drawn"
SHOWN = 10
"""How many notes of one kind are printed."""
FORMAT = 3
IDENTITY = "audit.json"


@dataclass(frozen=True, eq=False)
class Measured:
    """A matrix's row and its singular values: all of them, or the factors' own."""

    row: Row
    sigma: np.ndarray


class Watched:
    """The blocks of a difference; a pass over them also sums up how the two matrices were stored.

    TUNED's rounding always counts. BASE is what training started from, hence exact, unless it is kept coarser than
    TUNED: then it may be a rounded copy of the true start.
    """

    def __init__(self, update: Difference) -> None:
        self.update, self.shape, self.device = update, update.shape, update.device
        self.rounded = [update.tuned]
        if torch.finfo(update.base.dtype).eps > torch.finfo(update.tuned.dtype).eps:
            self.rounded.append(update.base)

    def block(self, dim: int, start: int, stop: int) -> Tensor:
        """The blocks of `Difference`; a solver that reads again begins the sums again."""
        if start == 0:
            self.base_energy, self.unchanged = 0.0, 0
            self.rounding = [torch.zeros(side, dtype=torch.float64) for side in self.shape]
        difference, base = self.update.block(dim, start, stop), self.update.base.narrow(dim, start, stop - start)
        self.base_energy += float(torch.linalg.vector_norm(base, dtype=torch.float64)) ** 2
        for weight in self.rounded:
            energy = spectra.rounding_energy(weight.narrow(dim, start, stop - start), weight.dtype)
            self.rounding[dim][start:stop] += energy[dim]
            self.rounding[1 - dim] += energy[1 - dim]
        self.unchanged += difference.numel() - int(difference.count_nonzero())
        return difference

    @property
    def stored(self) -> Rounding:
        """How the two were stored, as the last pass found it."""
        return Rounding.of_sums(max(torch.finfo(side.dtype).eps for side in self.rounded), *self.rounding)

    @property
    def base_norm(self) -> float:
        """‖W0‖_F, as the last pass found it."""
        return math.sqrt(self.base_energy)


def measure_all(
    updates: Updates, folder: Path, page: str, device: torch.device, nulls: bool = True
) -> tuple[dict[str, Measured], list[str]]:
    """Measure every matrix that `folder` does not have yet, and keep each as soon as it is measured. First all notes
    are printed on tensors that are not measured or have another name, of each kind the first ones; `page` has all.
    Returns what was measured by matrix, and a line for each matrix that could not be."""
    say(f"{updates.title}: {len(updates.matrices)} matrices, into {folder}")
    for kind, notes in itertools.groupby(updates.notes, key=lambda note: note.kind):
        lines = [f"  {note.kind}: {note.name}: {note.detail}" for note in notes]
        more = [f"  {kind}: and {len(lines) - SHOWN} more, all in {page}"] if len(lines) > SHOWN else []
        for line in [*lines[:SHOWN], *more]:
            say(line)
    done: dict[str, Measured] = {}
    failures: list[str] = []
    with bar(updates.title) as on_done:
        for index, matrix in enumerate(updates.matrices):
            before = _load(folder, index, matrix.name)
            try:
                measured = before or measure(matrix, device)
                if (size := measured.row["frobenius_norm"]) > LARGEST:
                    raise ValueError(f"its norm is {size:.0e}, and at most {LARGEST:.0e} is measured: a bad file")
                if nulls and DRAWN not in measured.row:
                    measured = Measured(measured.row | _nulls(matrix, measured.sigma, device), measured.sigma)
            except (ValueError, ArithmeticError) as error:
                failures.append(f"{matrix.name}: {error}")
                say(f"not measured: {failures[-1]}", style="red")
            else:
                if measured is not before:
                    row = np.array(json.dumps(measured.row))
                    write_arrays(_path(folder, index), {"sigma": measured.sigma, "row": row})
                done[matrix.name] = measured
            on_done(index + 1, len(updates.matrices))
    return done, failures


def measure(matrix: Matrix, device: torch.device) -> Measured:
    """The row and the singular values of one update; a dense one is decomposed on the device.

    Raises:
        ValueError: nan or inf in the weights. ArithmeticError: no solver worked.
    """
    update = matrix.update()
    if isinstance(update, Difference):
        watched, entries = Watched(update.to(device)), math.prod(update.shape)
        result = spectra.spectrum(watched, WANTED)
        sigma, rounding = result.above_error, watched.stored
        row = spectra.row_of(sigma, matrix.shape, watched.base_norm, rounding=rounding) | _solved(result)
        row["unchanged"] = watched.unchanged / entries if entries else math.nan
        return Measured(_place(matrix) | flat(row), sigma.cpu().numpy())
    base_norm = math.nan if matrix.base is None else norm(matrix.base)
    if isinstance(update, LowRank):
        (sigma,) = spectra.low_rank_singular_values([update])
        rank = update.B.shape[1]
        row = spectra.row_of(sigma, update.shape, base_norm, rank) | {"rank": rank, "route": "factors"}
    else:  # DoRA's: computed in fp64 from the factors and W0, so no storage rounds it
        result = spectra.spectrum(update.to(device), WANTED)
        sigma = result.above_error
        row = spectra.row_of(sigma, matrix.shape, base_norm) | _solved(result)
    return Measured(_place(matrix) | flat(row), sigma.cpu().numpy())


def _solved(result: Spectrum) -> Row:
    largest = float(result.sigma[0]) if len(result.sigma) else 0.0
    error = float(result.error.max()) / largest if largest else 0.0
    return {"error": error, "route": "; ".join(result.route)}


def _nulls(matrix: Matrix, sigma: np.ndarray, device: torch.device) -> Row:
    """Columns `nulls.<null>.<measure>` of a dense update; `DRAWN` is False where none could be drawn."""
    if isinstance(update := matrix.update(), LowRank):
        return {DRAWN: False}
    drawn = spectra.structured_spectra(update.to(device), generator(0, f"nulls/{matrix.name}"))
    nulls = {name: spectra.measures_of_null(torch.from_numpy(sigma), draws) for name, draws in drawn.items()}
    return flat({"nulls": nulls}) | {DRAWN: bool(nulls)}


def _place(matrix: Matrix) -> Row:
    return {
        "matrix": matrix.name,
        "module": short_name(matrix.name.removesuffix(".weight")),
        "layer": layer_number(matrix.name),
        "kind": matrix.kind,
        "out": matrix.shape[0],
        "in": matrix.shape[1],
        "base_dtype": None if matrix.base is None else dtype_of(matrix.base),
        "tuned_dtype": None if matrix.tuned is None else dtype_of(matrix.tuned),
    }


def fastest_device() -> torch.device:
    """CUDA where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


# ---- the folder


def open_store(folder: Path, identity: dict[str, Any]) -> Path:
    """The folder, which is made if needed; a ConfigError says that it holds another audit, or other files."""
    path = folder / IDENTITY
    identity = redacted({"format": FORMAT, **identity})  # as it is written
    if path.is_file():
        try:
            before = read_json(path)
        except ConfigError as error:
            raise ConfigError(f"--out {folder}: {error}, type another --out, or delete this one") from None
        if changed := [key for key in identity if before.get(key) != identity[key]]:
            raise ConfigError(f"--out {folder} holds another audit: {', '.join(changed)} differ; type another --out")
    elif folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise ConfigError(f"--out {folder} is a file, or holds other files; type --out with a new folder's name")
    else:
        write_json(path, identity, indent=1)
    return folder


def _load(folder: Path, index: int, name: str) -> Measured | None:
    """What was measured of a matrix; None where nothing was, or nothing that can be read."""
    try:
        with _path(folder, index).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            measured = Measured(json.loads(str(arrays["row"])), arrays["sigma"])
            return measured if measured.row["matrix"] == name else None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _path(folder: Path, index: int) -> Path:
    return folder / "matrices" / f"{index:05d}.npz"
