"""From command-line words to checked configurations, by Hydra; used by the entries and by studies."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from lorax_lab.config import RunConfig, from_dict, known_keys
from lorax_lab.config.overrides import CONF, code_in
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.store.redact import redact

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
            spelled.append(word)
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
        ConfigError: as `from_dict`, and for a choice that no file in `conf/` gives.
    """
    from contextlib import nullcontext

    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    inside_a_job = GlobalHydra.instance().is_initialized()
    settings = [word for word in words if not word.startswith("hydra")]
    try:
        with nullcontext() if inside_a_job else initialize_config_dir(str(CONF), version_base="1.3"):
            content = hydra_compose("config", overrides=settings)
    except HydraException as error:
        raise ConfigError(" ".join(str(error).split())) from None
    return from_dict(content)


def reference_overrides(words: list[str]) -> list[str]:
    """The same command line with `method=full`: same model, task, data, budget and seed.

    >>> reference_overrides(["rank=8", "seed=1", "train.epochs=2", "method.alpha=32"])
    ['seed=1', 'train.epochs=2', 'method=full']
    """
    kept = [
        w for w in words if not w.partition("=")[0].startswith("method.") and w.partition("=")[0] not in REFERENCE_DROPS
    ]
    return [*kept, "method=full"]
