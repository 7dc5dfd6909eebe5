"""What a completed run found, as its record has it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STRICT = {"extra": "forbid"}
"""What pydantic reads off each class of a record: a key that is not a field is an error."""
Row = dict[str, Any]
"""The measures of one matrix by name; those of noise under `null`."""
UNDEFINED = "undefined"
"""The key of a row that says why some of its measures have no value; a row has it only if some have none."""


@dataclass(frozen=True)
class Git:
    """The checkout that the package ran from; None where it was in none."""

    __pydantic_config__ = STRICT
    commit: str | None
    dirty: bool | None


@dataclass(frozen=True)
class Inputs:
    """What identifies a run's inputs. `examples` counts those of each split, `left_out` the rows in none by the
    reason; it is empty in records that are older than the field."""

    __pydantic_config__ = STRICT
    model_sha256: str
    data_sha256: str
    examples: dict[str, int]
    classes: list[str]
    head_sha256: str | None = None
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters: `trainable` = `adapter` (what the method trains of the body) + `head`."""

    __pydantic_config__ = STRICT
    trainable: int
    adapter: int
    head: int
    total: int


@dataclass(frozen=True)
class Part:
    """Parameters of the base whose update is not measured: the type of module, why, how many, and how many train."""

    __pydantic_config__ = STRICT
    module: str
    reason: str
    parameters: int
    trained: int


@dataclass(frozen=True)
class Coverage:
    """What of the base a run trains, adapts and measures, and what it does not, in numbers of parameters.

    Attributes:
        base: of the bare model: `adapted` + Σ `parameters` of the parts.
        trained: all that train: `measured` + Σ `trained` of the parts.
        adapted: of the matrices whose update is measured.
        measured: those that train and make a measured update: the matrices themselves, or what the method adds.
        parts: everything else, by type of module and reason.
    """

    __pydantic_config__ = STRICT
    base: int
    trained: int
    adapted: int
    measured: int
    parts: list[Part]


@dataclass(frozen=True)
class Memory:
    """Bytes that one training step holds at its peak, by category, and the peaks of process and device."""

    __pydantic_config__ = STRICT
    peak_bytes: int
    by_category: dict[str, int]
    phase: str
    batch_shape: list[int]
    process_peak_bytes: int
    process_peak_covers: str
    device_peak_bytes: int | None


@dataclass(frozen=True)
class Time:
    """Seconds of the parts of a run, and the steps, examples and tokens that were trained on."""

    __pydantic_config__ = STRICT
    train_seconds: float
    steps: int
    examples: int
    tokens: int
    truncation_seconds: float
    total_seconds: float


@dataclass(frozen=True)
class File:
    """Size and SHA-256 of one of the run's files."""

    __pydantic_config__ = STRICT
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Comparison:
    """What the comparison with the reference was made from.

    Attributes:
        weights_sha256: of the reference's weights; None where the reference's record does not say.
        code, written: the version of the code and the time (UTC) of a comparison that was made after the run; None
            where it was made with the run.
    """

    __pydantic_config__ = STRICT
    weights_sha256: str | None
    code: str | None = None
    written: str | None = None


@dataclass(frozen=True)
class Result:
    """What a completed run found.

    Attributes:
        reference: run id of the full fine-tune that the run is compared with.
        metric: name of the primary metric.
        metrics: by `<split>/<name>`; None where a value is not finite.
        summary: means of the measures over all matrices; under `by_module` over each type of matrix.
        matrices: one row per matrix; empty for a trial.
        truncation: one row per truncation of the update: `part`, `k`, `module` and the metrics.
        gaussian: rows of the Gaussian matrices that stood in for the update.
        files: of the run's folder, by name.
        baselines: scores on the test split before training, by `<name>/<metric>`, such as `untrained/nats`; empty for
            a trial, and for a kind of task that has none.
        higher_is_better: of the primary metric; true in records that are older than the field.
        coverage: None in records that are older than the field.
        comparison: None where there is no reference, and in records that are older than the field.
        collapsed: why the run counts as collapsed, in words (`lorax_lab/tasks/collapse.py`); empty where it does not,
            and in records that are older than the field.
    """

    __pydantic_config__ = STRICT
    inputs: Inputs
    reference: str | None
    parameters: Parameters
    memory: Memory
    time: Time
    metric: str
    metrics: Mapping[str, float | None]
    summary: dict[str, Any]
    matrices: dict[str, Row]
    truncation: list[dict[str, Any]] | None = None
    gaussian: dict[str, Row] | None = None
    files: dict[str, File] = field(default_factory=dict)
    baselines: Mapping[str, float | None] = field(default_factory=dict)
    higher_is_better: bool = True
    coverage: Coverage | None = None
    comparison: Comparison | None = None
    collapsed: list[str] = field(default_factory=list)

    def score(self, split: str) -> float:
        """The primary metric on a split; NaN where it is not finite or was not taken."""
        value = self.metrics.get(f"{split}/{self.metric}")
        return math.nan if value is None else value


def without_matrices(text: str) -> str:
    """The text of a record as it is written, with no measures of matrices in its result; of one that has none, itself.

    A place is found by its indent: no text in a record has line breaks, since JSON writes those as letters.
    """
    result = text.find('\n "result": {\n')
    start = text.find('\n  "matrices": {\n', result, text.find("\n }", result)) if result >= 0 else -1
    end = text.find("\n  }", start)
    return text if start < 0 else f'{text[:start]}\n  "matrices": {{{text[end + 3 :]}'
