"""From overrides to checked configurations, by Hydra; used by the entries and by studies."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.config import RunConfig
from lorax_lab.config.overrides import CONF, quoted, value_of, values_of, written_out
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.launch.keys import GROUPS, added, presets
from lorax_lab.launch.typed import from_dict
from lorax_lab.launch.words import LISTS, check_word, key_of
from lorax_lab.tasks import check

if TYPE_CHECKING:
    from omegaconf import DictConfig

SEARCH_PATH = "hydra.searchpath="
"""The key that adds a folder of the user's own. `--config-dir` sets it; nobody types it."""
OF_THE_COMMAND_LINE = ("hydra.overrides.", "hydra.job.override_dirname=", "hydra.runtime.", "hydra.searchpath=")
"""Hydra's settings that differ between any two command lines."""
FOREIGN = "peft/"
"""How a method's name begins whose settings are PEFT's: `conf/` has those that matter, and `from_dict` checks all."""


def spell_out(overrides: list[str], own: Path | None = None) -> list[str]:
    """Overrides that Hydra understands: `task=org/name`, which is no preset, becomes `task=hub task.path=org/name`.

    Args:
        own: a folder of the user's with files of its own, `experiment/NAME.yaml` among them.

    Raises:
        ConfigError: an unknown key or choice, or a task that looks like a misspelt preset.
    """
    spelled: list[str] = []
    foreign = any(key_of(override) == "method" and FOREIGN in override for override in overrides)
    for typed in overrides:
        key, _, value = typed.lstrip("+").partition("=")
        if key == "experiment":
            spelled.append(f"+experiment={_experiment(value, own)}")
            continue
        check_word(typed, foreign)
        override = typed.lstrip("+")
        unknown = [name for name in values_of(override) if name not in presets(key, own)] if key in GROUPS else []
        if unknown and key == "method" and unknown[0].startswith(FOREIGN):
            from lorax_lab.methods import method_named

            method_named(unknown[0])
        if unknown and key != "task":
            raise ConfigError(f"{override}: there is no {key} {unknown[0]}; {suggest(unknown[0], presets(key, own))}")
        if unknown:
            path = _hub_id(unknown[0], override)
            spelled += ["task=hub", f"task.path={quoted(path)}", f"task.name={quoted(path)}"]
        else:
            spelled.append(added(override))
    return spelled


def _experiment(name: str, own: Path | None) -> str:
    if own is None:
        raise ConfigError(
            f"experiment={name} is a file of yours; type --config-dir DIR, which has experiment/{name}.yaml"
        )
    names = presets("experiment", own)
    for one in name.split(","):
        if one not in names:
            raise ConfigError(f"experiment={name}: there is no {own / 'experiment' / one}.yaml; {suggest(one, names)}")
    return name


def _hub_id(value: str, override: str) -> str:
    names = [name for name in presets("task") if name != "hub"]
    if len(values_of(override)) > 1:
        raise ConfigError(f"{override}: only presets can be swept like this; type task=hub task.path={value}")
    hint = suggest(value, names)
    if "/" not in value and not Path(value).exists() and hint.startswith("did you mean"):
        raise ConfigError(f"task={value} is not a preset; {hint}, or a data set id")
    return value


def compose(overrides: list[str]) -> RunConfig:
    """The checked configuration of one job's overrides.

    Raises:
        ConfigError: as `from_dict`; a choice that no file in `conf/` gives; a task whose source, kind and metric do
            not go together.
    """
    ours = [override for override in overrides if not override.startswith("hydra") or override.startswith(SEARCH_PATH)]
    config = from_dict(content_of([added(override) for override in ours]))
    check(config.task)
    return config


def content_of(overrides: list[str], with_hydra: bool = False) -> dict[str, Any]:
    """What Hydra composes from overrides, unchecked. Nothing is called. Hydra's own settings are included on request.

    Hydra reads the files of one set of choices once. Then it sets values, and so it is done here: the runs of a sweep
    mostly differ in values alone.

    Raises:
        ConfigError: an override that Hydra cannot compose.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    values = [] if with_hydra else [override for override in overrides if _sets_a_value(override)]
    chosen = tuple(override for override in overrides if override not in values)
    content = copy.deepcopy(_content(chosen, with_hydra))
    if all(_put(content, key_of(override), value_of(override)) for override in values):
        return content
    config = copy.deepcopy(_composed(chosen, with_hydra))
    try:
        for override in values:
            forced = override.startswith("++")
            OmegaConf.update(config, key_of(override), value_of(override), merge=True, force_add=forced)
    except OmegaConfBaseException:
        config = _composed(tuple(overrides), with_hydra)  # for Hydra's own message
    return _plain(config)


@lru_cache(maxsize=128)
def _content(overrides: tuple[str, ...], with_hydra: bool) -> dict[str, Any]:
    return _plain(_composed(overrides, with_hydra))


def _plain(config: DictConfig) -> dict[str, Any]:
    from omegaconf import OmegaConf

    content = OmegaConf.to_container(config)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _put(content: dict[str, Any], key: str, value: Any) -> bool:
    """Set a setting that is there to a value that has no settings of its own; returns whether that was possible."""
    *sections, name = key.split(".")
    for section in sections:
        content = content.get(section) or {}
        if not isinstance(content, dict):
            return False
    if name not in content or isinstance(content[name], dict) or isinstance(value, dict):
        return False
    content[name] = value
    return True


def _sets_a_value(override: str) -> bool:
    """Whether an override only sets a value: it chooses no file, adds or deletes no key, and is none of Hydra's own."""
    key = override.partition("=")[0].removeprefix("++")
    return not key.startswith(("hydra", "+", "~")) and "/" not in key and "@" not in key and key not in GROUPS


def composed(overrides: list[str]) -> DictConfig:
    """What Hydra composes from overrides, its own settings included. Nothing is called, and no reference is resolved.

    Raises:
        ConfigError: an override that Hydra cannot compose.
    """
    return copy.deepcopy(_composed(tuple(overrides), True))


@lru_cache(maxsize=128)
def _composed(overrides: tuple[str, ...], with_hydra: bool) -> DictConfig:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import open_dict
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra_compose("config", overrides=list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(" ".join(str(error).split())) from None
    if any(override.startswith(SEARCH_PATH) for override in overrides):
        _check_hydra(config, overrides)
    if not with_hydra:
        with open_dict(config):
            del config["hydra"]
    return config


def _check_hydra(config: DictConfig, overrides: tuple[str, ...]) -> None:
    """Refuse a file of the user's own that changes Hydra's settings; an experiment's may set up the launcher, and have
    the lists of a sweep."""
    from omegaconf import OmegaConf

    launcher = config.hydra.runtime.choices["hydra/launcher"]
    check_word(f"hydra/launcher={launcher}")
    plain = _composed((f"hydra/launcher={launcher}",), True)
    before = set(written_out(OmegaConf.to_container(plain.hydra), "hydra."))
    typed = {key_of(override) for override in overrides}
    is_experiment = "experiment" in typed
    for value in written_out(OmegaConf.to_container(config.hydra), "hydra."):
        if value in before or value.startswith(OF_THE_COMMAND_LINE) or (is_experiment and value.startswith(LISTS)):
            continue
        check_word(value)
        if not is_experiment and key_of(value) not in typed:
            raise ConfigError(f"{key_of(value)} belongs into an experiment's file; leave it out")
