"""One run's record, `runs/<run_id>/record.json`: typed, written whole and last. One that is cut short, or has not the
types of `Record`, is damaged: it is reported and never averaged."""

import dataclasses
import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from lorax_lab.errors import ConfigError
from lorax_lab.record.files import plain_values, write_text
from lorax_lab.record.result import MODEL, Git, Result

VERSION: Literal[3] = 3
"""Layout of a record. Earlier ones had measures in them and are not read."""
Status = Literal["completed", "diverged", "failed", "oom", "hung", "killed", "running"]
STATUSES = get_args(Status)
RECORD = "record.json"


class DamagedRecord(ConfigError):
    """A record that cannot be trusted: cut short, of another version, or with other parts than a record has."""


class OtherVersion(DamagedRecord):
    """A record of a layout that is not read here; it may be whole."""


@dataclass(frozen=True, config=MODEL)
class Record:
    """One run: its configuration, where it ran, and its outcome.

    Attributes:
        written: UTC, as `2026-11-25T00:00:00Z`.
        config: the whole resolved configuration, plain values.
        code: version of the code that decides the numbers (`code_sha256`).
        reason, error: why there is no result, in words and as a traceback.
    """

    run_id: str
    status: Status
    written: str
    config: dict[str, Any]
    method: str
    rank: Annotated[int, Field(ge=1, lt=2**31)] | None
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    versions: dict[str, str | None]
    git: Git
    code: str | None
    hardware: dict[str, Any]
    reason: str | None = None
    error: str | None = None
    result: Result | None = None
    schema: Literal[3] = VERSION

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
        """Whether the run only tries a learning rate, scored on validation alone."""
        return bool(self.config["measure"] == "trial")

    @property
    def split(self) -> str:
        """The split whose score stands for the run."""
        return "validation" if self.is_trial else "test"


def write_record(folder: Path, record: Record) -> None:
    """Write `record.json`; call it after every other file of the run. A number that is not finite becomes null.

    Raises:
        ValueError: as it would be written, it would be refused where it is read; what was there stays.
    """
    text = json.dumps({"schema": VERSION} | plain_values(dataclasses.asdict(record)), indent=1)
    record_type().validate_json(text, strict=True)
    write_text(folder / RECORD, f"{text}\n")


def read_record(folder: Path) -> Record:
    """The record of one run.

    Raises:
        FileNotFoundError: there is none. OtherVersion: its `schema` is another number. DamagedRecord: it is not whole,
            or no record.
    """
    path = folder / RECORD
    try:
        return record_type().validate_json(path.read_bytes(), strict=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(*error.args) from None
    except OSError as error:
        raise DamagedRecord(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        errors = error.errors()
        cure = "the same command trains it again"
        schema = next((one["input"] for one in errors if one["loc"] == ("schema",)), None)
        if isinstance(schema, int):
            raise OtherVersion(f"{path} has schema {schema}, and this version reads {VERSION}; {cure}") from error
        first = errors[0]
        place = ".".join(map(str, first["loc"])) or "record"
        raise DamagedRecord(f"{path} is not whole, or no record: {place}: {first['msg']}; {cure}") from error


@lru_cache(maxsize=1)
def record_type() -> TypeAdapter[Record]:
    """What reads, checks and writes a record by its types."""
    return TypeAdapter(Record)


def status_of(folder: Path) -> str | None:
    """The status of a run's folder: one of `STATUSES`, `damaged`, or None where nothing is recorded."""
    try:
        return read_record(folder).status
    except FileNotFoundError:
        return None
    except DamagedRecord:
        return "damaged"


def scan(runs_dir: Path) -> tuple[dict[Path, Record], list[str]]:
    """Every record under `runs_dir` by its folder, sorted by name, and what is wrong with the damaged ones."""
    records, damages = {}, []
    for folder in sorted(Path(runs_dir).glob("[!.]*")):
        try:
            record = read_record(folder)
        except FileNotFoundError:  # it is no run, or was removed while others are read
            continue
        except DamagedRecord as error:
            damages.append(str(error))
            continue
        if record.run_id == folder.name:
            records[folder] = record
        else:
            cure = "move it out of the store, or give it back its name"
            damages.append(f"{folder} is a copy of {record.run_id}; {cure}")
    return records, damages
