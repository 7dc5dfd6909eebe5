"""Settings that lie in files: a recorded run's `config.yaml`, a sweep of the user's own. Both are read as overrides, so
they are checked, swept and compared with a reference exactly as if they had been typed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lorax_lab.config.overrides import expand, quoted, written_out
from lorax_lab.errors import ConfigError
from lorax_lab.launch.arguments import Arguments
from lorax_lab.launch.compose import OF_THE_COMMAND_LINE, SEARCH_PATH, content_of, spell_out
from lorax_lab.launch.keys import GROUPS, presets
from lorax_lab.launch.references import REFERENCE_DROPS
from lorax_lab.launch.words import NO_SWEEPER, check_folder, key_of, read_yaml

ALWAYS_RECORDED = ("model", "task", "method", "rank", "seed", "train")
"""Keys that every recorded configuration has."""


def overrides_of(arguments: Arguments) -> list[str]:
    """The overrides of a command line and of the files that it names. A typed override wins over a file's.

    Raises:
        ConfigError: a file that is not there or does not fit, an unknown key or choice.
    """
    overrides = arguments.overrides
    if arguments.config:
        overrides = onto(recorded(arguments.config), overrides)
    if not arguments.config_dir:
        return spell_out(overrides)
    given = os.path.expanduser(arguments.config_dir)
    _check_signs(given)
    folder = Path(os.path.realpath(given))
    if not os.path.isdir(folder):
        reason = "there is no such folder; name the folder that has experiment/NAME.yaml"
        raise ConfigError(f"--config-dir {arguments.config_dir} is not possible: {reason}")
    _check_signs(str(folder))
    check_folder(folder)
    own = f"{SEARCH_PATH}[{quoted(f'file://{folder}')}]"
    return [*_with_experiment(spell_out(overrides, folder), own, folder), own]


def _check_signs(folder: str) -> None:
    if "$" in folder or not folder.isprintable():
        shown = folder if folder.isprintable() else ascii(folder)
        raise ConfigError(f"--config-dir {shown} has a sign that Hydra takes for its own; give the folder another name")


def recorded(path: Path) -> list[str]:
    """A recorded `config.yaml` as overrides. In a run's folder it stands for that run in that store; `force` is left
    out.

    Raises:
        ConfigError: no such file, or one that is no configuration or has a key that this version does not know.
    """
    path = Path(os.path.expanduser(path))
    path = path / "config.yaml" if os.path.isdir(path) else path
    content = read_yaml(path, "--config")
    missing = [key for key in ALWAYS_RECORDED if not isinstance(content, dict) or key not in content]
    if missing:
        raise ConfigError(f"--config {path} is no run's configuration, or not whole: it has no {', '.join(missing)}")
    if not all(isinstance(content.get(group, {}), dict) for group in GROUPS):
        raise ConfigError(f"--config {path} is no run's configuration: task, method, train and tracking are sections")
    content.pop("force", None)
    if (path.parent / "record.json").exists():
        content["runs_dir"] = str(path.resolve().parent.parent)
    overrides = [*_choices(content), *written_out(content)]
    try:
        return spell_out(overrides)
    except ConfigError as error:
        raise ConfigError(f"--config {path} does not fit this version: {error}") from None


def _choices(content: dict[str, Any]) -> list[str]:
    """The files of `conf/` that a configuration started from, as far as it needs them."""
    name, source = content["task"].get("name"), content["task"].get("source")
    task = name if name in presets("task") else "hub" if source == "hub" else "local"
    return [f"task={task}", f"method={content['method'].get('name')}"]


def _with_experiment(overrides: list[str], own: str, folder: Path) -> list[str]:
    """Overrides in which `+experiment=NAME` is replaced by what `experiment/NAME.yaml` of the folder says."""
    chosen = [override for override in overrides if override.startswith("+experiment=")]
    typed = [override for override in overrides if override not in chosen]
    if not chosen:
        return overrides
    if len(chosen) > 1 or len(expand(chosen)) > 1:
        raise ConfigError(f"{' '.join(chosen)} is not possible: one experiment at a time")
    try:
        return onto(spell_out(_experiment(chosen[0], own), folder), typed)
    except ConfigError as error:
        reason = NO_SWEEPER if "hydra/sweeper" in str(error) else error
        raise ConfigError(f"{chosen[0].removeprefix('+')}: {reason}") from None


def _experiment(chosen: str, own: str) -> list[str]:
    """The content of an experiment's file: the files of `conf/` that it chooses, its values, and the lists of its
    sweep."""
    content = content_of([chosen, own], with_hydra=True)
    choices, params = content["hydra"]["runtime"]["choices"], content["hydra"]["sweeper"].pop("params", None) or {}
    groups = [f"{group}={choices[group]}" for group in (*GROUPS, "hydra/launcher", "hydra/sweeper")]
    without = content_of([*groups, own], with_hydra=True)
    before = set(written_out(without))
    values = [value for value in written_out(content) if value not in before]
    values = [value for value in values if not value.startswith(OF_THE_COMMAND_LINE)]
    return [*groups, *values, *(f"{key}={lists}" for key, lists in params.items())]


def onto(of_file: list[str], typed: list[str]) -> list[str]:
    """The overrides of a file, then the typed ones. A typed task or method replaces the file's as a whole.

    >>> onto(["method=lora", "rank=8", "++method.alpha=4", "seed=0"], ["method=full"])
    ['seed=0', 'method=full']
    >>> onto(["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0"], ["hydra/launcher=basic"])
    ['seed=0', 'hydra/launcher=basic']
    """
    keys = {key_of(override) for override in typed}
    replaced = {f"{key.replace('/', '.')}." for key in keys & {*GROUPS, "hydra/launcher"}}
    dropped = keys | (set(REFERENCE_DROPS) if "method" in keys else set())
    kept = [of for of in of_file if key_of(of) not in dropped and not key_of(of).startswith(tuple(replaced))]
    return [*kept, *typed]
