"""The typed configuration of one run: its fields and their checks; `identity.py` has the name that follows from it.

A composed configuration (YAML values and command line) becomes a `RunConfig` in `lorax_lab/launch/compose.py`; nothing
below the entry ever sees a DictConfig. Defaults live in `conf/`, not here; those of a method stand in its own file too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, ClassVar

from lorax_lab.config.checks import require, require_choice, require_name, require_path, require_positive
from lorax_lab.config.identity import NO_RESULT
from lorax_lab.errors import ConfigError

TRACKING_MODES = ("auto", "offline", "online", "trackio", "disabled")
SCHEDULES = ("linear", "constant")
PRECISIONS = ("fp32", "bf16", "fp16")
"""What a training step multiplies in; bf16 and fp16 are autocast over fp32 weights; in bf16,
LoRA's frozen matrices are kept in it."""
BF16_WEIGHTS = "bf16-true"
"""The precision of a step whose weights themselves are bf16: it is predicted by `lorax_lab.memory`, never trained."""
AUTO = "auto"
DEVICES = (AUTO, "cpu", "cuda", "mps")
OWN, MEAN = "own", "mean"
"""What a head reads: what the model's own class gives it, or the mean over the tokens of the last layer."""
DROPOUTS = ("torch", "bytes")
"""How masks of dropout are drawn: other masks, with the same share hidden to 1/256."""
KERNELS = ("torch", "onednn")
"""What linear layers multiply with; they differ in rounding alone."""
MEASURES = ("trial", "standard", "controls")


@dataclass
class TaskConfig:
    """Which examples, and how many of each split. See `conf/task/`. A kind of task adds the settings that are its own:
    the columns of its inputs, how long they may be (`lorax_lab/tasks/`)."""

    inputs: ClassVar[Mapping[str, str]] = {}
    """Name of each input of an example, and its form (`text`). Each is a key that names a column, too; the first one is
    needed, the others may be null."""
    labels_suffice: ClassVar[bool] = False
    """Whether an example may have a label alone, so that no input is needed."""
    labels: ClassVar[str] = "classes"
    """The form of the labels: `classes`, `numbers` or `texts`."""

    name: str = field(metadata=NO_RESULT)
    source: str
    path: str | None = field(metadata=NO_RESULT)
    subset: str | None
    label: str | None
    group: str | None
    kind: str
    metric: str | None
    train_examples: int | None
    validation_examples: int | None
    test_examples: int | None
    split_seed: int
    drop_unlabeled: bool = field(default=False, metadata={"neutral": False})
    memorise: bool = field(default=False, metadata={"neutral": False})

    def __post_init__(self) -> None:
        require(bool(self.name.strip()), "task.name", self.name, "it names the task; for instance task.name=mine")
        require_path("task.path", self.path, "my.csv")
        require(self.split_seed >= 0, "task.split_seed", self.split_seed, "0 or more; for instance task.split_seed=0")
        for split in ("train_examples", "validation_examples", "test_examples"):
            require_positive(f"task.{split}", getattr(self, split), optional=True)
        if self.memorise:
            self._check_memorise()

    def _check_memorise(self) -> None:
        """Training examples that are scored need classes, and leave the other splits without a meaning."""
        if self.labels != "classes":
            of_kind = f"task.memorise=true is not possible with task.kind={self.kind}, whose labels are {self.labels}"
            raise ConfigError(f"{of_kind}: it scores the classes of training examples; leave task.memorise out")
        sizes = {f"task.{split}_examples": getattr(self, f"{split}_examples") for split in ("validation", "test")}
        if unread := [f"{key}={size}" for key, size in sizes.items() if size is not None]:
            why = f"task.memorise=true scores the training examples, so that {' and '.join(unread)} would not be read"
            raise ConfigError(f"{why}; type task.validation_examples=null task.test_examples=null as well")


@dataclass
class MethodConfig:
    """What the settings of every method have; a method adds its own in its file in `lorax_lab/methods/`.

    Attributes:
        target_modules: ends of the names of the matrices whose update is measured, or `all-linear`.
        HASHED_AS_NULL: settings that the method once recorded as null; they stay in run identity.
        PACKAGES: packages that decide the method's numbers, beside those of every run; the record has their versions.
    """

    HASHED_AS_NULL: ClassVar[tuple[str, ...]] = ()
    PACKAGES: ClassVar[tuple[str, ...]] = ()

    name: str
    target_modules: Any = "all-linear"

    def __post_init__(self) -> None:
        targets = [self.target_modules] if isinstance(self.target_modules, str) else self.target_modules
        ok = isinstance(targets, list) and bool(targets) and all(isinstance(t, str) for t in targets)
        example = "all-linear, or names such as method.target_modules=[query,value]"
        require(ok, "method.target_modules", self.target_modules, example)
        self.target_modules = sorted(set(targets))


