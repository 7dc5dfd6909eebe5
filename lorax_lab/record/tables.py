"""Records read back as tables: one row per run, per matrix, per truncation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.config.defaults import flat
from lorax_lab.record.record import DamagedRecord, Record, record_type, scan

if TYPE_CHECKING:
    import pandas as pd

Records = Mapping[Path, Record]
"""Records by their folders, as `scan` gives them."""
BULKY = {"matrices", "truncation", "files", "coverage"}
"""Parts of a result that have tables of their own, or none."""


def load_runs(runs_dir: str | Path) -> pd.DataFrame:
    """One row per recorded run, nested parts as dotted columns (`parameters.trainable`, `config.task.name`,
    `metrics.test/accuracy`), and the means of its measures over all matrices (`summary.effective_rank`). Damaged
    records are left out, warned about, and listed in `frame.attrs["damaged"]`."""
    from lorax_lab.record.measures import means

    records, damages = _read(runs_dir)
    frame = runs_of(records, lambda folder: {"summary": means(folder)})
    frame.attrs["damaged"] = damages
    return frame


def load_matrices(runs_dir: str | Path) -> pd.DataFrame:
    """One row per matrix of every completed run: the run's identity columns, then the matrix's measures
    (`effective_rank`, `null.effective_rank`, …)."""
    return matrices_of(_read(runs_dir)[0])


def load_truncation(runs_dir: str | Path) -> pd.DataFrame:
    """One row per truncation of every completed full fine-tune: `k`, `part` (`cut` or `remainder`), the scores."""
    return truncation_of(_read(runs_dir)[0])


def runs_of(records: Records, more: Callable[[Path], dict[str, Any]] = lambda folder: {}) -> pd.DataFrame:
    """As `load_runs`, of records that are read already, with what `more` says of each run's folder."""
    import pandas as pd

    rows = []
    for folder, record in records.items():
        row = record_type().dump_python(record, exclude={"result": BULKY})
        if result := row.pop("result"):
            row |= result | (_unless_damaged(more, folder) or {})
        rows.append(flat(row) | {"folder": str(folder)})
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["run_id", "status", "method", "rank"])


def matrices_of(records: Records) -> pd.DataFrame:
    """As `load_matrices`, of records that are read already. A run whose spectra are gone is left out with a warning."""
    from lorax_lab.record.measures import rows

    def rows_of(folder: Path, record: Record) -> list[dict[str, Any]]:
        return [{"matrix": name, **row} for name, row in (_unless_damaged(rows, folder) or {}).items()]

    return _long(records, rows_of)


def truncation_of(records: Records) -> pd.DataFrame:
    """As `load_truncation`, of records that are read already."""
    return _long(records, lambda folder, record: record.completed.truncation or [])


def _read(runs_dir: str | Path) -> tuple[Records, list[tuple[str, str]]]:
    records, damages = scan(Path(runs_dir))
    for damage in damages:
        warnings.warn(f"left out: {damage.reason}", stacklevel=3)
    return records, [(str(damage.folder), damage.reason) for damage in damages]


def _unless_damaged(read: Callable[[Path], dict[str, Any]], folder: Path) -> dict[str, Any] | None:
    try:
        return read(folder)
    except (DamagedRecord, FileNotFoundError) as error:
        warnings.warn(f"its measures are left out: {error}", stacklevel=4)
        return None


def _long(records: Records, rows_of: Callable[[Path, Record], list[dict[str, Any]]]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for folder, record in records.items():
        names = {"model": record.config["model"], "task": record.config["task"]["name"]}
        run = {"run_id": record.run_id, "folder": str(folder)}
        identity = run | {"method": record.method, "rank": record.rank, "seed": record.seed} | names
        rows += [identity | flat(values) for values in (rows_of(folder, record) if record.result else [])]
    return pd.DataFrame(rows)
