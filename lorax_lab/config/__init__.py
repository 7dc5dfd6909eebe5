"""The typed configuration of one run: its fields, their checks, and the identity of the run.

A composed configuration (YAML values and command line) becomes a `RunConfig` through `from_dict`;
nothing below the entry ever sees a DictConfig. Defaults live in `conf/`, not here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lorax_lab.config.overrides import code_in
from lorax_lab.errors import ConfigError, suggest

SCHEMA = 1
"""Version of the record's layout; part of every run's identity."""

METHODS = ("full", "lora")
TRACKING_MODES = ("auto", "offline", "online", "disabled")
SCHEDULES = ("linear", "constant")
PRECISIONS = ("fp32", "bf16", "fp16")
DEVICES = ("auto", "cpu", "cuda", "mps")
MEASURES = ("trial", "standard", "controls")


def _require(ok: bool, key: str, value: object, allowed: str) -> None:
    if not ok:
        raise ConfigError(f"{key}={value} is not possible: {allowed}")


def _choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    _require(value in allowed, key, value, suggest(str(value), allowed))


def _positive(key: str, value: float | None, optional: bool = False) -> None:
    ok = (optional and value is None) or (value is not None and math.isfinite(value) and value > 0)
    example = f"for instance {key}={'1e-4' if key.endswith('rate') else 16}"
    _require(ok, key, value, f"it is a number above 0; {example}")


@dataclass
class TaskConfig:
    """Which examples, and how many of each split. See `conf/task/`. A kind of task adds the settings that are its own:
    the columns of its inputs, how long they may be (`lorax_lab/tasks/`)."""

    inputs: ClassVar[Mapping[str, str]] = {}
    """Name of each input of an example, and its form (`text`). Each is a key that names a column, too; the first one is
    needed, the others may be null."""
    labels: ClassVar[str] = "classes"
    """The form of the labels: `classes`, `numbers` or `texts`."""

    name: str
    source: str
    path: str | None
    subset: str | None
    label: str | None
    group: str | None
    kind: str
    metric: str | None
    train_examples: int | None
    validation_examples: int | None
    test_examples: int | None
    split_seed: int

    def __post_init__(self) -> None:
        for split in ("train_examples", "validation_examples", "test_examples"):
            _positive(f"task.{split}", getattr(self, split), optional=True)


@dataclass
class MethodConfig:
    """What may change. `alpha`, `dropout` and `rslora` belong to LoRA and are None for `full`."""

    name: str
    target_modules: Any
    alpha: float | None
    dropout: float | None
    rslora: bool | None

    def __post_init__(self) -> None:
        _choice("method", self.name, METHODS)
        targets = [self.target_modules] if isinstance(self.target_modules, str) else self.target_modules
        ok = isinstance(targets, list) and bool(targets) and all(isinstance(t, str) for t in targets)
        example = "all-linear, or names such as method.target_modules=[query,value]"
        _require(ok, "method.target_modules", self.target_modules, example)
        self.target_modules = sorted(set(targets))
        if self.name == "full":
            for key in ("alpha", "dropout", "rslora"):
                value = getattr(self, key)
                _require(value is None, f"method.{key}", value, f"method=full has no {key}; leave method.{key} out")
            return
        _positive("method.alpha", self.alpha)
        ok = self.dropout is not None and 0 <= self.dropout < 1
        _require(ok, "method.dropout", self.dropout, "0 ≤ dropout < 1, for instance method.dropout=0.1")
        _require(self.rslora is not None, "method.rslora", self.rslora, "true or false")


@dataclass
class TrainConfig:
    """The budget and the optimizer. `max_steps` cuts the epochs short when it is set."""

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
    device: str
    head: bool

    def __post_init__(self) -> None:
        for key in ("learning_rate", "batch_size", "epochs", "gradient_accumulation", "clip_norm"):
            _positive(f"train.{key}", getattr(self, key))
        _positive("train.max_steps", self.max_steps, optional=True)
        _require(0 <= self.warmup < 1, "train.warmup", self.warmup, "a share of the steps, 0 ≤ warmup < 1")
        _require(self.weight_decay >= 0, "train.weight_decay", self.weight_decay, "0 or more")
        _require(self.validations >= 0, "train.validations", self.validations, "0 or more")
        _choice("train.schedule", self.schedule, SCHEDULES)
        _choice("train.precision", self.precision, PRECISIONS)
        _choice("train.device", self.device, DEVICES)


@dataclass
class TrackingConfig:
    """Weights & Biases: `auto` is online when logged in and offline otherwise."""

    mode: str
    project: str
    entity: str | None

    def __post_init__(self) -> None:
        _choice("tracking", self.mode, TRACKING_MODES)


@dataclass
class RunConfig:
    """Everything that one run is. The dials are `model, task, method, rank, seed`."""

    model: str
    task: TaskConfig
    method: MethodConfig
    rank: int | None
    seed: int
    measure: str
    train: TrainConfig
    reference: bool
    force: bool
    runs_dir: str
    checkpoint_seconds: float | None
    isolate: bool
    time_limit_seconds: float | None
    tracking: TrackingConfig

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**32, "seed", self.seed, "an integer from 0 to 4294967295")
        _choice("measure", self.measure, MEASURES)
        interval = self.checkpoint_seconds
        ok = interval is None or (math.isfinite(interval) and interval >= 0)
        _require(ok, "checkpoint_seconds", interval, "0 for every step, a number of seconds, or null for none")
        _positive("time_limit_seconds", self.time_limit_seconds, optional=True)
        if self.time_limit_seconds is not None and not self.isolate:
            raise ConfigError("time_limit_seconds needs a process for each run, to end it; type isolate=true as well")
        if self.method.name == "full":
            what = "full fine-tuning has no rank; leave rank out, or type method=lora"
            _require(self.rank is None, "method=full rank", self.rank, what)
        else:
            what = "only a full fine-tune's update is cut; type measure=standard, or method=full"
            _require(self.measure != "controls", "method=lora measure", self.measure, what)
            ok = self.rank is not None and self.rank >= 1
            _require(ok, "rank", self.rank, "a whole number from 1 to the smaller side of the matrices; rank=8")


NOT_SCIENCE = {
    "": (
        "model",
        "reference",
        "force",
        "runs_dir",
        "tracking",
        "checkpoint_seconds",
        "isolate",
        "time_limit_seconds",
    ),
    "task": ("name", "path"),
    "train": ("device",),
}
"""Keys that do not make another run: places, windows and switches. `model`, `task.name` and `task.path` are
left out because the hashes of the model's files and of the data stand for them."""


