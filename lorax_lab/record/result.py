"""What a completed run found, as its record has it: primary data alone. Measures and means are derived on reading
(`record.measures`), so that a measure which is added tomorrow has a column for every run of yesterday."""

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

MODEL = ConfigDict(extra="forbid", cache_strings=False)
"""Of each class of a record: its types are checked when it is made and when it is read, and it has no other keys. A
cache of texts would take a quarter of a mebibyte at the first reading, and end a process that has no room."""
Count = NonNegativeInt
RANGES = {
    "accuracy": (0, 1), "f1": (0, 1), "exact_match": (0, 1), "matthews": (-1, 1), "pearson": (-1, 1),
    "spearman": (-1, 1), "log_loss": (0, math.inf), "nats": (0, math.inf), "word_error_rate": (0, math.inf),
}  # fmt: skip
"""Between which numbers a score lies, by its name; one of another name may be any number."""
ROUNDED = 1e-9
"""By so much may rounding take a score out of its range."""
UNDEFINED = "undefined"
"""The key of a row of measures that says why some have no value; a row has it only if some have none."""


@dataclass(frozen=True, config=MODEL)
class Git:
    """The checkout that the package ran from; None where it was in none."""

    commit: str | None
    dirty: bool | None


@dataclass(frozen=True, config=MODEL)
class Inputs:
    """What identifies a run's inputs; how many `examples` each split has, and rows are `left_out` by the reason."""

    model_sha256: str
    data_sha256: str
    examples: dict[str, Count]
    classes: list[str]
    head_sha256: str | None = None
    left_out: dict[str, Count] = field(default_factory=dict)


@dataclass(frozen=True, config=MODEL)
class Parameters:
    """Numbers of parameters: `trainable` = `adapter` (what the method trains of the body) + `head`."""

    trainable: Count
    adapter: Count
    head: Count
    total: PositiveInt


@dataclass(frozen=True, config=MODEL)
class Part:
    """Parameters of the base whose update is not measured: the type of module, why, how many, and how many train."""

    module: str
    reason: str
    parameters: Count
    trained: Count


@dataclass(frozen=True, config=MODEL)
class Coverage:
    """What of the base a run trains, adapts and measures, and what it does not, in numbers of parameters.

    Attributes:
        base: of the bare model: `adapted` + Σ `parameters` of the parts.
        trained: all that train: `measured` + Σ `trained` of the parts.
        adapted: of the matrices whose update is measured.
        measured: those that train and make a measured update: the matrices themselves, or what the method adds.
        parts: everything else, by type of module and reason.
    """

    base: Count
    trained: Count
    adapted: Count
    measured: Count
    parts: list[Part]


@dataclass(frozen=True, config=MODEL)
class Memory:
    """Bytes that one training step holds at its peak, by category, and the peaks of process and device.

    Of several processes they are the first one's. Of a model in shares `peak_bytes` is the most that any process held
    from the run's begin to the end of its training (`phase` = `run`), which has no categories.
    """

    peak_bytes: PositiveInt
    by_category: dict[str, Count]
    phase: str
    batch_shape: list[PositiveInt]
    process_peak_bytes: PositiveInt
    process_peak_covers: str
    device_peak_bytes: Count | None


@dataclass(frozen=True, config=MODEL)
class Time:
    """Seconds of the parts of a run, and the steps, examples and tokens that were trained on."""

    train_seconds: NonNegativeFloat
    steps: Count
    examples: Count
    tokens: Count
    truncation_seconds: NonNegativeFloat
    total_seconds: NonNegativeFloat


@dataclass(frozen=True, config=MODEL)
class Scoring:
    """The `precision` that a run which trained in bf16 or fp16 was scored in. `flips` counts the answers on validation
    that differ between its own precision and fp32, of so many `examples`; None where that was not counted, since
    answers are numbers, or fp32 had no room on the device."""

    precision: str
    flips: Count | None = None
    examples: Count | None = None


@dataclass(frozen=True, config=MODEL)
class Probe:
    """A leak probe (`lorax_lab.tasks.probes`): its score on the test split by the primary metric, the score that it
    reaches surely, by the 95 % interval over test examples, and the token that it looks for."""

    name: str
    score: float
    sure: float
    token: str | None = None


