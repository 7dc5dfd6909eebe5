"""Run identity: which settings decide a run's result, and the name that follows from them.

A field of the configuration says in its metadata what it means for identity:

    field(metadata=NO_RESULT)           it never decides a result: a place, a window or a switch
    field(metadata={"neutral": value})  at this value it is left out of the hash

So a new setting with a neutral value, a new method and a new kind of task rename nothing that is recorded.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.config.measured import CUT, K90
from lorax_lab.errors import ConfigError

if TYPE_CHECKING:
    from lorax_lab.config import RunConfig

FORM = 1
"""Version of this form of identity; a new one would rename every run. In the hash it is called `schema`."""
NO_RESULT: dict[str, Any] = {"decides_result": False}
"""Metadata of a field that does not decide a run's result."""

NOT_PUBLISHED = {"": ("runs_dir", "tracking", "force"), "task": ("path",), "train": ("device",)}
"""Settings that a published run leaves out: where things lie, and how a run was watched."""
LONGEST = 240
"""Bytes of a run id. A file system's names have 255 at most, and a run's files add to it: no longer id was recorded."""


def science(config: RunConfig, model_sha256: str, data_sha256: str) -> dict[str, Any]:
    """The part of a configuration that decides a run's result, with the hashes of its inputs."""
    content = _content(config)
    if config.method.name != CUT and content.get("measure") == K90:
        del content["measure"]
    return content | {"schema": FORM, "model_sha256": model_sha256, "data_sha256": data_sha256}


def run_id(config: RunConfig, model_sha256: str, data_sha256: str) -> str:
    """Readable prefix and the first 10 hex digits of the SHA-256 of the science part, for example
    `minilm-movie_reviews-lora-r8-s0-1f0c9a77be`. Equal settings spelled differently give one id."""
    text = json.dumps(science(config, model_sha256, data_sha256), sort_keys=True, allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    parts = [Path(config.model).name, Path(config.task.name).name, config.method.name]
    parts += [f"r{config.rank}"] if config.rank is not None else []
    name = re.sub(r"[^\w.-]", "_", "-".join([*parts, f"s{config.seed}"]))
    return name.encode()[: LONGEST - 11].decode(errors="ignore") + f"-{digest}"


def check_planned(config: RunConfig, planned: str, model_sha256: str, data_sha256: str) -> None:
    """Raise a `ConfigError` where inputs changed after the run was planned: its id was made of their hashes."""
    if run_id(config, model_sha256, data_sha256) != planned:
        inputs = f"the files of model={config.model} or the data of task={config.task.name}"
        cure = "type the same command again, which plans the run of what is there now"
        raise ConfigError(f"{inputs} changed after {planned} was planned; {cure}")


def plain(config: RunConfig) -> dict[str, Any]:
    """A configuration as it is recorded and compared: nested plain values, without neutral settings of method and task.
    PEFT's methods have dozens of them, and a study's older lines lack what is new."""
    content = dataclasses.asdict(config)
    for section in ("method", "task"):
        for field in dataclasses.fields(getattr(config, section)):
            if content[section][field.name] == field.metadata.get("neutral", ...):
                del content[section][field.name]
    return content


def _content(settings: Any) -> dict[str, Any]:
    """A dataclass's settings that count, by key; a section in which none counts is left out too."""
    content: dict[str, Any] = dict.fromkeys(getattr(settings, "HASHED_AS_NULL", ()))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if not field.metadata.get("decides_result", True) or value == field.metadata.get("neutral", ...):
            continue
        if not dataclasses.is_dataclass(value):
            content[field.name] = value
        elif section := _content(value):
            content[field.name] = section
    return content


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A plain configuration as it is published: without places and windows, and only the name of a model's folder."""
    published: dict[str, Any] = copy.deepcopy(dict(config))
    if Path(published["model"]).is_absolute():
        published["model"] = Path(published["model"]).name
    for section, keys in NOT_PUBLISHED.items():
        for key in keys:
            (published.get(section, {}) if section else published).pop(key, None)
    return published
