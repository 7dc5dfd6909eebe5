"""One run's files: written whole, verified when read, read back as tables.

`runs/<run_id>/` holds `config.yaml`, `record.json`, `metrics.jsonl`, `spectra.npz`, `outputs.npz` and the trained part
as safetensors. The record is written last, so a run without a completed record has no result. The record carries
the SHA-256 of its own content; one that does not match is damaged: named, set aside, never averaged.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.config import SCHEMA
from lorax_lab.store.files import save_tensors, sha256_of, write_text, write_whole
from lorax_lab.store.redact import redact

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

STATUSES = ("completed", "diverged", "failed", "oom", "killed", "running")
REQUIRED = ("schema", "run_id", "status", "config", "method", "rank", "seed", "versions", "git", "hardware")
REQUIRED_COMPLETED = ("parameters", "memory", "time", "metrics", "matrices")
RECORD = "record.json"
SPECTRA = "spectra.npz"
OUTPUTS = "outputs.npz"
QUARANTINE = "quarantine"
NOT_RESULTS = (RECORD, "wandb.json")
LARGEST = 2**28
"""Bytes of a record: one of 1,000 matrices has less than a megabyte."""


class DamagedRecord(ValueError):
    """A record that cannot be trusted: cut short, altered, of another schema, or missing a part."""


@dataclass(frozen=True)
class Damage:
    """A folder whose record cannot be used, and why."""

    folder: Path
    reason: str


def save_trained(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    """Write a method's exported files: tensors as safetensors, plain values as JSON."""
    for name, content in files.items():
        if name.endswith(".json"):
            write_text(folder / name, json.dumps(content, indent=2) + "\n")
        else:
            save_tensors(folder / name, content)


def save_config(folder: Path, config: dict[str, Any]) -> None:
    """Write the full resolved configuration as `config.yaml`."""
    import yaml

    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def save_history(folder: Path, history: list[dict[str, float]]) -> None:
    """Write the learning curve, one JSON object per step, as `metrics.jsonl`."""
    write_text(folder / "metrics.jsonl", "".join(json.dumps(_plain(row)) + "\n" for row in history))


def save_arrays(path: Path, tables: dict[str, dict[str, np.ndarray]]) -> None:
    """Write `{name: {part: array}}` as one NPZ file with the keys `<name>/<part>`: `spectra.npz` has sigma, U and Vh of
    each matrix, `outputs.npz` the outputs and labels of the test split."""
    import numpy as np

    arrays = {f"{name}/{part}": array for name, parts in tables.items() for part, array in parts.items()}

    def write(scratch: Path) -> None:
        with scratch.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    write_whole(path, write)


def files_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of a run's files, for its record: `{name: {bytes, sha256}}`."""
    names = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in NOT_RESULTS)
    return {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in names}


def check_file(folder: Path, name: str) -> None:
    """See that a file of a completed run is what its record says; nothing where the record is too old to say.

    Raises:
        FileNotFoundError: there is no record, or no such file. DamagedRecord: another content.
    """
    path, known = folder / name, read_record(folder).get("files", {}).get(name)
    if known and (path.stat().st_size, sha256_of(path)) != (known["bytes"], known["sha256"]):
        raise DamagedRecord(f"{path} is not what was written: its size or hash differs")


def load_arrays(folder: Path, name: str) -> dict[str, dict[str, np.ndarray]]:
    """What `save_arrays` wrote to a run's folder: `{name: {part: array}}`.

    Raises:
        DamagedRecord: the file is not what the record says.
    """
    import numpy as np

    if (folder / RECORD).exists():
        check_file(folder, name)

    tables: dict[str, dict[str, np.ndarray]] = {}
    with (folder / name).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        for key in arrays.files:
            owner, _, part = key.rpartition("/")
            tables.setdefault(owner, {})[part] = arrays[key]
    return tables


