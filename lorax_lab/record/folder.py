"""The other files of a run's folder: `config.yaml`, `metrics.jsonl`, `spectra.npz`, `outputs.npz`, trained tensors."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from lorax_lab.record.files import plain_values, save_tensors, sha256_of, write_arrays, write_json, write_text
from lorax_lab.record.record import RECORD, DamagedRecord, read_record
from lorax_lab.record.result import File

if TYPE_CHECKING:
    import numpy as np

SPECTRA = "spectra.npz"
OUTPUTS = "outputs.npz"
HEAD_ALONE, HEAD_ON_VALIDATION = "head", "head_validation"
"""The baselines of a head that was fitted alone, on test and on validation."""
UNTRAINED = "untrained"
"""The baseline of `Kind.baselines` that is the model as it was. In the outputs of full fine-tuning its answers to test
stand as `untrained/0`, and those of a head alone as `head/0`, as those of a cut do."""
CORRECT, PSEUDO_VALUES = "correct", "pseudo_values"
"""The parts of a test split's outputs that say what each example adds to the score: whether its answer is right, (n,)
bool, where one is right or wrong; and where the metric has them (`tasks.kind.Metric`) numbers whose mean is the score,
(n,)."""
CACHE = ".cache"
"""The store's folder of the outputs of bases that nothing, or only a head, has trained: one file for all runs of the
same base and data."""
HISTORY = "metrics.jsonl"
NOT_RESULTS = (RECORD, "wandb.json", "trackio.json", "progress.jsonl")


def save_trained(folder: Path, files: dict[str, dict[str, Any]], header: Mapping[str, str] | None = None) -> None:
    """Write a method's exported files: tensors as safetensors with a `header`, plain values as JSON."""
    for name, content in files.items():
        if name.endswith(".json"):
            write_json(folder / name, content, 2)
        else:
            save_tensors(folder / name, content, header)


def save_config(folder: Path, config: dict[str, Any]) -> None:
    """Write the full resolved configuration as `config.yaml`."""
    from omegaconf import OmegaConf

    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))


def save_history(folder: Path, history: list[dict[str, float]]) -> None:
    """Write the learning curve, one JSON object per step, as `metrics.jsonl`; null where a value is not finite."""
    write_text(folder / HISTORY, "".join(json.dumps(row) + "\n" for row in plain_values(history)))


def read_history(folder: Path) -> list[dict[str, float | None]]:
    """The learning curve that `save_history` wrote."""
    return [json.loads(line) for line in (folder / HISTORY).read_text(encoding="utf-8").splitlines()]


def save_arrays(path: Path, tables: dict[str, dict[str, np.ndarray]]) -> None:
    """Write `{name: {part: array}}` as one NPZ file with the keys `<name>/<part>`: `spectra.npz` by matrix,
    `outputs.npz` of the test split and by cut."""
    write_arrays(path, {f"{name}/{part}": array for name, parts in tables.items() for part, array in parts.items()})


def files_of(folder: Path) -> dict[str, File]:
    """Size and SHA-256 of a run's files, for its record. A hidden file, such as a temporary one, is no result."""
    paths = sorted(path for path in folder.glob("[!.]*") if path.is_file() and path.name not in NOT_RESULTS)
    return {path.name: File(path.stat().st_size, sha256_of(path)) for path in paths}


def check_file(folder: Path, name: str) -> None:
    """Check that a file of a completed run is the one that its record describes.

    Raises:
        FileNotFoundError: there is no such file. DamagedRecord: another content, or the record cannot be trusted.
    """
    result = read_record(folder).result if (folder / RECORD).exists() else None
    sha256 = result.files[name].sha256 if result and name in result.files else None
    if sha256 and sha256_of(folder / name) != sha256:
        raise DamagedRecord(f"{folder / name} was changed: its hash differs; with force=true it is trained again")


def load_arrays(folder: Path, name: str, parts: Collection[str] | None = None) -> dict[str, dict[str, np.ndarray]]:
    """What `save_arrays` wrote to a run's folder: `{name: {part: array}}`, of these parts alone if they are given.

    Raises:
        DamagedRecord: the file is not what the record says.
    """
    import numpy as np

    check_file(folder, name)
    tables: dict[str, dict[str, np.ndarray]] = {}
    try:
        with (folder / name).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            for key in arrays.files:
                owner, _, part = key.rpartition("/")
                if parts is None or part in parts:
                    tables.setdefault(owner, {})[part] = arrays[key]
    except (BadZipFile, EOFError, ValueError) as error:
        raise DamagedRecord(f"{folder / name} is not whole: {error}") from error
    return tables


def load_spectra(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """A run's `{matrix: {sigma (fp64), U, Vh}}`; raises as `load_arrays`."""
    return load_arrays(folder, SPECTRA)
