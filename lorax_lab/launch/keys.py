"""Which keys and choices the command line knows."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from pathlib import Path
from typing import get_type_hints

from lorax_lab.config import RunConfig, TaskConfig
from lorax_lab.config.overrides import CONF
from lorax_lab.tasks import KINDS

GROUPS = ("task", "method", "train", "tracking")
"""The folders of `conf/`; a run takes one file of each."""


def presets(group: str, own: Path | None = None) -> list[str]:
    """Names of the files in `conf/<group>/`, such as `movie_reviews` and `glue/mrpc` for `task`.

    Args:
        own: a folder of the user's, whose files count as well.
    """
    folders = [folder / group for folder in (CONF, own) if folder]
    files = {file.relative_to(folder) for folder in folders for file in folder.rglob("*.yaml")}
    return sorted(str(file.with_suffix("")) for file in files if file.stem != "_base")


@lru_cache(maxsize=1)
def known_keys() -> tuple[str, ...]:
    """Every dotted key that the command line accepts, the settings of every method and kind of task among them.

    Those of methods are read from their files in `conf/`, since the methods themselves are slow to import."""
    import yaml

    keys: list[str] = []
    for section, kind in get_type_hints(RunConfig).items():
        nested = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        keys += [section, *(f"{section}.{field.name}" for field in nested)]
    for name in presets("method"):
        own = yaml.safe_load((CONF / "method" / f"{name}.yaml").read_text(encoding="utf-8"))["method"]
        keys += [f"method.{key}" for key in own]
    return tuple(dict.fromkeys([*keys, *_keys_of_kinds()]))


def _keys_of_kinds() -> list[str]:
    """The keys that some kinds of task have and others have not; `conf/` need not name them."""
    shared = {field.name for field in dataclasses.fields(TaskConfig)}
    fields = [field.name for kind in KINDS.values() for field in dataclasses.fields(kind.config)]
    return [f"task.{name}" for name in fields if name not in shared]


def added(override: str) -> str:
    """The override of a setting that not every method or kind of task has, in the form that adds it where it is
    missing: `from_dict` then says what to type."""
    key = override.partition("=")[0]
    return f"++{override}" if key.startswith("method.") or key in _keys_of_kinds() else override
