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


def load_runs(runs: str | Path | Records, with_means: bool = True) -> pd.DataFrame:
    """One row per recorded run, nested parts as dotted columns (`parameters.trainable`, `config.task.name`,
    `metrics.test/accuracy`), and the means of its measures over all matrices (`summary.effective_rank`).

    Args:
        runs: a folder of runs, whose damaged records are left out with a warning; or records that are read already.
        with_means: have the means, which takes the time to derive the measures.
    """
    import pandas as pd

    from lorax_lab.record.measures import means

    rows = []
    for folder, record in _records(runs).items():
        row = record_type().dump_python(record, exclude={"result": BULKY})
        if result := row.pop("result"):
            row |= result | ({"summary": _unless_damaged(means, folder)} if with_means else {})
        rows.append(flat(row) | {"folder": str(folder)})
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["run_id", "status", "method", "rank"])


def load_matrices(runs: str | Path | Records) -> pd.DataFrame:
    """One row per matrix of every completed run: the run's identity columns, then the matrix's measures
    (`effective_rank`, `null.effective_rank`, …). A run whose spectra are gone is left out with a warning; `runs` as
    of `load_runs`."""
    from lorax_lab.record.measures import rows

    def rows_of(folder: Path, record: Record) -> list[dict[str, Any]]:
        return [{"matrix": name, **row} for name, row in _unless_damaged(rows, folder).items()]

    return _long(_records(runs), rows_of)


def load_truncation(runs: str | Path | Records) -> pd.DataFrame:
    """One row per truncation of every completed full fine-tune: `k`, `part` (`cut` or `remainder`), the scores; `runs`
    as of `load_runs`."""
    return _long(_records(runs), lambda folder, record: record.completed.truncation or [])


def _records(runs: str | Path | Records) -> Records:
    if isinstance(runs, Mapping):
        return runs
    records, damages = scan(Path(runs))
    for damage in damages:
        warnings.warn(f"left out: {damage}", stacklevel=3)
    return records


def _unless_damaged(read: Callable[[Path], dict[str, Any]], folder: Path) -> dict[str, Any]:
    try:
        return read(folder)
    except (DamagedRecord, FileNotFoundError) as error:
        warnings.warn(f"its measures are left out: {error}", stacklevel=4)
        return {}


def _long(records: Records, rows_of: Callable[[Path, Record], list[dict[str, Any]]]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for folder, record in records.items():
        names = {"model": record.config["model"], "task": record.config["task"]["name"]}
        run = {"run_id": record.run_id, "folder": str(folder)}
        identity = run | {"method": record.method, "rank": record.rank, "seed": record.seed} | names
        rows += [identity | flat(values) for values in (rows_of(folder, record) if record.result else [])]
    return pd.DataFrame(rows)
