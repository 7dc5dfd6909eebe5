"""From plain settings to a checked `RunConfig`: the method and the kind of task each bring the class of their own."""

from __future__ import annotations

import copy
import dataclasses
import math
import types
import unicodedata
from functools import lru_cache
from typing import Any, get_args, get_type_hints

from lorax_lab.config import MethodConfig, RunConfig, TaskConfig, TrackingConfig, TrainConfig
from lorax_lab.config.checks import require
from lorax_lab.config.defaults import defaults, flat
from lorax_lab.config.plain import PLAIN, foreign_part
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.tasks import kind_of


def from_dict(content: Any) -> RunConfig:
    """A composed configuration (DictConfig or plain dict) as a checked `RunConfig`, with the settings of its method
    and of its kind of task.

    Raises:
        ConfigError: an unknown key, a missing key, a wrong type or a value out of range.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    raw: Any = OmegaConf.to_container(content) if OmegaConf.is_config(content) else content
    leaves = flat(raw)
    for key, value in leaves.items():
        if special := foreign_part(dict.fromkeys(key.split("."), value), leaves.keys()):
            raise ConfigError(f"{key}={value}: {special} is not possible; {PLAIN}")
    method, settings = _method_settings(raw)
    sections = {"method": method, "task": _task_settings(raw)}
    whole = {**raw, "method": settings}
    try:
        config = _by_sections(whole, sections) or _whole(whole, sections)
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise ConfigError(_explain(error, raw, sections)) from None
    _check_values(config)
    _check_method(config)
    return config


def _whole(raw: dict[str, Any], sections: dict[str, type]) -> RunConfig:
    """All settings as OmegaConf converts them at once, references to other settings included."""
    from omegaconf import OmegaConf

    typed = OmegaConf.structured(RunConfig)
    for name, section in sections.items():
        typed[name] = OmegaConf.structured(section)
    config = OmegaConf.to_object(OmegaConf.merge(typed, raw))
    assert isinstance(config, RunConfig)
    return config


def _by_sections(raw: dict[str, Any], sections: dict[str, type]) -> RunConfig | None:
    """What `_whole` gives, in a fraction of the time: the runs of a sweep have most sections in common, and each is
    converted once. None where `_whole` has to do it, since a setting refers to another or something is wrong."""
    from omegaconf.errors import OmegaConfBaseException

    classes = SECTIONS | sections
    if raw.keys() != DIALS.keys() | classes.keys() or any("${" in str(value) for value in flat(raw).values()):
        return None
    try:
        dials = {key: getattr(_converted(holder, Repr({key: raw[key]})), key) for key, holder in DIALS.items()}
        converted = {name: _converted(section, Repr(raw[name])) for name, section in classes.items()}
        return RunConfig(**dials, **copy.deepcopy(converted))
    except (OmegaConfBaseException, ConfigError, TypeError, ValueError):
        return None


SECTIONS: dict[str, type] = {"train": TrainConfig, "tracking": TrackingConfig}
"""Sections whose settings are the same for every method and kind of task."""
DIALS = {
    name: dataclasses.make_dataclass(name, [(name, form)])
    for name, form in get_type_hints(RunConfig).items()
    if name not in ("method", "task", *SECTIONS)
}
"""Each setting that is in no section, as a class of its own."""


class Repr(dict[str, Any]):
    """Settings that are equal if they are written alike: 1, 1.0 and true are not."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(self))

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other)


@lru_cache(maxsize=4096)
def _converted(section: type, raw: Repr) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(section), dict(raw)))


def _method_settings(raw: dict[str, Any]) -> tuple[type[MethodConfig], dict[str, Any]]:
    """The dataclass of the method's settings, and their values. A null that only older records have is left out."""
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
            unknown = f"method={name} has no {key}; leave method.{key} out"
            raise ConfigError(f"method.{key}={value} is not possible: {unknown}, or set another: {suggest(key, own)}")
    return kind, settings


def _task_settings(raw: dict[str, Any]) -> type[TaskConfig]:
    """The dataclass of the settings of the task's kind."""
    task = dict(raw.get("task") or {})
    kind = kind_of(str(task.get("kind"))).config
    known = [field.name for field in dataclasses.fields(kind)]
    for key, value in task.items():
        if key not in known:
            unread = f"task.kind={task['kind']} does not read task.{key}, and it is set to {value}"
            raise ConfigError(f"{unread}; leave it out, {suggest(key, known)}")
    return kind


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


TYPES = {
    int: ("a whole number", "8"),
    float: ("a number", "0.1"),
    bool: ("true or false", "true"),
    str: ("text", "name"),
}
"""In words, and for instance."""


def _explain(error: Any, raw: dict[str, Any], sections: dict[str, type]) -> str:
    """What a setting has to be whose value has another type."""
    key = error.full_key or "configuration"
    section, _, name = key.rpartition(".")
    owner = sections.get(section) or get_type_hints(RunConfig).get(section) if section else RunConfig
    hint = get_type_hints(owner).get(name) if dataclasses.is_dataclass(owner) else None
    options = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    named, of_type = next((TYPES[option] for option in options if option in TYPES), ("", ""))
    value = flat(raw).get(key, raw.get(key))
    if not named:
        reason = (getattr(error, "msg", None) or str(error)).splitlines()[0]
        return f"{key}={value} is not possible: {reason}"
    shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
    missing = " or null" if type(None) in options else ""
    declared = {"tracking.mode": "auto", **defaults("local", "lora")}.get(key)
    example = of_type if declared is None else str(declared).lower() if isinstance(declared, bool) else declared
    return f"{key}={shown} is not possible: it is {named}{missing}; for instance {key}={example}"


def _check_values(config: RunConfig) -> None:
    """Refuse values that no setting can have: numbers that are not finite or too large, text that is no Unicode."""
    for key, value in flat(dataclasses.asdict(config)).items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, float) and not math.isfinite(each):
                raise ConfigError(f"{key}={each} is not possible: it is a finite number; for instance {key}=0.1")
            if isinstance(each, int) and abs(each) >= 2**63:
                raise ConfigError(f"{key}={each} is not possible: it is below 2**63; for instance {key}=8")
            if isinstance(each, str) and ("\0" in each or any(unicodedata.category(sign) == "Cs" for sign in each)):
                raise ConfigError(f"{key}={each!a} is not possible: it has a sign that no file has; leave the sign out")
            if isinstance(each, str) and "${" in each:
                raise ConfigError(f"{key}={each} is not possible; {PLAIN}")
