"""The figures of an audit: of each, `table(rows, sigma)` makes its CSV, and `draw(table)` draws that."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lorax_lab.errors import ConfigError

from .. import style
from ..folders import Drawn, draw_folder
from ..groups import CannotDraw
from . import curves, layers
from .rows import tidy

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class AuditFigure(NamedTuple):
    """How a figure's CSV is made of an audit's rows and singular values, and how the CSV is drawn."""

    table: Callable[[pd.DataFrame, dict[str, np.ndarray]], pd.DataFrame]
    draw: style.Draw


FIGURES = {
    "singular_values": AuditFigure(curves.value_table, curves.draw_values),
    "energy": AuditFigure(curves.energy_table, curves.draw_energy),
    "ranks": AuditFigure(layers.rank_table, layers.draw_ranks),
    "directions": AuditFigure(layers.direction_table, layers.draw_directions),
}
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
        ConfigError: the folder is of another version. FileNotFoundError, ValueError, KeyError: it is no folder of an
            audit.
    """
    import numpy as np
    import pandas as pd

    version = json.loads((folder / "audit.json").read_text(encoding="utf-8"))["format"]
    if version != FORMAT:
        raise ConfigError(
            f"{folder} has format {version}, this version draws {FORMAT}; type {WRITER} --out ANOTHER_FOLDER"
        )
    sigma = {}
    for path in sorted((folder / "matrices").glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            sigma[str(json.loads(str(arrays["row"]))["matrix"])] = arrays["sigma"]
    return pd.read_csv(folder / "audit.csv"), sigma


def draw_all(rows: pd.DataFrame, sigma: dict[str, np.ndarray], folder: Path) -> Drawn:
    """Draw every figure that the rows allow into `folder`, each as PNG, PDF and the CSV behind it.

    Args:
        rows: one row per matrix, as in `audit.csv`; columns that are absent only cost what needs them.
        sigma: singular values by matrix, descending: all of them, those of the factors, or the top k.
    """
    table, drawn, not_drawn = tidy(rows), [], []
    for name, figure in FIGURES.items():
        try:
            csv = figure.table(table, sigma)
        except CannotDraw as reason:
            not_drawn.append(f"{name}: {reason}")
            continue
        style.save(csv, figure.draw(csv), folder / name)
        drawn.append(f"{name}.{{png,pdf,csv}}")
    return drawn, not_drawn
