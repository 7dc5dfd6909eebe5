"""From overrides to a checked `RunConfig`: Hydra composes the files of `conf/`, OmegaConf holds the values to the
types of the dataclasses, and their `__post_init__` checks the rest. What is wrong is named in one sentence."""

from __future__ import annotations

import copy
import dataclasses
import os
import re
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from lorax_lab.config import MethodConfig, RunConfig, TaskConfig, TrackingConfig, TrainConfig
from lorax_lab.config.checks import require
from lorax_lab.config.defaults import defaults, flat
from lorax_lab.config.overrides import CONF, quoted, said_plainly, value_of, values_of, written_out
from lorax_lab.errors import ConfigError, suggest

GROUPS = ("task", "method", "train", "tracking")
"""The folders of `conf/`; a run takes one file of each."""
REFERENCE_DROPS = ("rank", "train.learning_rate")
"""Settings that a method's file brings along besides those of its own section."""


def presets(group: str, folder: Path | None = None) -> list[str]:
    """Names of the files in `conf/<group>/`, such as `movie_reviews` and `glue/mrpc` for `task`.

    Args:
        folder: one of the user's, as of `--config-dir`, whose files count as well.
    """
    places = [place / group for place in (CONF, folder) if place]
    files = {file.relative_to(place) for place in places for file in place.rglob("*.yaml")}
    return sorted(str(file.with_suffix("")) for file in files if file.stem != "_base")


@lru_cache(maxsize=1)
def known_keys() -> tuple[str, ...]:
    """Every dotted key that the command line accepts, the settings of every method and kind of task among them."""
    from lorax_lab.tasks import KINDS

    keys = [key for name in presets("method") for key in defaults("local", name)]
    keys += [f"task.{field.name}" for kind in KINDS.values() for field in dataclasses.fields(kind.config)]
    return tuple(dict.fromkeys([*GROUPS, *keys]))


def spell_out(overrides: list[str], folder: Path | None = None) -> list[str]:
    """Overrides that Hydra understands: `task=org/name`, which is no preset, becomes `task=hub task.path=org/name`. A
    setting that not every method or kind of task has is added where it is missing; `typed` then checks its name.

    Raises:
        ConfigError: a task that looks like a misspelt preset.
    """
    spelled: list[str] = []
    for override in overrides:
        key, equals, _ = override.partition("=")
        values = values_of(override) if key == "task" and equals else []
        if len(values) == 1 and isinstance(values[0], str) and values[0] not in presets("task", folder):
            path = quoted(_hub_id(values[0]))
            spelled += ["task=hub", f"++task.path={path}", f"++task.name={path}"]
        else:
            spelled.append(f"++{override}" if key.startswith(("task.", "method.")) else override)
    return spelled


def _hub_id(value: str) -> str:
    hint = suggest(value, [name for name in presets("task") if name != "hub"])
    if "/" not in value and not Path(value).exists() and hint.startswith("did you mean"):
        raise ConfigError(f"task={value} is not a preset; {hint}, or a data set id")
    return value


def compose(overrides: list[str]) -> RunConfig:
    """The checked configuration of one run's overrides, as a person types them.

    Raises:
        ConfigError: an unknown key or choice, a missing key, a wrong type or a value out of range.
    """
    return typed(content_of(spell_out(overrides), _composed))


@lru_cache(maxsize=256)
def _composed(choices: tuple[str, ...]) -> dict[str, Any]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    with in_our_words(), initialize_config_dir(str(CONF), version_base="1.3"):
        content: Any = OmegaConf.to_container(hydra_compose("config", list(choices)))
    return dict(content)


def content_of(overrides: list[str], composed: Callable[[tuple[str, ...]], dict[str, Any]]) -> dict[str, Any]:
    """What Hydra composes from overrides, unchecked. The runs of a sweep mostly differ in values alone, so Hydra reads
    the files of each set of choices once, and the values are set in a copy.

    Args:
        composed: what Hydra composes from overrides; it should remember its answers.
    """
    values = [override for override in overrides if _sets_a_value(override)]
    content = copy.deepcopy(composed(tuple(override for override in overrides if override not in values)))
    if all(_put(content, override) for override in values):
        return content
    return composed(tuple(overrides))


