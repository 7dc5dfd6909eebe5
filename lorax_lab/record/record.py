"""One run's record: typed, versioned, written whole and verified when it is read.

`runs/<run_id>/record.json` is written last, so a run without a completed record has no result. The record carries the
SHA-256 of its own content. A record that does not match it is damaged: it is reported, set aside and never averaged.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

from lorax_lab.errors import ConfigError, cut
from lorax_lab.record import verified
from lorax_lab.record.files import Check, write_redacted
from lorax_lab.record.garbage import uncollected
from lorax_lab.record.redact import redacted
from lorax_lab.record.result import STRICT, Git, Result, without_matrices
from lorax_lab.record.sums import read_bytes

VERSION = 2
"""Layout that is written. Version 1, which had no types, is read as well."""
STATUSES = ("completed", "diverged", "failed", "oom", "killed", "running")
Status = Literal["completed", "diverged", "failed", "oom", "killed", "running"]
RECORD = "record.json"
WRITTEN = re.compile(rf'\{{\n "schema": {VERSION},(.*),\n "sha256": "[0-9a-f]{{64}}"\n\}}\n', re.DOTALL)
"""A record as it is written, and in it what is between its version and its checksum."""
LARGEST = 2**28
"""Largest record that is read, in bytes. A run of 1,000 matrices needs under a megabyte."""


class DamagedRecord(ValueError):
    """A record that cannot be trusted: cut short, altered, of an unknown version, or missing a part."""


@dataclass(frozen=True)
class Record:
    """One run: its configuration, where it ran, and its outcome.

    Attributes:
        written: UTC, as `2026-11-25T00:00:00Z`.
        config: the whole resolved configuration, plain values.
        code: hash of the code that decides the numbers; None in records that are older than it.
        reason, error: why there is no result, in words and as a traceback.
        launch: identifies the launcher that tried the run.
        result: result of a completed run; None for any other run.
    """

    __pydantic_config__ = STRICT
    run_id: str
    status: Status
    written: str
    config: dict[str, Any]
    method: str
    rank: int | None
    seed: int
    versions: dict[str, str | None]
    git: Git
    code: str | None
    hardware: dict[str, Any]
    reason: str | None = None
    error: str | None = None
    launch: str | None = None
    result: Result | None = None

    def __post_init__(self) -> None:
        if (self.status == "completed") != (self.result is not None):
            raise ValueError(f"a {self.status} record {'lacks its' if self.result is None else 'has a'} result")

    @property
    def completed(self) -> Result:
        """The result of a run that is known to be completed."""
        assert self.result is not None, f"{self.run_id} is {self.status} and has no result"
        return self.result

    @property
    def is_trial(self) -> bool:
        """Whether the run only tries a learning rate: it is scored on validation alone, and no update is measured."""
        return bool(self.config["measure"] == "trial")

    @property
    def split(self) -> str:
        """The split whose score stands for the run."""
        return "validation" if self.is_trial else "test"


@dataclass(frozen=True)
class Damage:
    """A folder whose record cannot be used, and why."""

    folder: Path
    reason: str


def write_record(folder: Path, record: Record, check: Check | None = None) -> None:
    """Write `record.json` with its checksum; call it after every other file of the run. `check` is called right before
    it takes its place."""
    content = {"schema": VERSION} | redacted(_plain(dataclasses.asdict(record)))
    content["sha256"] = _checksum(content)
    write_redacted(folder / RECORD, _text(content), check)


def read_record(folder: Path) -> Record:
    """The verified record of one run.

    Raises:
        FileNotFoundError: there is no record in the folder.
        DamagedRecord: it is not whole, of no known version, or not what was written.
    """
    return _read(folder)[0]


def _read(folder: Path, matrices: bool = True) -> tuple[Record, str]:
    """(the record, the SHA-256 of its file); without `matrices` those of a listed record are left out."""
    path = folder / RECORD
    try:
        written = read_bytes(path, LARGEST)
        text = written.decode("utf-8")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedRecord(f"{path} cannot be read: {error}") from error
    digest, known = hashlib.sha256(written).hexdigest(), verified.known(folder.parent)
    if digest in known and (content := WRITTEN.fullmatch(text)):
        return _typed(path, f"{{{content[1] if matrices else without_matrices(content[1])}}}"), digest
    record = _checked(path, text)
    known.add(digest)
    return record, digest


def _checked(path: Path, text: str) -> Record:
    try:
        content = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise DamagedRecord(f"{path} is not whole: {error}") from error
    if not isinstance(content, dict):
        raise DamagedRecord(f"{path} is not a record")
    version = content.get("schema")
    if type(version) is not int or version not in (1, VERSION):
        raise DamagedRecord(f"{path} has schema {cut(version, 40)}; this version reads 1 and {VERSION}")
    try:
        written = text == _text(content)
        same = content.pop("sha256", None) == _checksum(content)
    except (ValueError, RecursionError) as error:  # such as 1e999, which is read as infinity
        raise DamagedRecord(f"{path} is not what was written: {error}") from error
    if not (written and same):
        raise DamagedRecord(f"{path} is not what was written: its checksum does not match")
    del content["schema"]
    try:
        return _typed(path, json.dumps(_upgraded(path, content) if version == 1 else content))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        if isinstance(error, DamagedRecord):
            raise
        raise DamagedRecord(f"{path} is no record of version {version}: {cut(repr(error), 300)}") from error


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number that a record has")


def _typed(path: Path, text: str) -> Record:
    from pydantic import ValidationError

    try:
        return cast(Record, _reader().validate_json(text, strict=True))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "record"
        raise DamagedRecord(f"{path} is no record of version {VERSION}: {place}: {first['msg']}") from error


@lru_cache(maxsize=1)
def _reader() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Record)


OF_RESULT = tuple(item.name for item in dataclasses.fields(Result))
OF_RECORD = tuple(item.name for item in dataclasses.fields(Record))


def _upgraded(path: Path, old: dict[str, Any]) -> dict[str, Any]:
    """A record of version 1, which had the result's keys beside the others, in today's layout."""
    renamed = {"truncation" if key == "functional" else key: value for key, value in old.items()}
    content = {key: value for key, value in renamed.items() if key in OF_RECORD}
    content.setdefault("code", None)
    if old.get("status") != "completed":
        return content
    missing = [key for key in ("parameters", "memory", "time", "metrics", "matrices") if key not in old]
    if missing:
        raise DamagedRecord(f"{path} lacks {', '.join(missing)}")
    result = {key: value for key, value in renamed.items() if key in OF_RESULT}
    seconds = dict(result["time"])
    result["time"] = {"truncation_seconds": seconds.pop("functional_seconds", 0.0)} | seconds
    return content | {"result": result}


def status_of(folder: Path) -> str | None:
    """The status of a run's folder: one of `STATUSES`, `damaged`, or None where nothing is recorded."""
    try:
        return read_record(folder).status
    except FileNotFoundError:
        return None
    except DamagedRecord:
        return "damaged"


