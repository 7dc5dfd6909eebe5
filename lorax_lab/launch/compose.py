"""From overrides to checked configurations, by Hydra; used by the entries and by studies."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorax_lab.config import RunConfig
from lorax_lab.config.overrides import CONF, code_in, value_of
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.launch.keys import GROUPS, added, known_keys, presets
from lorax_lab.launch.launchers import check_launcher
from lorax_lab.launch.typed import from_dict
from lorax_lab.store.redact import redact
from lorax_lab.tasks import check

if TYPE_CHECKING:
    from omegaconf import DictConfig

HYDRA_KEYS = ("hydra/launcher", "hydra.launcher.")
SEARCH_PATH = "hydra.searchpath="
"""The key that adds a folder of the user's own. `--config-dir` sets it; nobody types it."""
FOREIGN = "peft/"
"""How a method's name begins whose settings are PEFT's: `conf/` has those that matter, and `from_dict` checks all."""
LISTS = "hydra.sweeper.params."
"""The key under which an experiment's file keeps the lists of its sweep."""
NO_SWEEPER = (
    "hydra/sweeper is not possible: a sweeper such as Optuna's chooses each run by the results of those before, and "
    "here the whole grid is checked before anything trains; type lists of values, as in rank=4,8,16 -m"
)


def key_of(override: str) -> str:
    """
    >>> key_of("+experiment=mine"), key_of("method.alpha=4")
    ('experiment', 'method.alpha')
    """
    return override.partition("=")[0].lstrip("+~")


def spell_out(overrides: list[str], own: Path | None = None) -> list[str]:
    """Overrides that Hydra understands: `task=org/name`, which is no preset, becomes `task=hub task.path=org/name`.

    Args:
        own: a folder of the user's with files of its own, `experiment/NAME.yaml` among them.

    Raises:
        ConfigError: an unknown key or choice, or a task that looks like a misspelt preset.
    """
    spelled: list[str] = []
    foreign = any(key_of(override) == "method" and FOREIGN in override for override in overrides)
    for override in overrides:
        key, equals, value = override.partition("=")
        if key_of(override) == "experiment":
            spelled.append(f"+experiment={_experiment(value, own)}")
            continue
        _check_key(key, override, bool(equals), foreign)
        unknown = [name for name in value.split(",") if key in GROUPS and name not in presets(key, own)]
        if unknown and key == "method" and unknown[0].startswith(FOREIGN):
            from lorax_lab.methods import method_named

            method_named(unknown[0])
        if unknown and key != "task":
            raise ConfigError(f"{override}: there is no {key} {unknown[0]}; {suggest(unknown[0], presets(key, own))}")
        if unknown:
            spelled += ["task=hub", f"task.path={_hub_id(value)}", f"task.name={value}"]
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


def _check_key(key: str, override: str, assigned: bool, foreign: bool) -> None:
    if redact(override) != override:
        raise ConfigError(f"{key} has a key or password in it; set it in the environment instead: nothing was written")
    if special := code_in(override):
        raise ConfigError(f"{override}: {special} is not possible; settings are plain values")
    bare = key.lstrip("+~")
    if bare.startswith("hydra"):
        if bare.startswith(LISTS):
            raise ConfigError(f"{bare} belongs into a file of --config-dir; type {override.split(LISTS)[-1]} -m")
        if bare.startswith(("hydra/sweeper", "hydra.sweeper")) and override != "hydra/sweeper=basic":
            raise ConfigError(NO_SWEEPER)
        if not bare.startswith((*HYDRA_KEYS, "hydra/sweeper")):
            raise ConfigError(f"there is no key {bare} here; of Hydra's own there are {', '.join(HYDRA_KEYS)}")
        if bare == "hydra/launcher":
            check_launcher(override.partition("=")[2])
        return
    if bare.split("@")[0] in known_keys() or (foreign and bare.startswith("method.")):
        if assigned or key.startswith("~"):
            return
        raise ConfigError(f"{override} has no value; type {override}=…")
    if not assigned:
        raise ConfigError(f"{override} is not understood; settings are written key=value, as in rank=8")
    raise ConfigError(f"there is no key {bare}; {suggest(bare, known_keys())}")


def _hub_id(value: str) -> str:
    names = [name for name in presets("task") if name != "hub"]
    if "," in value:
        raise ConfigError(f"task={value}: only presets can be swept like this; type task=hub task.path={value}")
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
    composed = copy.deepcopy(_composed(tuple(o for o in overrides if o not in values), with_hydra))
    try:
        for override in values:
            forced = override.startswith("++")
            OmegaConf.update(composed, key_of(override), value_of(override), merge=True, force_add=forced)
    except OmegaConfBaseException:
        composed = _composed(tuple(overrides), with_hydra)  # for Hydra's own message
    content = OmegaConf.to_container(composed)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _sets_a_value(override: str) -> bool:
    """Whether an override only sets a value: it chooses no file, adds or deletes no key, and is none of Hydra's own."""
    key = override.partition("=")[0].removeprefix("++")
    return not key.startswith(("hydra", "+", "~")) and "/" not in key and "@" not in key and key not in GROUPS


@lru_cache(maxsize=128)
def _composed(overrides: tuple[str, ...], with_hydra: bool) -> DictConfig:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException

    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra_compose("config", overrides=list(overrides), return_hydra_config=with_hydra)
    except HydraException as error:
        raise ConfigError(" ".join(str(error).split())) from None
