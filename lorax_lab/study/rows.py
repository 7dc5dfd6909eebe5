"""What was measured of a study's final runs afterwards, `<name>.parquet` in its folder: plain values, row by row.

The table says which runs of each condition were measured, so that rows of earlier runs are told from those of the
published ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorax_lab.config.defaults import flat
from lorax_lab.study.published import CUTS, MATRICES, RUNS
from lorax_lab.study.tables import nested, read_about, read_table, write_table

CONDITION = "condition"
"""The column that says of which condition a row's runs are."""
MEASURED_RUNS = "runs"
"""The key, in what the table says about all rows, of the runs by condition."""
SHARED = "shared.parquet"
"""The table of the directions that full fine-tunes share; pairs of runs are measured one by one."""
NOT_AFTERWARDS = (RUNS, MATRICES, CUTS, SHARED)


@dataclass
class Afterwards:
    """The rows of one condition, and the ids of the runs that were measured."""

    runs: list[str]
    rows: list[dict[str, Any]] = field(default_factory=list)


def names_of(folder: Path) -> list[str]:
    """The names of the rows that a study's folder has."""
    return sorted(path.stem for path in folder.glob("[!.]*.parquet") if path.name not in NOT_AFTERWARDS)


def read_rows(folder: Path, name: str) -> dict[str, Afterwards]:
    """The rows of each condition; none where there is no such table.

    Raises:
        OSError, ValueError: the table cannot be read.
    """
    path = folder / f"{name}.parquet"
    if not path.is_file():
        return {}
    conditions = {condition: Afterwards(runs) for condition, runs in read_about(path)[MEASURED_RUNS].items()}
    for row in map(nested, read_table(path)):
        conditions[row[CONDITION]].rows.append({"layer": None} | row if "matrix" in row else row)
    return conditions


def write_rows(folder: Path, name: str, conditions: Mapping[str, Afterwards]) -> None:
    """Write the rows of all conditions."""
    rows = [flat({CONDITION: condition} | row) for condition, measured in conditions.items() for row in measured.rows]
    runs = {condition: measured.runs for condition, measured in conditions.items()}
    write_table(folder / f"{name}.parquet", rows, {MEASURED_RUNS: runs})
