"""The typed configuration of one run: its fields and their checks. `launch/compose.py` makes it, and nothing below that
sees a DictConfig; defaults live in `conf/`, and those of a method in its own file too."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from typing import Any, ClassVar

from pydantic import ConfigDict

from lorax_lab.config.checks import FROM_ZERO, POSITIVE, check_fields, one_of, require, require_name, require_path
from lorax_lab.config.identity import NO_RESULT
from lorax_lab.config.measured import CURVE, MEASURED, current
from lorax_lab.errors import ConfigError

PRECISIONS = ("fp32", "bf16", "fp16")
"""What a training step multiplies in; bf16 and fp16 are autocast over fp32 weights; in bf16,
LoRA's frozen matrices are kept in it."""
BF16_WEIGHTS = "bf16-true"
"""The precision of a step whose weights themselves are bf16: it is predicted by `lorax_lab.memory`, never trained."""
AUTO = "auto"
OWN, MEAN = "own", "mean"
"""What a head reads: what the model's own class gives it, or the mean over the tokens of the last layer."""
LAST, BEST = "last", "best"
"""Which of the trained weights are kept: those after the last step, or those that the best validation had."""
DATA, SHARD = "data", "shard"
"""What each of several processes has: a whole model, or its share of one. They differ in rounding alone."""
KERNELS = ("torch", "onednn")
"""What linear layers multiply with; they differ in rounding alone."""

READING = ConfigDict(extra="forbid", coerce_numbers_to_str=True)
"""How plain values become settings: an unknown key is an error, and a column may be called 1."""


@dataclass
class TaskConfig:
    """Which examples, and how many of each split. See `conf/task/`. A kind of task adds the settings that are its own:
    the columns of its inputs, how long they may be (`lorax_lab/tasks/`)."""

    __pydantic_config__ = READING
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
    train_examples: int | None = field(metadata=POSITIVE)
    validation_examples: int | None = field(metadata=POSITIVE)
    test_examples: int | None = field(metadata=POSITIVE)
    split_seed: int = field(metadata=FROM_ZERO)
    drop_unlabeled: bool = field(default=False, metadata={"neutral": False})
    classes: list[str] | None = field(default=None, metadata={"neutral": None})
    memorise: bool = field(default=False, metadata={"neutral": False})
    group_near_duplicates: bool = field(default=False, metadata={"neutral": False})
    least_steps: int | None = field(default=None, metadata=NO_RESULT | POSITIVE | {"neutral": None})

    def __post_init__(self) -> None:
        require(bool(self.name.strip()), "task.name", self.name, "it names the task; for instance task.name=mine")
        require_path("task.path", self.path, "my.csv")
        check_fields(self, "task.")
        if self.classes is not None and len(set(self.classes)) < max(2, len(self.classes)):
            named = ",".join(self.classes)
            raise ConfigError(f"task.classes=[{named}] must name two or more, each once, such as task.classes=[-1,0,1]")
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


LEFT_OUT = {f"task.{f.name}": f.metadata["neutral"] for f in fields(TaskConfig) if "neutral" in f.metadata}
LEFT_OUT_OF_METHODS = {"subspace": {"method.scale": "norm"}}
"""What a recorded configuration stands for that lacks these settings, whatever their defaults are; the second by the
method's name."""


@dataclass
class MethodConfig:
    """What the settings of every method have; a method adds its own in its file in `lorax_lab/methods/`.

    Attributes:
        target_modules: ends of the names of the matrices whose update is measured, or `all-linear`.
        HASHED_AS_NULL: settings that the method once recorded as null; they stay in run identity.
    """

    __pydantic_config__ = READING
    HASHED_AS_NULL: ClassVar[tuple[str, ...]] = ()

    name: str
    target_modules: Any = "all-linear"

    @property
    def packages(self) -> tuple[str, ...]:
        """Those that decide the method's numbers, beside those of every run; the record has their versions."""
        return ()

    def __post_init__(self) -> None:
        check_fields(self, "method.")
        targets = [self.target_modules] if isinstance(self.target_modules, str) else self.target_modules
        ok = isinstance(targets, list) and bool(targets) and all(isinstance(t, str) for t in targets)
        example = "all-linear, or names such as method.target_modules=[query,value]"
        require(ok, "method.target_modules", self.target_modules, example)
        self.target_modules = sorted(set(targets))


