"""From command-line words to checked configurations, by Hydra; used by the entries and by studies."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

from lorax_lab import config
from lorax_lab.config import RunConfig, TaskConfig
from lorax_lab.config.overrides import CONF, code_in
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.store.redact import redact
from lorax_lab.tasks import KINDS, check, kind_of

GROUPS = ("task", "method", "train", "tracking")
LAUNCHERS = {
    "basic": "hydra",
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "submitit_slurm": "hydra_plugins.hydra_submitit_launcher",
}
"""Hydra's launchers that the store is tested with, and the module that each needs."""
HYDRA_KEYS = ("hydra/launcher", "hydra.launcher.", "hydra.verbose")
REFERENCE_DROPS = ("method", "rank", "train.learning_rate")
"""Words of a LoRA run that its full fine-tune does not take over; the learning rate is each method's own."""


def known_keys() -> list[str]:
    """Every dotted key that the command line accepts, those of every kind of task among them."""
    return list(dict.fromkeys([*config.known_keys(), *_keys_of_kinds()]))


def _keys_of_kinds() -> list[str]:
    """The keys that some kinds of task have and others have not; `conf/` need not name them."""
    shared = {field.name for field in dataclasses.fields(TaskConfig)}
    fields = [field.name for kind in KINDS.values() for field in dataclasses.fields(kind.config)]
    return [f"task.{name}" for name in fields if name not in shared]


def _added(override: str) -> str:
    """The override of a kind's own key in the form that adds the key where the files in `conf/` do not name it."""
    return f"++{override}" if override.partition("=")[0] in _keys_of_kinds() else override


def presets(group: str) -> list[str]:
    """Names of the files in `conf/<group>/`, such as `movie_reviews` and `glue/mrpc` for `task`."""
    files = (CONF / group).rglob("*.yaml")
    return sorted(str(f.relative_to(CONF / group).with_suffix("")) for f in files if f.stem != "_base")


def spell_out(words: list[str]) -> list[str]:
    """Words that Hydra understands: `task=org/name`, which is no preset, becomes `task=hub task.path=org/name`.

    Raises:
        ConfigError: an unknown key or choice, or a task that looks like a misspelt preset.
    """
    spelled: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        _check_key(key, word, bool(equals))
        unknown = [name for name in value.split(",") if key in GROUPS and name not in presets(key)]
        if unknown and key != "task":
            raise ConfigError(f"{word}: there is no {key} {unknown[0]}; {suggest(unknown[0], presets(key))}")
        if unknown:
            spelled += ["task=hub", f"task.path={_hub_id(value)}", f"task.name={value}"]
        else:
            spelled.append(_added(word))
    return spelled


def _check_key(key: str, word: str, assigned: bool) -> None:
    if redact(word) != word:
        raise ConfigError(f"{key} has a key or password in it; set it in the environment instead: nothing was written")
    if special := code_in(word):
        raise ConfigError(f"{word}: {special} is not possible; settings are plain values")
    bare = key.lstrip("+~")
    if bare.startswith("hydra"):
        if not bare.startswith(HYDRA_KEYS):
            raise ConfigError(f"there is no key {bare} here; of Hydra's own there are {', '.join(HYDRA_KEYS)}")
        if bare == "hydra/launcher":
            _check_launcher(word.partition("=")[2])
        return
    if bare.split("@")[0] in known_keys():
        if assigned or key.startswith("~"):
            return
        raise ConfigError(f"{word} has no value; type {word}=…")
    if not assigned:
        raise ConfigError(f"{word} is not understood; settings are written key=value, as in rank=8")
    raise ConfigError(f"there is no key {bare}; {suggest(bare, known_keys())}")


def _check_launcher(name: str) -> None:
    if name not in LAUNCHERS:
        raise ConfigError(f"hydra/launcher={name} is not possible; {suggest(name, list(LAUNCHERS))}")
    try:
        known = importlib.util.find_spec(LAUNCHERS[name]) is not None
    except ModuleNotFoundError:
        known = False
    if not known:
        raise ConfigError(f"hydra/launcher={name} is not installed; type pip install -e '.[parallel]'")


def _hub_id(value: str) -> str:
    names = [name for name in presets("task") if name != "hub"]
    if "," in value:
        raise ConfigError(f"task={value}: only presets can be swept like this; type task=hub task.path={value}")
    hint = suggest(value, names)
    if "/" not in value and not Path(value).exists() and hint.startswith("did you mean"):
        raise ConfigError(f"task={value} is not a preset; {hint}, or a data set id")
    return value


def compose(words: list[str]) -> RunConfig:
    """The checked configuration of one job's words.

    Raises:
        ConfigError: as `from_dict`; a choice that no file in `conf/` gives; a task whose source, kind and metric do
            not go together.
    """
    from contextlib import nullcontext

    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    inside_a_job = GlobalHydra.instance().is_initialized()
    settings = [_added(word) for word in words if not word.startswith("hydra")]
    try:
        with nullcontext() if inside_a_job else initialize_config_dir(str(CONF), version_base="1.3"):
            content = hydra_compose("config", overrides=settings)
    except HydraException as error:
        raise ConfigError(" ".join(str(error).split())) from None
    run = from_dict(content)
    check(run.task)
    return run


def from_dict(content: Any) -> RunConfig:
    """A composed configuration (DictConfig or plain dict) as a checked `RunConfig`; its task has the settings of its
    kind.

    Raises:
        ConfigError: an unknown kind of task, or a key that it has not; a missing key, a wrong type or a value out of
            range.
    """
    from omegaconf import OmegaConf

    raw: Any = OmegaConf.to_container(content) if OmegaConf.is_config(content) else content
    task = kind_of(str(raw["task"]["kind"])).config
    known = [field.name for field in dataclasses.fields(task)]
    for key, value in raw["task"].items():
        if key not in known:
            what = f"task.kind={raw['task']['kind']} does not read task.{key}, and it is set to {value}"
            raise ConfigError(f"{what}; leave it out, {suggest(key, known)}")
    return config.from_dict(content, task=task)


def reference_overrides(words: list[str]) -> list[str]:
    """The same command line with `method=full`: same model, task, data, budget and seed.

    >>> reference_overrides(["rank=8", "seed=1", "train.epochs=2", "method.alpha=32"])
    ['seed=1', 'train.epochs=2', 'method=full']
    """
    kept = [
        w for w in words if not w.partition("=")[0].startswith("method.") and w.partition("=")[0] not in REFERENCE_DROPS
    ]
    return [*kept, "method=full"]
