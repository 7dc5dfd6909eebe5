"""A run's name, made again from a configuration that was recorded: whether a published line is of the run it says."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from lorax_lab.config import MethodConfig, RunConfig, TaskConfig, TrainConfig
from lorax_lab.config.identity import FORM, named

SECTIONS = {"": RunConfig, "task.": TaskConfig, "method.": MethodConfig, "train.": TrainConfig}
"""What every run's configuration has, by the prefix of its keys; methods and kinds of task add to it."""


def recorded_id(
    settings: Mapping[str, Any],
    hashes: tuple[str, str],
    neutral: Mapping[str, Any],
    apart: Collection[str],
    nulls: Collection[str] = (),
) -> str:
    """`identity.run_id` of a recorded configuration.

    Args:
        settings: the configuration as dotted keys, places and windows left out.
        hashes: SHA-256 of the model's files and of the data.
        neutral, apart, nulls: of the settings of methods and kinds of task those that have a neutral value, that
            decide no result, and that are hashed as null where they are absent.
    """
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
