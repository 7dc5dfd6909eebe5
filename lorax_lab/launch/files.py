"""Settings that lie in files: a recorded run's `config.yaml`, a sweep of the user's own. Both are read as overrides, so
they are checked, swept and compared with a reference exactly as if they had been typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorax_lab.config.overrides import expand
from lorax_lab.errors import ConfigError
from lorax_lab.launch.arguments import Arguments
from lorax_lab.launch.compose import NO_SWEEPER, SEARCH_PATH, content_of, key_of, spell_out
from lorax_lab.launch.keys import GROUPS, presets
from lorax_lab.launch.references import REFERENCE_DROPS

OF_THE_COMMAND_LINE = ("hydra.overrides.", "hydra.job.override_dirname=", "hydra.runtime.", "hydra.searchpath=")
"""Hydra's settings that differ between any two command lines."""


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
    folder = arguments.config_dir.expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {arguments.config_dir} is not possible: there is no such folder")
    own = f"{SEARCH_PATH}[{quoted(f'file://{folder}')}]"
    return [*_with_experiment(spell_out(overrides, folder), own, folder), own]


def recorded(path: Path) -> list[str]:
    """A recorded `config.yaml` as overrides. In a run's folder it stands for that run in that store; `force` is left
    out.

    Raises:
        ConfigError: no such file, or one that is no configuration or has a key that this version does not know.
    """
    import yaml

    path = path.expanduser()
    path = path / "config.yaml" if path.is_dir() else path
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {path} cannot be read: {' '.join(str(error).split())}") from None
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
    """
    keys = {key_of(override) for override in typed}
    replaced = {f"{key.replace('/', '.')}." for key in keys & {*GROUPS, "hydra/launcher"}}
    dropped = keys | (set(REFERENCE_DROPS) if "method" in keys else set())
    kept = [of for of in of_file if key_of(of) not in dropped and not key_of(of).startswith(tuple(replaced))]
    return [*kept, *typed]


def written_out(content: Any, prefix: str = "") -> list[str]:
    """Every value of nested settings as an override.

    >>> written_out({"rank": 8, "task": {"path": None, "text": "a,b"}})
    ['rank=8', 'task.path=null', "task.text='a,b'"]
    """
    overrides: list[str] = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            overrides += written_out(value, f"{prefix}{key}.")
        else:
            overrides.append(f"{prefix}{key}={quoted(value)}")
    return overrides


def quoted(value: Any) -> str:
    """A value in the spelling that Hydra reads back.

    >>> quoted("it's"), quoted(True), quoted(1e-5), quoted(["query", "value"])
    ("'it\\\\'s'", 'true', '1e-05', "['query','value']")
    """
    from hydra.core.override_parser.types import Quote, QuotedString

    if isinstance(value, list):
        return f"[{','.join(map(quoted, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    return QuotedString(str(value), Quote.single).with_quotes() if not isinstance(value, dict) else "{}"