@dataclass(frozen=True, config=MODEL)
class File:
    """Size and SHA-256 of one of the run's files."""

    bytes: Count
    sha256: str


@dataclass(frozen=True, config=MODEL)
class Captured:
    """Shares of the energy of the full fine-tune's update, from 0 to 1: what lies in a low-rank update's column and row
    spaces, and the `best` that any space of its rank could hold. None where one of the two updates is zero."""

    column_share: float | None
    row_share: float | None
    best: float | None


@dataclass(frozen=True, config=MODEL)
class Rounding:
    """How the weights of an update were stored, as `spectra.Rounding` has it."""

    eps: float
    edge: float
    energy: float


@dataclass(frozen=True, config=MODEL)
class Matrix:
    """What of a measured matrix needs the weights; its singular values and directions are in `spectra.npz`.

    Attributes:
        module, layer: the type of matrix (`short_name`), and its layer where it is in one.
        shape: (out, in).
        base_norm: ‖W0‖_F.
        rank: of the product that a low-rank update is kept as; None for a dense update.
        rounding: how the weights of a dense update were stored.
        captured: of a low-rank update that was compared with a full fine-tune.
        stand_in: as `rounding`, of the Gaussian matrix that stood in for the update.
    """

    module: str
    layer: Count | None
    shape: tuple[PositiveInt, PositiveInt]
    base_norm: NonNegativeFloat
    rank: Count | None = None
    rounding: Rounding | None = None
    captured: Captured | None = None
    stand_in: Rounding | None = None


@dataclass(frozen=True, config=MODEL)
class Comparison:
    """What the comparison with the reference was made from: its weights, and the version of the code and the time (UTC)
    where it was made after the run."""

    weights_sha256: str | None
    code: str | None = None
    written: str | None = None


@dataclass(frozen=True, config=MODEL)
class Result:
    """What a completed run found.

    Attributes:
        reference: run id of the full fine-tune that the run is compared with.
        metric: name of the primary metric.
        metrics: by `<split>/<name>`; None where a value is not finite.
        matrices: by name; empty for a trial.
        truncation: one row per truncation of the update: `part`, `k`, `module` and the metrics.
        files: of the run's folder, by name.
        baselines: scores on the test split before training, by `<name>/<metric>`, such as `untrained/nats`; empty for
            a trial, and for a kind of task that has none.
        higher_is_better: of the primary metric.
        comparison: None where there is no reference.
        collapsed: why the run counts as collapsed, in words (`lorax_lab/tasks/collapse.py`); empty where it does not.
        scoring: None of a run in fp32, and in records of before 2026-11-30.
        probes: of leaks, the constant answer first; empty for a trial, a memorised task, and a kind that has none.
        notes: what was said of the data before training, such as which near duplicates stay together.
    """

    inputs: Inputs
    reference: str | None
    parameters: Parameters
    memory: Memory
    time: Time
    metric: str
    metrics: Mapping[str, float | None]
    matrices: dict[str, Matrix]
    truncation: list[dict[str, Any]] | None = None
    files: dict[str, File] = field(default_factory=dict)
    baselines: Mapping[str, float | None] = field(default_factory=dict)
    higher_is_better: bool = True
    coverage: Coverage | None = None
    comparison: Comparison | None = None
    collapsed: list[str] = field(default_factory=list)
    scoring: Scoring | None = None
    probes: list[Probe] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        probes = {f"probe {probe.name}/{self.metric}": probe.score for probe in self.probes}
        for row in (self.metrics, self.baselines, probes, *(self.truncation or [])):
            for key, score in row.items():
                low, high = RANGES.get(key.rpartition("/")[2], (-math.inf, math.inf))
                if isinstance(score, int | float) and (score < low - ROUNDED or score > high + ROUNDED):  # not NaN
                    raise ValueError(f"{key} is {score:g}, and it lies between {low:g} and {high:g}")

    def score(self, split: str) -> float:
        """The primary metric on a split; NaN where it is not finite or was not taken."""
        value = self.metrics.get(f"{split}/{self.metric}")
        return math.nan if value is None else value
