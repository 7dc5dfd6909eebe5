"""What varies among runs: the one notion that the closing table, the figures and W&B share.

A run is known by its *settings*: the values that decide its result, by dotted key (`train.learning_rate`). One that a
record lacks has its default in `conf/`; a recorded null counts as not set. The *dials* of some runs are the settings in
which they differ. An *arm* is all runs with the same settings but for the seed: only these are averaged.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from lorax_lab.config import LEFT_OUT, LEFT_OUT_OF_METHODS, RunConfig, TaskConfig, TrainConfig
from lorax_lab.config.defaults import defaults, flat, task_preset
from lorax_lab.config.measured import CURVE, CUT, K90, MEASURED, current
from lorax_lab.config.overrides import quoted, values_of
from lorax_lab.errors import ConfigError

Settings = dict[str, Any]
"""A run's settings by dotted key."""
SEED = "seed"
MEASURE = "measure"
MAIN = ("model", "task.name", "method.name", "rank")
"""The dials that come first wherever several are shown."""
INPUTS = ("model", "task.name", "task.path")
"""Settings that name a run's inputs. Where hashes of the inputs are known, they replace the names."""
SECTIONS = {"": RunConfig, "task.": TaskConfig, "train.": TrainConfig}
DECLARED = [(section, field) for section, kind in SECTIONS.items() for field in fields(kind)]
PLACES = tuple(
    f"{section}{field.name}."
    for section, field in DECLARED
    if field.metadata.get("decides_result") is False and f"{section}{field.name}" not in INPUTS
)
"""How keys begin, each with a dot behind it, that decide no result: of places, windows and switches."""
OWNERS = {"task.": "task.name"} | dict.fromkeys(("method.", "rank", "train.learning_rate", MEASURE), "method.name")
"""Settings whose default depends on another setting, their owner: a dial only if two runs with the same owner differ in
it. LoRA has an alpha and full fine-tuning has none: that is no dial."""


def settings(config: Mapping[str, Any], inputs: Mapping[str, str] | None = None) -> Settings:
    """The settings in a run's recorded configuration that decide its result; `inputs`, hashes of the model's files and
    of the data, stand for their names where they are given."""
    recorded = flat(config)
    if MEASURE in recorded:
        recorded[MEASURE] = current(recorded[MEASURE])
        if recorded[MEASURE] == CURVE and recorded.get("method.name") != CUT:
            recorded[MEASURE] = K90  # one run id, as no cuts are made
    task = task_preset(str(recorded.get("task.name")), str(recorded.get("task.source")))
    method = str(recorded.get("method.name"))
    usual = defaults(task, method, recorded.get("task.kind"))
    deciding = _deciding({**usual, **LEFT_OUT, **LEFT_OUT_OF_METHODS.get(method, {}), **recorded})
    if inputs is None:
        return deciding
    return {key: value for key, value in deciding.items() if key not in INPUTS} | dict(inputs)


def dials(runs: Sequence[Settings]) -> tuple[str, ...]:
    """The keys in which the runs differ, without the seed: the main ones first, then by section."""
    keys = dict.fromkeys(key for run in runs for key in run if key != SEED)
    return tuple(sorted((key for key in keys if _varies(key, runs)), key=_place))


def labels(runs: Sequence[Settings], keys: Iterable[str]) -> list[dict[str, str]]:
    """Each run's value of each key, in short; empty where the run's method, or task, has no such setting.

    Paths are cut to their last part unless two would then be alike.
    """
    columns = {key: _column(key, runs) for key in keys}
    return [{key: values[number] for key, values in columns.items()} for number in range(len(runs))]


def arm(run: Settings) -> str:
    """What a run shares with the runs that differ from it only in the seed, and with no others."""
    return json.dumps({key: value for key, value in run.items() if key != SEED}, sort_keys=True)


def training(run: Settings) -> Settings:
    """The settings that decide what is trained; `measure` only says what is measured of it."""
    return {key: value for key, value in run.items() if key != MEASURE}


def extent(config: Mapping[str, Any]) -> int:
    """How much is measured of a run of this configuration: the place of its `measure` among all."""
    return MEASURED.index(current(config[MEASURE]))


