"""`python -m analysis audit FOLDER`: the figures of an audit. A table of its rows and singular values makes the CSV of
each figure, and the CSV is drawn."""

import argparse
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from lorax_lab.errors import ConfigError, in_short

from .. import style
from ..groups import CannotDraw
from . import ranks, singular_values

FIGURES = {"singular_values": singular_values, "ranks": ranks}
TEXT = ("matrix", "module", "untrusted")
NUMBERS = (
    *("out", "in", "rank", "frobenius_norm", *ranks.MEASURES, *(f"null.{name}" for name in ranks.MEASURES)),
    *(*ranks.NULLS, *singular_values.FITTED),
)


def main(arguments: list[str]) -> int:
    """Draw. Returns the exit code: 0 drawn, 1 nothing could be drawn, 2 a folder that is absent or cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m analysis audit", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what python -m lorax_lab.audit wrote")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the figures go (the same folder)")
    options = parser.parse_args(arguments)
    folder, out = options.folder, options.out or options.folder
    drawn, not_drawn = draw_all(*read(folder), out)
    for heading, lines in ((f"drawn, in {out}", drawn), ("not drawn", not_drawn)):
        if lines:
            print(f"{heading}:", *lines, sep="\n  ")
    return 0 if drawn else 1


def read(folder: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """What `python -m lorax_lab.audit` wrote: one row per matrix as in `audit.csv`, and the singular values by matrix,
    descending.

    Raises:
        FileNotFoundError: the folder is of no audit. ConfigError: its files are damaged, or in another form.
    """
    sigma = {}
    try:
        for path in sorted((folder / "matrices").glob("*.npz")):
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                sigma[str(json.loads(str(arrays["row"]))["matrix"])] = arrays["sigma"]
        return pd.read_csv(folder / "audit.csv"), sigma
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = f"{folder} is an audit of another format, or damaged: {in_short(error)}"
        raise ConfigError(f"{reason}; type python -m lorax_lab.audit BASE TUNED --out NEW") from None


def draw_all(rows: pd.DataFrame, sigma: dict[str, np.ndarray], folder: Path) -> tuple[list[str], list[str]]:
    """Draw every figure that the rows of an `audit.csv` allow into `folder`, each as PNG, PDF and the CSV behind it;
    columns that are absent only cost what needs them. Returns those drawn, and why each other figure was not."""
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


def tidy(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of an audit with every column that a figure asks for: NaN, or no text, where one is absent.

    `layer` becomes Int64; a matrix without a module type is its own.
    """
    table = rows.reset_index(drop=True).reindex(columns=[*dict.fromkeys([*rows.columns, *TEXT, *NUMBERS, "layer"])])
    for name in TEXT:
        table[name] = [value if isinstance(value, str) else "" for value in table[name]]
    for name in NUMBERS:
        table[name] = pd.to_numeric(table[name], errors="coerce").astype(float)
    table["module"] = table["module"].where(table["module"] != "", table["matrix"])
    table["layer"] = pd.to_numeric(table["layer"], errors="coerce").astype("Int64")
    return table
