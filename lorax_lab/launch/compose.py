"""From command-line words to checked configurations, by Hydra; used by the entries and by studies."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, get_type_hints

from lorax_lab.config import MethodConfig, RunConfig
from lorax_lab.config.checks import require
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
"""Overrides that the full fine-tune does not take over from the run compared with it: each method has its own."""


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


@lru_cache(maxsize=1)
def known_keys() -> tuple[str, ...]:
    """Every dotted key that the command line accepts; the settings of methods are those of their files in `conf/`."""
    import yaml

    keys: list[str] = []
    for section, kind in get_type_hints(RunConfig).items():
        nested = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        keys += [section, *(f"{section}.{field.name}" for field in nested)]
    for name in presets("method"):
        own = yaml.safe_load((CONF / "method" / f"{name}.yaml").read_text(encoding="utf-8"))["method"]
        keys += [f"method.{key}" for key in own]
    return tuple(dict.fromkeys(keys))


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
    # `++` lets Hydra take a setting that the method has not, so that `from_dict` refuses it and says what to type
    settings = [f"++{word}" if word.startswith("method.") else word for word in settings]
    try:
        with nullcontext() if inside_a_job else initialize_config_dir(str(CONF), version_base="1.3"):
            content = hydra_compose("config", overrides=settings)
    except HydraException as error:
        raise ConfigError(" ".join(str(error).split())) from None
    return from_dict(content)


def from_dict(content: Any) -> RunConfig:
    """A composed configuration (DictConfig or plain dict) as a checked `RunConfig`, its method's settings included.

    Raises:
        ConfigError: an unknown key, a missing key, a wrong type or a value out of range.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    raw: Any = OmegaConf.to_container(content) if OmegaConf.is_config(content) else content
    if special := code_in(json.dumps(raw, default=str)):
        raise ConfigError(f"the configuration has {special} in it; settings are plain values, and call nothing")
    kind, settings = _method_settings(raw)
    try:
        typed = OmegaConf.structured(RunConfig)
        typed.method = OmegaConf.structured(kind)
        config = OmegaConf.to_object(OmegaConf.merge(typed, {**raw, "method": settings}))
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise ConfigError(_explain(error)) from None
    assert isinstance(config, RunConfig)
    _check_method(config)
    return config


def _method_settings(raw: dict[str, Any]) -> tuple[type[MethodConfig], dict[str, Any]]:
    """The dataclass of the method's settings, and their values; what an older record says as null is left out."""
    from lorax_lab.methods import method_named

    settings = dict(raw.get("method") or {})
    name = settings.get("name")
    kind = method_named(str(name)).settings
    own = tuple(field.name for field in dataclasses.fields(kind) if field.name != "name")
    for key in kind.HASHED_AS_NULL:
        if settings.get(key, ...) is None:
            del settings[key]
    for key, value in settings.items():
        if key not in ("name", *own):
            what = f"method={name} has no {key}; leave method.{key} out"
            raise ConfigError(f"method.{key}={value} is not possible: {what}, or set another: {suggest(key, own)}")
    return kind, settings


def _check_method(config: RunConfig) -> None:
    """The dials that not every method has: rank, and what only the reference is measured by."""
    from lorax_lab.methods import METHODS, REFERENCE

    name, rank, method = config.method.name, config.rank, METHODS[config.method.name]
    if method.has_rank:
        ok = rank is not None and rank >= 1
        require(ok, "rank", rank, "a whole number from 1 to the smaller side of the matrices; rank=8")
    else:
        ranked = " or ".join(f"method={other}" for other in METHODS if METHODS[other].has_rank)
        what = f"this method has no rank; leave rank out, or type {ranked}"
        require(rank is None, f"method={name} rank", rank, what)
    what = f"only the update of method={REFERENCE} is truncated; type measure=standard, or method={REFERENCE}"
    require(config.measure != "controls" or method.is_reference, f"method={name} measure", config.measure, what)


def _explain(error: Any) -> str:
    key = error.full_key or "configuration"
    reason = (getattr(error, "msg", None) or str(error)).splitlines()[0]
    if key == "rank":
        return f"rank: {reason}; it is a whole number, for instance rank=8"
    return f"{key}: {reason}"


def reference_overrides(words: list[str]) -> list[str]:
    """The same command line for the reference: same model, task, data, budget and seed.

    >>> reference_overrides(["rank=8", "seed=1", "train.epochs=2", "method.alpha=32"])
    ['seed=1', 'train.epochs=2', 'method=full']
    """
    from lorax_lab.methods import REFERENCE

    kept = [
        w for w in words if not w.partition("=")[0].startswith("method.") and w.partition("=")[0] not in REFERENCE_DROPS
    ]
    return [*kept, f"method={REFERENCE}"]