def digest(*content: Any) -> str:
    """Six hex digits of the SHA-256 of plain values, for names that depend on these alone."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:6]


def changed(config: Mapping[str, Any]) -> Settings:
    """The settings that differ from the defaults of the run's task, its kind and its method, the main dials and the
    seed apart."""
    run = settings(config)
    usual = _deciding(defaults(_preset(run), str(run.get("method.name")), run.get("task.kind")))
    usual["task.source"] = run.get("task.source")
    keys = sorted(run.keys() | usual.keys(), key=_place)
    return {key: run.get(key) for key in keys if run.get(key) != usual.get(key) and key not in (*MAIN, SEED)}


def overrides(config: Mapping[str, Any]) -> list[str]:
    """The overrides of the command line that make this configuration: the main dials, what differs from its defaults,
    and the seed."""
    run = settings(config)
    preset, name = _preset(run), run.get("task.name")
    main = {"model": run.get("model"), "task": preset, "task.name": name if name != preset else None}
    main |= {"method": run.get("method.name"), "rank": run.get("rank")}
    dials_set = {key: value for key, value in main.items() if value is not None}
    rest = changed(config) | ({SEED: run[SEED]} if SEED in run else {})
    return [f"{key}={_typed(value)}" for key, value in (dials_set | rest).items()]


def _typed(value: Any) -> str:
    """A setting as Hydra reads it back, quoted only where it must be."""
    short = text(value)
    with suppress(ConfigError):
        if values_of(f"key={short}") == [value]:
            return short
    return quoted(value)


def of_method(key: str) -> bool:
    """Whether a setting is the method's own, or goes with it: runs that differ in it may still be compared."""
    return key == "method.name" or _owner(key) == "method.name"


def headings(keys: Iterable[str]) -> dict[str, str]:
    """Short names of settings, each different from the others.

    >>> headings(["task.name", "rank", "train.learning_rate"])
    {'task.name': 'task', 'rank': 'rank', 'train.learning_rate': 'learning rate'}
    """
    short = {key: key.removesuffix(".name").rpartition(".")[2].replace("_", " ") for key in keys}
    return {key: name if list(short.values()).count(name) == 1 else key for key, name in short.items()}


def text(value: Any) -> str:
    """A setting as the command line has it.

    >>> text(0.0005), text(True), text(["query", "value"]), text(None)
    ('0.0005', 'true', '[query,value]', 'null')
    """
    if isinstance(value, list | tuple):
        return f"[{','.join(map(text, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if short == str(value) or float(short) == value else repr(value)


def _deciding(by_key: Mapping[str, Any]) -> Settings:
    """Of settings by dotted key those that are set and decide a result."""
    plain = {key: _plain(value) for key, value in by_key.items() if not f"{key}.".startswith(PLACES)}
    return {key: value for key, value in plain.items() if value is not None}


def _preset(run: Settings) -> str:
    return task_preset(str(run.get("task.name")), str(run.get("task.source")))


def _plain(value: Any) -> Any:
    """One spelling of equal values: 16.0 is 16, a list of one is its item, and what is not a number is null."""
    if isinstance(value, list | tuple):
        return _plain(value[0]) if len(value) == 1 else [_plain(item) for item in value]
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 1e15 else value
    return value


@lru_cache(maxsize=1024)
def _owner(key: str) -> str | None:
    """The setting that sets this one's default."""
    names = [owner for start, owner in OWNERS.items() if key == start or (start[-1] == "." and key.startswith(start))]
    return next((owner for owner in names if owner != key), None)


def _choice(key: str, run: Settings) -> str:
    """The run's value of the setting that sets this one's default: its method, or its task."""
    owner = _owner(key)
    return text(run.get(owner)) if owner else ""


def _varies(key: str, runs: Sequence[Settings]) -> bool:
    values: dict[str, set[str]] = {}
    for run in runs:
        values.setdefault(_choice(key, run), set()).add(repr(run.get(key)))
    return any(len(different) > 1 for different in values.values())


def _column(key: str, runs: Sequence[Settings]) -> list[str]:
    having = {_choice(key, run) for run in runs if key in run}
    values = [text(run.get(key)) if _choice(key, run) in having else "" for run in runs]
    names = [Path(value).name if key in INPUTS else value for value in values]
    return names if len(set(names)) == len(set(values)) else values


def _place(key: str) -> tuple[int, str]:
    if key in MAIN:
        return MAIN.index(key), key
    sections, section = ("method.", "", "train.", "task."), key[: key.find(".") + 1]
    return len(MAIN) + (sections.index(section) if section in sections else 1), key
