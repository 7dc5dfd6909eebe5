"""The types of a published line's parts: a line that has others is damaged, and is named before anything is made of it.

Keys that are not listed here are not checked. Older lines lack some that are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lorax_lab.errors import cut
from lorax_lab.record.record import DamagedRecord, Status
from lorax_lab.record.result import Git, Inputs, Parameters

OF_COMPLETED = ("inputs", "parameters", "metric", "metrics", "memory", "time")
"""What a completed run's line has besides."""
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Number = float | None
"""None where a measure has no value."""
Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
Cut = tuple[str, Count, str | None, Number]
"""Part, k, type of matrix, score."""
OWN_RULE, LACKING = "value_error", "missing"
"""Kinds of pydantic's errors of which the input says nothing more."""
BRANCHES = ("constrained-int", "literal['whole']")
"""Of types that allow two things, in the place of an error."""
NONE: Any = None
"""Of a key that a line need not have; where it is there, it has the type that is given."""


class Part(BaseModel):
    """A part of a line, whose types are strict and whose other keys are free."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Task(Part):
    """The task of a configuration."""

    name: str
    kind: str = NONE
    source: str | None = NONE
    metric: str | None = NONE
    memorise: bool = NONE
    train_examples: Positive | None = NONE
    validation_examples: Count | None = NONE
    test_examples: Count | None = NONE


class Method(Part):
    """The method of a configuration."""

    name: str
    alpha: Number = NONE
    dropout: Number = NONE
    rslora: bool | None = NONE
    target_modules: list[str] = NONE
    ranks: list[str] = NONE


class Train(Part):
    """The budget and the optimizer of a configuration."""

    learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Positive = NONE
    epochs: Count = NONE
    max_steps: Positive | None = NONE
    precision: str = NONE


class Config(Part):
    """The configuration of a run."""

    model: str
    rank: Positive | None
    seed: Count
    measure: str
    task: Task
    method: Method
    train: Train


class Hardware(Part):
    """Where a run was made."""

    threads: Positive
    processors: Positive | None = NONE
    device: str = NONE


class Memory(Part):
    """The bytes of a training step."""

    peak_bytes: Count
    by_category: dict[str, int]
    phase: str = NONE
    batch_shape: list[int] = NONE


class Seconds(Part):
    """The time that the parts of a run took."""

    train_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    total_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    steps: Count
    examples: Count = NONE
    tokens: Count = NONE


class Null(Part):
    """The measures of noise of an update's shape."""

    effective_rank: float
    stable_rank: float
    participation_ratio: float
    energy_rank_90: float
    energy_rank_95: float
    energy_rank_99: float
    energy_entropy_rank: float = NONE
    energy_rank_50: float = NONE
    numerical_rank: float = NONE


class Matrix(Part):
    """The measures of one update."""

    module: str
    layer: int | None
    shape: Annotated[list[Positive], Field(min_length=2, max_length=2)]
    null: Null
    nulls: dict[str, dict[str, Number]] | None = NONE
    frobenius_norm: float
    spectral_norm: float
    relative_norm: Number = NONE
    base_norm: Number = NONE
    effective_rank: Number
    stable_rank: Number
    participation_ratio: Number
    energy_entropy_rank: Number = NONE
    energy_rank_50: Number = NONE
    energy_rank_90: Number
    energy_rank_95: Number
    energy_rank_99: Number
    numerical_rank: Number = NONE
    above_rounding: Number = NONE
    rounding_edge: Number = NONE
    rounding_share: Number = NONE
    spikes: Number = NONE
    bulk_misfit: Number = NONE
    spike_energy: Number = NONE
    signal_share: Number = NONE
    gavish_donoho_rank: Number = NONE
    noise_edge: Number = NONE
    noise_std: Number = NONE
    undefined: str = NONE
    untrusted: str = NONE


class Line(Part):
    """A run, as `lorax_lab.study.published.line_of` writes it."""

    run_id: Annotated[str, Field(min_length=1)]
    status: Status
    method: str
    rank: Positive | None
    seed: Count
    code: str | None
    git: Git
    versions: dict[str, str | None]
    hardware: Hardware
    written: Time
    config: Config
    reason: str | None = NONE
    declaration: str = NONE
    chosen_from: str = NONE
    inputs: Inputs = NONE
    parameters: Parameters = NONE
    metric: str = NONE
    metrics: dict[str, Number] = NONE
    baselines: dict[str, Number] = NONE
    memory: Memory = NONE
    time: Seconds = NONE
    higher_is_better: bool = NONE
    collapsed: list[str] = NONE
    matrices: dict[str, Matrix] = NONE
    gaussian: dict[str, Matrix] | None = NONE
    functional: list[Cut] = NONE
    sigma: dict[str, list[float]] = NONE
    correct: str = NONE
    log_losses: str = NONE
    pseudo_values: str = NONE
    functional_correct: dict[str, str] = NONE
    functional_pseudo_values: dict[str, str] = NONE


def check_line(text: str, line: Mapping[str, Any]) -> None:
    """Refuse a line whose parts are not there, or of other types.

    Args:
        text: the line as JSON.

    Raises:
        DamagedRecord: with the first such part.
    """
    if fault := fault_of(Line, text):
        raise DamagedRecord(fault)
    if line["status"] == "completed" and (lacking := [key for key in OF_COMPLETED if key not in line]):
        raise DamagedRecord(f"it is completed and lacks {', '.join(lacking)}")


def fault_of(model: type[Part], text: str) -> str:
    """The first part that is not as the model has it, in words; nothing where all are."""
    try:
        model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(key) for key in first["loc"] if key not in BRANCHES)
        says = str(first["ctx"]["error"]) if first["type"] == OWN_RULE else first["msg"]
        given = "" if first["type"] in (OWN_RULE, LACKING) else f", and not {cut(repr(first['input']), 60)}"
        return f"{place}: {says}{given}" if place else f"{says}{given}"
    return ""
