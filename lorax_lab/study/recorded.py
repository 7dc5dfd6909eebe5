"""A run's name, made again from a configuration that was recorded: whether a published line is of the run it says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from lorax_lab.config import MethodConfig, RunConfig, TaskConfig, TrainConfig
from lorax_lab.config.defaults import flat
from lorax_lab.config.identity import FORM, named
from lorax_lab.study.declaration import Declaration

SECTIONS = {"": RunConfig, "task.": TaskConfig, "method.": MethodConfig, "train.": TrainConfig}
"""What every run's configuration has, by the prefix of its keys; methods and kinds of task add to it."""


def recorded_id(
    config: Mapping[str, Any], exact: Mapping[str, Any], hashes: tuple[str, str], declared: Declaration
) -> str:
    """`identity.run_id` of a configuration as a published line has it.

    Args:
        exact: values that the line has in rounded form, by dotted key.
        hashes: SHA-256 of the model's files and of the data.
        declared: says which settings have a neutral value, decide no result, or are hashed as null where absent.
    """
    settings = {**flat(config), **exact}
    neutral, apart = declared.neutral, declared.apart
    nulls = declared.nulls.get(str(settings["method.name"]), ())
    common, no_result = _meaning()
    content: dict[str, Any] = {"schema": FORM, "model_sha256": hashes[0], "data_sha256": hashes[1]}
    for key, value in {**dict.fromkeys(nulls), **settings}.items():
        if key in no_result or key in apart or key.partition(".")[0] in no_result:
            continue
        if value == {**common, **neutral}.get(key, ...):
            continue
        section, _, name = key.rpartition(".")
        (content.setdefault(section, {}) if section else content)[name] = value
    names = (str(settings["model"]), str(settings["task.name"]), str(settings["method.name"]))
    return named(content, names, settings["rank"], settings["seed"])


@lru_cache(maxsize=1)
def _meaning() -> tuple[dict[str, Any], frozenset[str]]:
    """Neutral values, and the settings that decide no result, of what every configuration has."""
    fields = [(prefix + f.name, f.metadata) for prefix, kind in SECTIONS.items() for f in dataclasses.fields(kind)]
    neutral = {key: metadata["neutral"] for key, metadata in fields if "neutral" in metadata}
    return neutral, frozenset(key for key, metadata in fields if not metadata.get("decides_result", True))
