"""Which runs may be compared: those of the same model, task, data and budget. The report, `analysis compare` and the
answer (`record.answer`) group runs by this alone."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from lorax_lab.record import variation
from lorax_lab.record.record import RECORD, DamagedRecord, Record, read_record
from lorax_lab.record.variation import Settings


def is_shared(key: str) -> bool:
    """Whether runs must agree in a setting to be comparable: inputs, task and budget."""
    is_input = key in ("task", *variation.INPUTS) or key.startswith(("inputs.", "task."))
    return is_input or (key.startswith("train.") and not variation.of_method(key))


def config_of(record: Record) -> dict[str, Any]:
    """A record's configuration, with the rank and the seed that the record says."""
    return record.config | {"rank": record.rank, "seed": record.seed}


def settings_of(record: Record, by_name: bool = False) -> Settings:
    """What decides a run's training; hashes stand for the names of its inputs unless `by_name`."""
    hashes = hashes_of(record) if record.result and not by_name else None
    return variation.training(variation.settings(config_of(record), hashes))


def hashes_of(record: Record) -> dict[str, Any]:
    """The hashes of a completed run's inputs, as settings."""
    inputs = record.completed.inputs
    return {"inputs.model_sha256": inputs.model_sha256, "inputs.data_sha256": inputs.data_sha256}


def key_of(settings: Settings) -> str:
    """What comparable runs have in common, as one text."""
    return json.dumps({name: value for name, value in settings.items() if is_shared(name)}, sort_keys=True)


def comparable(record: Record, runs_dir: Path) -> dict[Path, Record]:
    """The completed runs of a store that are comparable with a completed run, by folder; trials are none. What cannot
    be read is left out."""
    key, inputs = key_of(settings_of(record)), record.completed.inputs
    hashes = [json.dumps(sha256).encode() for sha256 in (inputs.model_sha256, inputs.data_sha256)]
    runs = {}
    for folder in sorted(runs_dir.glob("[!.]*")):
        with suppress(FileNotFoundError, NotADirectoryError, DamagedRecord):
            content = (folder / RECORD).read_bytes()
            if not all(sha256 in content for sha256 in hashes):  # to parse every record of a store takes seconds
                continue
            candidate = read_record(folder)
            if candidate.result and not candidate.is_trial and key_of(settings_of(candidate)) == key:
                runs[folder] = candidate
    return runs