@dataclass
class TrainConfig:
    """The budget and the optimizer. `max_steps` cuts the epochs short when it is set. Batches of like lengths are made
    inside windows of `length_window` batches; 1 leaves them to chance."""

    learning_rate: float
    batch_size: int
    epochs: int
    max_steps: int | None
    gradient_accumulation: int
    schedule: str
    warmup: float
    weight_decay: float
    clip_norm: float
    validations: int
    precision: str
    device: str = field(metadata=NO_RESULT)
    head: bool = field(metadata={"neutral": True})
    length_window: int = field(metadata={"neutral": 50})
    checkpointing: bool = field(metadata=NO_RESULT)
    kernel: str = field(metadata=NO_RESULT)
    dropout: str = field(metadata={"neutral": "torch"})
    optimizer: str = field(default="adamw", metadata={"neutral": "adamw"})

    def __post_init__(self) -> None:
        for key in ("learning_rate", "batch_size", "epochs", "gradient_accumulation", "clip_norm", "length_window"):
            require_positive(f"train.{key}", getattr(self, key))
        require_positive("train.max_steps", self.max_steps, optional=True)
        require(0 <= self.warmup < 1, "train.warmup", self.warmup, "a share of the steps, 0 ≤ warmup < 1")
        ok = math.isfinite(self.weight_decay) and self.weight_decay >= 0
        require(ok, "train.weight_decay", self.weight_decay, "0 or more; for instance train.weight_decay=0.01")
        require(self.validations >= 0, "train.validations", self.validations, "0 or more; train.validations=5")
        require_choice("train.schedule", self.schedule, SCHEDULES)
        require_choice("train.precision", self.precision, (*PRECISIONS, AUTO))
        require_choice("train.device", self.device, DEVICES)
        require_choice("train.kernel", self.kernel, (AUTO, *KERNELS))
        require_choice("train.dropout", self.dropout, DROPOUTS)


@dataclass
class TrackingConfig:
    """The windows on runs: of Weights & Biases, where `auto` is online when logged in and offline otherwise, or of
    Trackio.

    Attributes:
        artifacts: whether the trained weights are kept there too.
        study: the study that the run belongs to, as a tag.
    """

    mode: str
    project: str
    entity: str | None
    artifacts: bool = False
    study: str | None = None

    def __post_init__(self) -> None:
        require_choice("tracking", self.mode, TRACKING_MODES)
        if self.mode == "trackio" and find_spec("trackio") is None:
            raise ConfigError("tracking=trackio: trackio is not installed; type pip install lorax_lab[dashboards]")
        for key in ("project", "entity", "study"):
            require_name(f"tracking.{key}", getattr(self, key), optional=key != "project")


@dataclass
class RunConfig:
    """Everything that one run is. The dials are `model, task, method, rank, seed`.

    The hashes of the model's files and of the data stand for `model`, `task.name` and `task.path` in run identity.
    """

    model: str = field(metadata=NO_RESULT)
    task: TaskConfig
    method: MethodConfig
    rank: int | None
    seed: int
    measure: str = field(metadata={"neutral": "standard"})
    train: TrainConfig
    reference: bool = field(metadata=NO_RESULT)
    force: bool = field(metadata=NO_RESULT)
    runs_dir: str = field(metadata=NO_RESULT)
    checkpoint_seconds: float | None = field(metadata=NO_RESULT)
    time_limit_seconds: float | None = field(metadata=NO_RESULT)
    workers: int | str = field(metadata=NO_RESULT)
    tracking: TrackingConfig = field(metadata=NO_RESULT)

    def __post_init__(self) -> None:
        require_path("model", self.model, "minilm")
        require_path("runs_dir", self.runs_dir, "runs")
        require(0 <= self.seed < 2**32, "seed", self.seed, "an integer from 0 to 4294967295; for instance seed=0")
        require_choice("measure", self.measure, MEASURES)
        ok = self.workers == AUTO or (type(self.workers) is int and self.workers >= 1)
        require(ok, "workers", self.workers, "auto, or a whole number from 1; workers=auto")
        interval = self.checkpoint_seconds
        ok = interval is None or (math.isfinite(interval) and interval >= 0)
        require(ok, "checkpoint_seconds", interval, "0 for every step, a number of seconds, or null for none")
        require_positive("time_limit_seconds", self.time_limit_seconds, optional=True)