@uncollected()
def scan(runs_dir: Path, list_verified: bool = False, matrices: bool = True) -> tuple[dict[Path, Record], list[Damage]]:
    """Every verified record under `runs_dir` by its folder, sorted by name, and the damaged ones.

    A folder that has not its run's name is a copy, which would count its run twice: it is damaged as well. So is one
    that may not be read.

    Args:
        list_verified: whether to keep in the store which were found to be whole, for the next time.
        matrices: whether the measures of each matrix are read; if not, a record that is listed has none.

    Raises:
        ConfigError: the store itself may not be read.
    """
    records, damages, digests = {}, [], set[str]()
    for folder in _recorded(Path(runs_dir)):
        try:
            record, digest = _read(folder, matrices)
        except (DamagedRecord, FileNotFoundError) as error:  # a run may be removed while others are read
            if isinstance(error, DamagedRecord):
                damages.append(Damage(folder, str(error)))
            continue
        digests.add(digest)
        if record.run_id == folder.name:
            records[folder] = record
        else:
            cure = "move it out of the store, or give it back its name"
            damages.append(Damage(folder, f"{folder} is a copy of {record.run_id}; {cure}"))
    if list_verified:
        verified.keep(Path(runs_dir), digests)
    return records, damages


def _recorded(runs_dir: Path) -> list[Path]:
    """The folders in which anything stands in a record's place, a link that leads nowhere too, and those in which that
    cannot be seen; sorted by name.

    Raises:
        ConfigError: the store may not be read.
    """
    try:
        folders = [Path(entry.path) for entry in os.scandir(runs_dir) if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError:
        cure = "name another folder, or let its owner give you the right"
        raise ConfigError(f"the runs in {runs_dir} may not be read; {cure}") from None
    return sorted(folder for folder in folders if _may_have_record(folder))


def _may_have_record(folder: Path) -> bool:
    """Whether something stands in a record's place, or it is forbidden to look there."""
    try:
        os.lstat(folder / RECORD)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


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
    return value


def _text(content: dict[str, Any]) -> str:
    """A record as it is written; no other text is taken for it."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _checksum(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