@dataclass
class TrainConfig:
    """The budget and the optimizer. See `conf/train/`."""

    __pydantic_config__ = READING
    learning_rate: float = field(metadata=POSITIVE)
    batch_size: int = field(metadata=POSITIVE)
    epochs: int = field(metadata=POSITIVE)
    max_steps: int | None = field(metadata=POSITIVE)
    gradient_accumulation: int = field(metadata=POSITIVE)
    schedule: str
    warmup: float
    weight_decay: float = field(metadata=FROM_ZERO)
    clip_norm: float = field(metadata=POSITIVE)
    validations: int = field(metadata=FROM_ZERO)
    precision: str = field(metadata=one_of(*PRECISIONS, AUTO))
    device: str = field(metadata=NO_RESULT | one_of(AUTO, "cpu", "cuda", "mps"))
    head: bool = field(metadata={"neutral": True})
    length_window: int = field(metadata=POSITIVE | {"neutral": 50})
    checkpointing: bool = field(metadata=NO_RESULT)
    kernel: str = field(metadata=NO_RESULT | one_of(AUTO, *KERNELS))
    optimizer: str = field(default="adamw", metadata={"neutral": "adamw"})
    patience: int | None = field(default=None, metadata=POSITIVE | {"neutral": None})
    keep: str = field(default=LAST, metadata=one_of(LAST, BEST) | {"neutral": LAST})
    parallel: str = field(default=DATA, metadata=NO_RESULT | one_of(DATA, SHARD) | {"neutral": DATA})

    def __post_init__(self) -> None:
        check_fields(self, "train.")
        require(0 <= self.warmup < 1, "train.warmup", self.warmup, "a share of the steps, 0 ≤ warmup < 1")
        more = f"it is below train.validations, which is {self.validations}; for instance train.validations=20"
        require(self.patience is None or self.patience < self.validations, "train.patience", self.patience, more)
        one = f"train.validations={self.validations} leaves no choice; for instance train.validations=20"
        require(self.keep == LAST or self.validations > 1, "train.keep", self.keep, one)

    @property
    def follows_validation(self) -> bool:
        """Whether the validations decide what is trained, and not only show it."""
        return self.patience is not None or self.keep == BEST


@dataclass
class TrackingConfig:
    """The windows on runs: of Weights & Biases, where `auto` is online when logged in and offline otherwise, or of
    Trackio. See `conf/tracking/`."""

    __pydantic_config__ = READING
    mode: str = field(metadata=one_of("auto", "offline", "online", "trackio", "disabled"))
    project: str
    entity: str | None
    artifacts: bool = False
    study: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, "tracking.")
        if self.mode == "trackio" and find_spec("trackio") is None:
            raise ConfigError("tracking=trackio: trackio is not installed; type pip install lorax_lab[dashboards]")
        for key in ("project", "entity", "study"):
            require_name(f"tracking.{key}", getattr(self, key), optional=key != "project")


@dataclass
class RunConfig:
    """Everything that one run is. The hashes of the model's files and of the data stand for `model`, `task.name` and
    `task.path` in run identity."""

    __pydantic_config__ = READING
    model: str = field(metadata=NO_RESULT)
    task: TaskConfig
    method: MethodConfig
    rank: int | None
    seed: int
    measure: str = field(metadata={"neutral": CURVE} | one_of(*MEASURED))
    train: TrainConfig
    reference: bool = field(metadata=NO_RESULT)
    force: bool = field(metadata=NO_RESULT)
    runs_dir: str = field(metadata=NO_RESULT)
    checkpoint_seconds: float | None = field(metadata=NO_RESULT | FROM_ZERO)
    time_limit_seconds: float | None = field(metadata=NO_RESULT | POSITIVE)
    workers: int | str = field(metadata=NO_RESULT)
    tracking: TrackingConfig = field(metadata=NO_RESULT)

    def __post_init__(self) -> None:
        self.measure = current(self.measure)
        require_path("model", self.model, "minilm")
        require_path("runs_dir", self.runs_dir, "runs")
        require(0 <= self.seed < 2**32, "seed", self.seed, "an integer from 0 to 4294967295; for instance seed=0")
        ok = self.workers == AUTO or (type(self.workers) is int and self.workers >= 1)
        require(ok, "workers", self.workers, "auto, or a whole number from 1; workers=auto")
        check_fields(self, "")