def _sets_a_value(override: str) -> bool:
    """Whether an override only sets a value: it chooses no file, adds or deletes no key, and is none of Hydra's own."""
    key = override.partition("=")[0].removeprefix("++")
    return not key.startswith(("hydra", "+", "~")) and "/" not in key and "@" not in key and key not in GROUPS


def _put(content: dict[str, Any], override: str) -> bool:
    """Set a setting to a value; returns whether it can be done without Hydra."""
    key, value = override.partition("=")[0], value_of(override)
    *sections, name = key.removeprefix("++").split(".")
    for section in sections:
        content = content.get(section) or {}
        if not isinstance(content, dict):
            return False
    if (name not in content and not key.startswith("++")) or isinstance(content.get(name, value), dict):
        return False
    content[name] = value
    return True


@contextmanager
def in_our_words() -> Iterator[None]:
    """Errors of Hydra that a slip of the keyboard makes, as a `ConfigError` with what is allowed."""
    from hydra.errors import ConfigCompositionException, MissingConfigException

    try:
        with said_plainly():
            try:
                yield
            except MissingConfigException as error:
                group, _, name = (error.missing_cfg_file or "").partition("/")
                if group not in GROUPS or not name:
                    raise
                raise ConfigError(_no_choice(group, name)) from None
            except ConfigCompositionException as error:
                if not (unknown := re.match(r"Could not override '([^']+)'", str(error))):
                    raise
                raise ConfigError(_no_key(unknown[1])) from None
    except RecursionError:
        raise ConfigError("a setting refers to itself; give it a value of its own") from None


def _no_choice(group: str, name: str) -> str:
    if group == "method":
        from lorax_lab.methods.peft_bridge import refused

        if reason := refused(name):
            return reason
    return f"{group}={name}: there is no such {group}; {suggest(name, presets(group))}"


def _no_key(key: str) -> str:
    nearest = suggest(key, known_keys()).partition("allowed: ")[0]
    section = key.partition(".")[0]
    shown = [each for each in known_keys() if each.startswith(f"{section}.")]
    shown = shown or [each for each in known_keys() if "." not in each]
    return f"there is no key {key}; {nearest}allowed: {', '.join(shown)}; --cfg job shows all"


def typed(content: dict[str, Any]) -> RunConfig:
    """A composed configuration as a checked `RunConfig`, with the settings of its method and of its kind of task.

    Raises:
        ConfigError: an unknown key, a missing key, a wrong type or a value out of range.
    """
    from omegaconf import OmegaConf

    from lorax_lab.methods import method_named
    from lorax_lab.tasks import check, kind_of

    if "${" in repr(content):
        with said_plainly():
            content = OmegaConf.to_container(OmegaConf.create(content), resolve=True)  # type: ignore[assignment]
    sections: dict[str, type] = {
        "task": kind_of(str(content["task"].get("kind"))).config,
        "method": method_named(str(content["method"].get("name"))).settings,
        "train": TrainConfig,
        "tracking": TrackingConfig,
    }
    dials = {key: value for key, value in content.items() if key not in sections}
    converted = {name: _converted(name, section, Exact(content[name])) for name, section in sections.items()}
    config = RunConfig(**vars(_converted("", DIALS, Exact(dials))), **copy.deepcopy(converted))
    _check_method(config)
    check(config.task)
    return config


DIALS = dataclasses.make_dataclass(
    "DIALS", [item for item in get_type_hints(RunConfig).items() if item[0] not in GROUPS]
)
"""The settings that are in no section."""


class Exact(dict[str, Any]):
    """Settings that are equal if they are written alike: 1, 1.0 and true are not."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(self))

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other)


@lru_cache(maxsize=4096)
def _converted(name: str, section: type, values: Exact) -> Any:
    """A section as its dataclass; the runs of a sweep have most sections in common, and each is converted once."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    prefix = f"{name}." if name else ""
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(section), dict(values)))
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        key = (error.full_key or str(error.key)).partition("[")[0]
        if key not in get_type_hints(section):
            raise ConfigError(_not_of(name, section, key, values)) from None
        raise ConfigError(_wrong_type(f"{prefix}{key}", get_type_hints(section)[key], values.get(key), error)) from None


