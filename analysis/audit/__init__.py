"""The figures of an audit, one file each: `table(rows, sigma)` makes its CSV, `draw(table)` draws that."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from analysis import style
from analysis.audit import directions, energy, ranks, singular_values
from analysis.audit.rows import tidy
from analysis.groups import CannotDraw

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FIGURES: dict[str, ModuleType] = {
    "singular_values": singular_values,
    "energy": energy,
    "ranks": ranks,
    "directions": directions,
}


def draw_all(rows: pd.DataFrame, sigma: dict[str, np.ndarray], folder: Path) -> list[str]:
    """Draw every figure that the rows allow into `folder`, each as PNG, PDF and the CSV behind it.

    Args:
        rows: one row per matrix, as in `audit.csv`; columns that are absent only cost what needs them.
        sigma: singular values by matrix, descending: all of them, those of the factors, or the top k.

    Returns:
        A line per figure: `energy.{png,pdf,csv}`, or `directions not drawn (why)`.
    """
    table, lines = tidy(rows), []
    for name, figure in FIGURES.items():
        try:
            behind = figure.table(table, sigma)
        except CannotDraw as reason:
            lines.append(f"{name} not drawn ({reason})")
            continue
        style.save(behind, figure.draw(behind), folder / name)
        lines.append(f"{name}.{{png,pdf,csv}}")
    return lines
