"""Which adapters may go onto the base: undamaged ones, trained on this base, of the rank that they state."""

from __future__ import annotations

from pathlib import Path

from lorax_lab.errors import ConfigError
from lorax_lab.methods import peft_format
from lorax_lab.methods.peft_files import SETTINGS, WEIGHTS
from lorax_lab.record import record
from lorax_lab.record.folder import check_file


def admit(folder: Path, shapes: dict[str, tuple[int, int]], base_name: str, model_sha256: str) -> peft_format.Saved:
    """The adapter in `folder`, after every check that does not need the model.

    A run's folder is compared with its record: the base's hash, the hashes of the adapter's files, the rank. Any other
    folder states only the name of its base, so a changed byte in it can go unseen.

    Args:
        shapes: (out, in) of the base's matrices by name.

    Raises:
        ConfigError: the adapter has another base or rank, a file is damaged or missing, the run has no result, or
            `peft_format.read` refuses the adapter.
    """
    content = _record(folder)
    if content and content.completed.inputs.model_sha256 != model_sha256:
        theirs = f"{content.config['model']} (sha256 {content.completed.inputs.model_sha256[:12]}…)"
        raise ConfigError(_other_base(folder, theirs, f"{base_name} (sha256 {model_sha256[:12]}…)"))
    saved = peft_format.read(folder, shapes)
    if saved.base_name != base_name:
        raise ConfigError(_other_base(folder, str(saved.base_name), base_name))
    if content and saved.rank != content.rank and not content.config.get("method", {}).get("ranks"):
        raise ConfigError(f"{folder}: the adapter has rank {saved.rank}, but its record says rank {content.rank}")
    return saved


def _other_base(folder: Path, theirs: str, ours: str) -> str:
    return f"{folder}: this adapter belongs to another base, {theirs}; the one held here is {ours}"


def _record(folder: Path) -> record.Record | None:
    try:
        content = record.read_record(folder)
        if (content.status, content.method) != ("completed", "lora"):
            raise ConfigError(f"{folder}: a {content.status} run of method={content.method}, no trained adapter")
        for name in (SETTINGS, WEIGHTS):
            check_file(folder, name)
    except record.DamagedRecord as error:
        raise ConfigError(f"{folder}: {error}") from error
    except FileNotFoundError as error:
        if (folder / record.RECORD).is_file():
            raise ConfigError(f"{error.filename} is missing") from error
        return None
    return content