def _not_of(name: str, section: type, key: str, values: dict[str, Any]) -> str:
    """That the method, or the kind of task, of a section has no such setting."""
    if not issubclass(section, MethodConfig | TaskConfig):
        return _no_key(f"{name}.{key}" if name else key)
    owner = f"task.kind={values['kind']}" if name == "task" else f"method={values['name']}"
    fields = tuple(field.name for field in dataclasses.fields(section) if field.name != "name")
    hint = suggest(key, fields)
    return f"{name}.{key}={values[key]} is not possible: {owner} has no {key}; leave {name}.{key} out, or set: {hint}"


TYPES = {int: ("a whole number", "8"), float: ("a number", "0.1"), bool: ("true or false", "true"), str: ("text", "x")}
"""In words, and for instance."""


def _wrong_type(key: str, hint: Any, value: Any, error: Exception) -> str:
    """What a setting has to be whose value has another type."""
    options = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    named, example = next((TYPES[option] for option in options if option in TYPES), ("", ""))
    if not named:
        return f"{key}={value} is not possible: {str(error).splitlines()[0]}"
    declared = defaults("local", "lora").get(key)
    missing = " or null" if type(None) in options else ""
    example = example if declared is None else quoted(declared).strip("'")
    shown = value if isinstance(value, str) else quoted(value)
    return f"{key}={shown} is not possible: it is {named}{missing}; for instance {key}={example}"


def _check_method(config: RunConfig) -> None:
    """Check what not every method has: a rank, and the measurements that only the reference gets."""
    from lorax_lab.methods import METHODS, REFERENCE

    name, rank, method = config.method.name, config.rank, METHODS[config.method.name]
    if method.has_rank:
        ok = rank is not None and rank >= 1
        require(ok, "rank", rank, "a whole number from 1 to the smaller side of the matrices; rank=8")
    else:
        ranked = next(f"method={other}" for other in METHODS if METHODS[other].has_rank)
        no_rank = f"this method has no rank; leave rank out, or type {ranked}"
        require(rank is None, f"method={name} rank", rank, no_rank)
    no_cuts = f"only the update of method={REFERENCE} is truncated; type measure=standard, or method={REFERENCE}"
    require(config.measure != "controls" or method.is_reference, f"method={name} measure", config.measure, no_cuts)


def reference_of(config: RunConfig) -> RunConfig:
    """The full fine-tune that a run is compared with: the same model, task, data, budget and seed. The method's own
    settings, and the learning rate, are those of its file."""
    from lorax_lab.methods import REFERENCE, method_named

    values = defaults("local", REFERENCE)
    method = method_named(REFERENCE).settings(**{
        key.removeprefix("method."): value for key, value in values.items() if key.startswith("method.")
    })  # fmt: skip
    train = dataclasses.replace(config.train, learning_rate=values["train.learning_rate"])
    return dataclasses.replace(config, method=method, rank=None, train=train)


def recorded(path: Path, typed_too: list[str] | None = None) -> list[str]:
    """A recorded `config.yaml`, or a run's folder, as overrides, with what is typed beside it. In a run's folder it
    stands for that run in that store; `force` is left out. A typed task or method replaces the recorded one as a whole.

    Raises:
        ConfigError: no such file, or one that is no configuration.
    """
    from omegaconf import OmegaConf

    path, typed_too = Path(os.path.expanduser(path)), typed_too or []
    path = path / "config.yaml" if path.is_dir() else path
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path))
        task, method = content["task"], content.pop("method")
        content.pop("force", None)
    except Exception as error:  # what is no YAML, or no mapping, has no common error
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"--config {path} is no run's configuration ({reason}); name the config.yaml of one"
        ) from None
    if (path.parent / "record.json").exists():
        content["runs_dir"] = str(path.resolve().parent.parent)
    chosen = {override.partition("=")[0] for override in typed_too}
    choices, settings = [], flat(content)
    if "task" in chosen:
        settings = {key: value for key, value in settings.items() if not key.startswith("task.")}
    else:
        preset = "hub" if task.get("source") == "hub" else "local"
        choices.append(f"task={task['name'] if task.get('name') in presets('task') else preset}")
    if "method" in chosen:
        settings = {key: value for key, value in settings.items() if key not in REFERENCE_DROPS}
    else:
        choices.append(f"method={method['name']}")
        settings |= {f"method.{key}": value for key, value in method.items()}
    return [*choices, *(f"++{override}" for override in written_out(settings)), *typed_too]