def science(config: RunConfig, model_sha256: str, data_sha256: str) -> dict[str, Any]:
    """The part of a configuration that decides a run's result, with the hashes of its inputs."""
    content = dataclasses.asdict(config)
    if config.measure == "standard":
        content.pop("measure")  # the runs that were there before these keys keep their names
    if config.train.head:
        content["train"].pop("head")
    for section, keys in NOT_SCIENCE.items():
        for key in keys:
            (content[section] if section else content).pop(key)
    return content | {"schema": SCHEMA, "model_sha256": model_sha256, "data_sha256": data_sha256}


def run_id(config: RunConfig, model_sha256: str, data_sha256: str) -> str:
    """Readable prefix and the first 10 hex digits of the SHA-256 of the science part, for example
    `minilm-movie_reviews-lora-r8-s0-1f0c9a77be`. Equal settings spelled differently give one id."""
    content = json.dumps(science(config, model_sha256, data_sha256), sort_keys=True, allow_nan=False)
    digest = hashlib.sha256(content.encode()).hexdigest()[:10]
    words = [Path(config.model).name, Path(config.task.name).name, config.method.name]
    words += [f"r{config.rank}"] if config.rank is not None else []
    prefix = "-".join([*words, f"s{config.seed}"])
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in prefix) + f"-{digest}"


def known_keys(kind: type = RunConfig, prefix: str = "") -> list[str]:
    """Every dotted key that the command line accepts.

    >>> known_keys(TrackingConfig, "tracking.")
    ['tracking.mode', 'tracking.project', 'tracking.entity']
    """
    nested = {"task": TaskConfig, "method": MethodConfig, "train": TrainConfig, "tracking": TrackingConfig}
    keys = []
    for item in dataclasses.fields(kind):
        keys.append(prefix + item.name)
        if kind is RunConfig and item.name in nested:
            keys += known_keys(nested[item.name], f"{item.name}.")
    return keys


def from_dict(content: Any, **sections: type) -> RunConfig:
    """A composed configuration (DictConfig or plain dict) as a checked `RunConfig`.

    Args:
        sections: the class of a section that has settings of its own, such as `task`: a subclass of the declared one.

    Raises:
        ConfigError: an unknown key, a missing key, a wrong type or a value out of range.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    raw = OmegaConf.to_container(content) if OmegaConf.is_config(content) else content
    if special := code_in(json.dumps(raw, default=str)):
        raise ConfigError(f"the configuration has {special} in it; settings are plain values, and call nothing")
    try:
        schema = OmegaConf.structured(RunConfig)
        for name, section in sections.items():
            schema[name] = OmegaConf.structured(section)
        merged = OmegaConf.merge(schema, content)
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise ConfigError(_explain(error)) from None
    assert isinstance(config, RunConfig)
    return config


def _explain(error: Any) -> str:
    key = error.full_key or "configuration"
    value = getattr(error, "msg", None) or str(error)
    if key == "rank":
        return f"rank: {value.splitlines()[0]}; it is a whole number, for instance rank=8"
    return f"{key}: {value.splitlines()[0]}"
