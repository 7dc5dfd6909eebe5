"""Records read back as tables: one row per run, per matrix, per truncation."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.record.garbage import uncollected
from lorax_lab.record.record import Damage, Record, scan
from lorax_lab.record.result import Result

if TYPE_CHECKING:
    import pandas as pd

Records = Mapping[Path, Record]
"""Verified records by their folders, as `scan` gives them."""
BULKY = ("matrices", "truncation", "gaussian", "files", "coverage")
"""Parts of a result that have tables of their own, or none."""
LEAVES = frozenset({float, int, str, bool, type(None)})
"""Types of most values, which need no closer look."""


def load_runs(runs_dir: str | Path) -> pd.DataFrame:
    """One row per recorded run, nested parts as dotted columns (`parameters.trainable`, `config.task.name`,
    `metrics.test/accuracy`, `summary.effective_rank`). The column `status` has the status of each.

    Damaged records are left out, warned about, and listed in `frame.attrs["damaged"]`. `load_matrices` reads the
    measures of each matrix.
    """
    records, damages = _read(runs_dir, matrices=False)
    frame = runs_of(records)
    frame.attrs["damaged"] = [(str(damage.folder), damage.reason) for damage in damages]
    return frame


def load_matrices(runs_dir: str | Path) -> pd.DataFrame:
    """One row per matrix of every completed run: the run's identity columns, then the matrix's measures
    (`effective_rank`, `null.effective_rank`, …)."""
    return matrices_of(_read(runs_dir)[0])


def load_truncation(runs_dir: str | Path) -> pd.DataFrame:
    """One row per truncation of every completed full fine-tune: `k`, `part` (`cut` or `remainder`), the scores."""
    return truncation_of(_read(runs_dir)[0])


@uncollected()
def runs_of(records: Records) -> pd.DataFrame:
    """As `load_runs`, of records that are read already."""
    import pandas as pd

    rows = [_row(record) | {"folder": str(folder)} for folder, record in records.items()]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["run_id", "status", "method", "rank"])


def matrices_of(records: Records) -> pd.DataFrame:
    """As `load_matrices`, of records that are read already."""
    return _long(records, lambda result: [{"matrix": name, **row} for name, row in result.matrices.items()])


def truncation_of(records: Records) -> pd.DataFrame:
    """As `load_truncation`, of records that are read already."""
    return _long(records, lambda result: result.truncation or [])


def _read(runs_dir: str | Path, matrices: bool = True) -> tuple[Records, list[Damage]]:
    records, damages = scan(Path(runs_dir), list_verified=True, matrices=matrices)
    for damage in damages:
        warnings.warn(f"left out: {damage.reason}", stacklevel=3)
    return records, damages


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {}
    parts = _parts(record) | {"result": {}}
    if record.result is not None:
        parts |= {name: part for name, part in _parts(record.result).items() if name not in BULKY}
    _add_leaves(row, "", parts)
    return row


def _add_leaves(row: dict[str, Any], prefix: str, values: Mapping[str, Any]) -> None:
    """Nested values by their dotted names."""
    for name, value in values.items():
        if type(value) in LEAVES:
            row[prefix + name] = value
        elif isinstance(value, dict):
            _add_leaves(row, f"{prefix}{name}.", value)
        elif dataclasses.is_dataclass(value):
            _add_leaves(row, f"{prefix}{name}.", _parts(value))
        else:
            row[prefix + name] = value


def _parts(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, which `dataclasses.asdict` would copy."""
    return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}


@uncollected()
def _long(records: Records, rows_of: Callable[[Result], list[dict[str, Any]]]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for folder, record in records.items():
        identity = _identity(folder, record)
        for values in rows_of(record.result) if record.result else ():
            rows.append(dict(identity))
            _add_leaves(rows[-1], "", values)
    return pd.DataFrame(rows)


def _identity(folder: Path, record: Record) -> dict[str, Any]:
    names = {"model": record.config["model"], "task": record.config["task"]["name"]}
    run = {"run_id": record.run_id, "folder": str(folder)}
    return run | {"method": record.method, "rank": record.rank, "seed": record.seed} | names
