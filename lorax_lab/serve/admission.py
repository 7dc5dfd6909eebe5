"""Which adapters are let onto the base: those of this base, whole, and of the rank that they say."""

from __future__ import annotations

from pathlib import Path

from lorax_lab.errors import ConfigError
from lorax_lab.methods import peft_format
from lorax_lab.methods.peft_files import SETTINGS, WEIGHTS
from lorax_lab.store import record
from lorax_lab.store.folder import check_file


def admit(folder: Path, shapes: dict[str, tuple[int, int]], base_name: str, model_sha256: str) -> peft_format.Saved:
    """The adapter in `folder`, checked in every respect that does not need the model.

    A run's folder is held against its record: the base's hash, the hashes of the adapter's files, the rank. Any other
    folder has only the name of its base to go by, and a changed byte in it can go unseen.

    Args:
        shapes: (out, in) of the base's matrices by name.

    Raises:
        ConfigError: another base, a damaged or missing file, a run without a result, what `peft_format.read` refuses.
    """
    known = _record(folder)
    if known and known.completed.inputs.model_sha256 != model_sha256:
        theirs = f"{known.config['model']} (sha256 {known.completed.inputs.model_sha256[:12]}…)"
        raise ConfigError(_other_base(folder, theirs, f"{base_name} (sha256 {model_sha256[:12]}…)"))
    saved = peft_format.read(folder, shapes)
    if saved.base_name != base_name:
        raise ConfigError(_other_base(folder, str(saved.base_name), base_name))
    if known and saved.rank != known.rank:
        raise ConfigError(f"{folder}: the adapter has rank {saved.rank}, but its record says rank {known.rank}")
    return saved


def _other_base(folder: Path, theirs: str, ours: str) -> str:
    return f"{folder}: this adapter belongs to another base, {theirs}; the one held here is {ours}"


def _record(folder: Path) -> record.Record | None:
    try:
        known = record.read_record(folder)
        if (known.status, known.method) != ("completed", "lora"):
            raise ConfigError(f"{folder}: a {known.status} run of method={known.method}, no trained adapter")
        for name in (SETTINGS, WEIGHTS):
            check_file(folder, name)
    except record.DamagedRecord as error:
        raise ConfigError(f"{folder}: {error}") from error
    except FileNotFoundError as error:
        if (folder / record.RECORD).is_file():
            raise ConfigError(f"{error.filename} is missing") from error
        return None
    return known