def load_spectra(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """A run's `{matrix: {sigma (fp64), U, Vh}}`; errors as `load_arrays`."""
    return load_arrays(folder, SPECTRA)


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write `record.json` with its checksum; call it after every other file of the run."""
    content = _plain(record)
    content["sha256"] = _checksum(content)
    write_text(folder / RECORD, _text(content))


def read_record(folder: Path) -> dict[str, Any]:
    """The verified record of one run.

    Raises:
        FileNotFoundError: there is no record in the folder.
        DamagedRecord: it is not whole, not of this schema, or not what was written.
    """
    path = folder / RECORD
    if (size := path.stat().st_size) > LARGEST:
        raise DamagedRecord(f"{path} has {size} bytes, more than any record; it is not read")
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedRecord(f"{path} is not whole: {error}") from error
    if not isinstance(content, dict):
        raise DamagedRecord(f"{folder / RECORD} is not a record")
    if content.get("schema") != SCHEMA:
        raise DamagedRecord(f"{folder / RECORD} has schema {content.get('schema')}; this version reads {SCHEMA}")
    written = text == _text(content)
    if content.pop("sha256", None) != _checksum(content) or not written:
        raise DamagedRecord(f"{folder / RECORD} is not what was written: its checksum does not match")
    needed = REQUIRED + (REQUIRED_COMPLETED if content.get("status") == "completed" else ())
    missing = [key for key in needed if key not in content]
    if missing or content["status"] not in STATUSES:
        raise DamagedRecord(f"{folder / RECORD} lacks {', '.join(missing) or 'a known status'}")
    return content


def status_of(folder: Path) -> str | None:
    """The status of a run's folder: one of `STATUSES`, `damaged`, or None where nothing is recorded."""
    try:
        return str(read_record(folder)["status"])
    except FileNotFoundError:
        return None
    except DamagedRecord:
        return "damaged"


def quarantine(folder: Path) -> Path:
    """Move a damaged run's folder to `<runs>/quarantine/`, keeping every byte; returns where it is now."""
    target = folder.parent / QUARANTINE / folder.name
    number = 1
    while target.exists():
        number += 1
        target = target.with_name(f"{folder.name}-{number}")
    target.parent.mkdir(exist_ok=True)
    shutil.move(folder, target)
    return target


def scan(runs_dir: Path) -> tuple[list[dict[str, Any]], list[Damage]]:
    """Every verified record under `runs_dir`, sorted by run id and with its `folder`, and the damaged ones."""
    records, damages = [], []
    folders = sorted(p.parent for p in Path(runs_dir).glob(f"*/{RECORD}"))
    for folder in folders:
        try:
            records.append(read_record(folder) | {"folder": str(folder)})
        except DamagedRecord as error:
            damages.append(Damage(folder, str(error)))
    return records, damages


def load_runs(runs_dir: str | Path) -> pd.DataFrame:
    """One row per recorded run, nested parts as dotted columns (`parameters.trainable`, `config.task.name`,
    `metrics.test/accuracy`, `summary.effective_rank`); every status is there, in the column `status`.

    Damaged records are left out, warned about, and listed in `frame.attrs["damaged"]`. The per-matrix part
    is read by `load_matrices`.
    """
    import pandas as pd

    records, damages = scan(Path(runs_dir))
    for damage in damages:
        warnings.warn(f"left out: {damage.reason}", stacklevel=2)
    bulky = ("matrices", "functional", "history", "null", "files")
    rows = [{key: value for key, value in record.items() if key not in bulky} for record in records]
    frame = pd.json_normalize(rows) if rows else pd.DataFrame(columns=["run_id", "status", "method", "rank"])
    frame.attrs["damaged"] = [(str(d.folder), d.reason) for d in damages]
    return frame


def load_matrices(runs_dir: str | Path) -> pd.DataFrame:
    """One row per matrix of every completed run: the run's identity columns, then the matrix's measures
    (`effective_rank`, `null.effective_rank`, …)."""
    return _long(runs_dir, lambda record: [{"matrix": n, **m} for n, m in record["matrices"].items()])


def load_functional(runs_dir: str | Path) -> pd.DataFrame:
    """One row per cut of every completed full fine-tune: `k`, `part` (`cut` or `remainder`), and the scores."""
    return _long(runs_dir, lambda record: record.get("functional") or [])


def _long(runs_dir: str | Path, rows_of: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> pd.DataFrame:
    import pandas as pd

    records = [record for record in scan(Path(runs_dir))[0] if record["status"] == "completed"]
    rows = [_identity(record) | row for record in records for row in rows_of(record)]
    return pd.json_normalize(rows) if rows else pd.DataFrame()


def _identity(record: dict[str, Any]) -> dict[str, Any]:
    config = record["config"]
    names = {"model": config["model"], "task": config["task"]["name"]}
    return {key: record[key] for key in ("run_id", "folder", "method", "rank", "seed")} | names


def _plain(value: Any) -> Any:
    """JSON's own types; a float that is not finite becomes null, since JSON has none."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return redact(value) if isinstance(value, str) else value


def _text(content: dict[str, Any]) -> str:
    """A record as it is written; no other text is taken for it."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _checksum(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
