"""From the command line's overrides to the training steps that are asked about."""

from __future__ import annotations

import dataclasses
from typing import Any

from lorax_lab.config.overrides import CONF, expand, value_of, values_of
from lorax_lab.config.plain import PLAIN, foreign_part
from lorax_lab.errors import ConfigError, suggest
from lorax_lab.memory.step import Step

KEYS = tuple(field.name for field in dataclasses.fields(Step) if field.name != "layers")


def steps(overrides: list[str], multirun: bool) -> list[Step]:
    """Every step of the grid that the overrides make, each with a rank.

    Raises:
        ConfigError: an unknown key, a value of a wrong type or out of range, a grid without -m.
    """
    keys = [override.partition("=")[0] for override in overrides]
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals:
            raise ConfigError(f"{override} is not understood; settings are written key=value, as in rank=8")
        if key not in KEYS:
            raise ConfigError(f"there is no key {key}; {suggest(key, KEYS)}")
        if keys.count(key) > 1:
            raise ConfigError(f"{key} is typed twice in {' '.join(overrides)}; leave one out")
        if "???" in values_of(override):
            raise ConfigError(f"{override} is not possible: ??? stands for no value; leave it out")
        if special := foreign_part(values_of(override), KEYS):
            raise ConfigError(f"{override}: {special} is not possible; {PLAIN}")
    jobs = expand(overrides)
    if len(jobs) > 1 and not multirun:
        raise ConfigError(f"{' '.join(overrides)} asks about {len(jobs)} steps; type -m at the end")
    return [_step(job) for job in jobs]


def _step(overrides: list[str]) -> Step:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    changes = {override.partition("=")[0]: value_of(override) for override in overrides}
    try:
        step = OmegaConf.to_object(
            OmegaConf.merge(OmegaConf.structured(Step), OmegaConf.load(CONF / "memory.yaml"), changes)
        )
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise ConfigError(_explain(error)) from None
    assert isinstance(step, Step)
    if step.rank is None:
        raise ConfigError("rank=null: full fine-tuning is shown beside LoRA anyway; type a rank, for instance rank=8")
    return step


def _explain(error: Any) -> str:
    return f"{error.full_key}: {str(error).splitlines()[0]}; for the values allowed type --help"
