"""The declared defaults of a run's settings, read from `conf/` without Hydra: plain values by dotted key."""

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from lorax_lab.config.overrides import CONF


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration by dotted key.

    >>> flat({"rank": 8, "method": {"name": "lora", "alpha": 16}})
    {'rank': 8, 'method.name': 'lora', 'method.alpha': 16}
    """
    settings: dict[str, Any] = {}
    for key, value in config.items():
        settings |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return settings


def task_preset(name: str, source: str) -> str:
    """The file in `conf/task/` that a task's settings start from: that of its name, else that of its source."""
    return name if os.path.isfile(CONF / "task" / f"{name}.yaml") else source


@lru_cache(maxsize=256)
def defaults(task: str, method: str, kind: str | None = None) -> Mapping[str, Any]:
    """What each setting is where nobody sets it, given the task's preset, the method, and the kind of task where it is
    not the preset's own; what has no file has none."""
    settings = flat({key: value for key, value in _read("config.yaml").items() if key not in ("defaults", "hydra")})
    settings |= flat(_read("train/default.yaml"), "train.")
    presets = [{k: v for k, v in _read(f"task/{name}.yaml").items() if k != "defaults"} for name in ("_base", task)]
    preset = presets[0] | presets[1]
    settings |= flat({**kind_defaults(kind or preset["kind"]), **preset}, "task.")
    return settings | flat(_read(f"method/{method}.yaml"))


def method_defaults(method: str) -> Mapping[str, Any]:
    """What a method's file sets of the method's own settings, by name."""
    return dict(_read(f"method/{method}.yaml")["method"])


def kind_defaults(kind: str) -> dict[str, Any]:
    """The settings that belong to a kind of task, by name."""
    return dict(_read(f"kind/{kind}.yaml"))


@lru_cache(maxsize=256)
def _read(name: str) -> dict[str, Any]:
    from omegaconf import OmegaConf

    path = CONF / name
    content: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}
    return content
