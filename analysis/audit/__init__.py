"""The figures of an audit: of each, a table of its rows and singular values makes its CSV, and the CSV is drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from lorax_lab.errors import ConfigError

from .. import style
from ..folders import Drawn, draw_folder
from ..groups import CannotDraw
from . import curves, layers
from .rows import tidy

FIGURES = {
    "singular_values": (curves.value_table, curves.draw_values),
    "energy": (curves.energy_table, curves.draw_energy),
    "ranks": (layers.rank_table, layers.draw_ranks),
    "directions": (layers.direction_table, layers.draw_directions),
}
"""From a figure's name to what makes its CSV of an audit's rows and singular values, and what draws the CSV."""
FORMAT = 2
"""Version of an audit's folder that can be read."""
WRITER = "python -m lorax_lab.audit BASE TUNED"
Audit = tuple["pd.DataFrame", "dict[str, np.ndarray]"]
"""One row per matrix as in `audit.csv`, and the singular values by matrix, descending."""


def main(arguments: list[str] | None = None) -> int:
    """`python -m analysis audit FOLDER`; returns the exit code."""
    description = "Figures of an audit: singular values, energy, ranks, directions. Needs no model."
    return draw_folder(arguments, "audit", description, WRITER, read, lambda audit, out: draw_all(*audit, out))


def read(folder: Path) -> Audit:
    """What `python -m lorax_lab.audit` wrote.

    Raises:
        ConfigError: the folder is of another version. FileNotFoundError: it is no folder of an audit.
    """
    version = json.loads((folder / "audit.json").read_text(encoding="utf-8"))["format"]
    if version != FORMAT:
        raise ConfigError(f"{folder} has format {version}, this version draws {FORMAT}; make it again: {WRITER}")
    sigma = {}
    for path in sorted((folder / "matrices").glob("*.npz")):
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            sigma[str(json.loads(str(arrays["row"]))["matrix"])] = arrays["sigma"]
    return pd.read_csv(folder / "audit.csv"), sigma


def draw_all(rows: pd.DataFrame, sigma: dict[str, np.ndarray], folder: Path) -> Drawn:
    """Draw every figure that the rows allow into `folder`, each as PNG, PDF and the CSV behind it.

    Args:
        rows: one row per matrix, as in `audit.csv`; columns that are absent only cost what needs them.
        sigma: singular values by matrix, descending: all of them, or those of the factors.
    """
    table, drawn, not_drawn = tidy(rows), [], []
    for name, (make, draw) in FIGURES.items():
        try:
            csv = make(table, sigma)
        except CannotDraw as reason:
            not_drawn.append(f"{name}: {reason}")
            continue
        style.save(csv, draw(csv), folder / name)
        drawn.append(f"{name}.{{png,pdf,csv}}")
    return drawn, not_drawn
