"""What a study declares before its runs, and how it may grow afterwards.

A study may gain arms, levels of its factors, and a prediction for these. Everything else that was declared stays: the
margin, the seeds, the metric, the grid of rates, the prediction. What is added is recorded with its date.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.study import Plan, composed
from lorax_lab.config.identity import plain, portable
from lorax_lab.errors import ConfigError
from lorax_lab.study.declaration import ANSWER, NEUTRAL, Declaration, Pair, Settings, alike, decisive, same
from lorax_lab.tasks import KINDS

OWN_TO_THE_PROTOCOL = ("train.learning_rate", "seed", "measure", "reference")
"""Settings that no arm or level may fix."""
NAMES = ("model", "task.name", "task.path")
"""Settings that hashes replace in a run's identity. Here the settings themselves tell cells apart."""
FIXED = ("reference", "rates", "factor", "selection_seeds", "final_seeds", "margin", "loss_margin", "extensions")
"""The parts of the protocol that stay as they were declared. Were three seeds added to five whose scores are known, an
arm at the margin would pass in .041 of studies, and not in .025."""


def declaration_of(plan: Plan, texts: dict[str, Any], before: Declaration | None = None) -> Declaration:
    """The declaration that is written beside the runs. Of an absolute path it has only the file's name.

    Args:
        texts: question, prediction and cost.
        before: the earlier declaration, which the plan continues.

    Raises:
        ConfigError: two cells that no run could tell apart.
    """
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    declared = replace(_promised(plan, texts), settings=settings_of(plan), scores=_scores(plan), **_meaning(plan))
    if before is None:
        return replace(declared, written=now)
    added = _added(before, declared)
    history = (*before.history, {"date": now[:10], "added": added}) if added else before.history
    return replace(declared, history=history, written=before.written)


def _promised(plan: Plan, texts: dict[str, Any]) -> Declaration:
    """What a plan says by itself, without composing a configuration."""
    return Declaration(
        texts=texts,
        protocol=replace(
            plan.protocol,
            arms=tuple(replace(arm, overrides=_portable(arm.overrides)) for arm in plan.protocol.arms),
        ),
        factors={
            factor: {name: _portable(overrides) for name, overrides in levels.items()}
            for factor, levels in plan.factors.items()
        },
        common=_portable(plan.common),
        final={arm: tuple(overrides) for arm, overrides in plan.final.items()},
        figures=plan.figures,
        control_of=plan.control_of,
        low_share=plan.low_share,
    )


def _portable(overrides: Iterable[str]) -> tuple[str, ...]:
    pairs = [override.partition("=") for override in overrides]
    return tuple(f"{key}{sign}{Path(value).name if Path(value).is_absolute() else value}" for key, sign, value in pairs)


def check_arms(plan: Plan) -> None:
    """Refuse arms and levels that set what the protocol chooses, and names that are not unique.

    Raises:
        ConfigError: names the arm or level, and what to change.
    """
    protocol = plan.protocol
    names = [arm.name for arm in protocol.arms]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"two arms are called {twice[0]}; give each a name of its own")
    if protocol.reference not in names:
        raise ConfigError(f"reference={protocol.reference} is no arm; arms: {', '.join(names)}")
    for key in ("margin", "loss_margin"):
        value = getattr(protocol, key)
        if value is not None and not value >= 0:
            raise ConfigError(f"{key}={value:g} is below 0; it is how much worse a score may be: type it without sign")
    for factor, levels in plan.factors.items():
        if with_comma := [name for name in levels if "," in name]:
            raise ConfigError(f"{factor} {with_comma[0]!r} has a comma, which separates levels; name it without")
    parts = {f"arm {arm.name}": arm.overrides for arm in protocol.arms} | {"every run": plan.common}
    parts |= {f"{factor} {name}": o for factor, levels in plan.factors.items() for name, o in levels.items()}
    for name, overrides in parts.items():
        for override in overrides:
            if override.partition("=")[0].lstrip("+~") in OWN_TO_THE_PROTOCOL:
                raise ConfigError(f"{name} fixes {override}, which the protocol chooses; leave it out")
            if override == "train.precision=auto":
                raise ConfigError(f"{name} has {override}, which differs between machines; type train.precision=fp32")
    for arm, overrides in plan.final.items():
        if arm not in names:
            raise ConfigError(f"final={arm} is no arm; arms: {', '.join(names)}")
        if others := [o for o in overrides if not o.startswith("measure=") or o == "measure=trial"]:
            raise ConfigError(f"final of {arm} has {others[0]}; final runs differ from trials in measure= alone")


def settings_of(plan: Plan) -> dict[Pair, Settings]:
    """Every cell's settings as its runs will have them, by condition and arm.

    Raises:
        ConfigError: two cells have the same, so that no run could tell them apart.
    """
    apart = _meaning(plan)["apart"]
    settings = {pair: decisive(portable(plain(config)), apart) for pair, config in _configs(plan).items()}
    for one, other in alike(settings):
        raise ConfigError(
            f"{' / '.join(one)} and {' / '.join(other)} have the same settings, and no record could tell them apart. "
            "Change one of them. If only task.path differs, also set task.name=NAME in each."
        )
    return settings


def _configs(plan: Plan) -> dict[Pair, Any]:
    return {
        (condition, arm.name): composed((*overrides, *arm.overrides, *plan.common))
        for condition, overrides in plan.conditions.items()
        for arm in plan.protocol.arms
    }


def _meaning(plan: Plan) -> dict[str, Any]:
    """The settings that decide no result, and the neutral values of others, as the configuration's fields say."""
    neutral, apart = dict(NEUTRAL), list[str]()
    for config in _configs(plan).values():
        for key, field in _fields(config):
            if "neutral" in field.metadata:
                neutral[key] = field.metadata["neutral"]
            if not field.metadata.get("decides_result", True) and key not in NAMES:
                apart.append(key)
    return {"neutral": neutral, "apart": tuple(dict.fromkeys(apart))}


def _fields(config: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{prefix}{field.name}.")
        yield prefix + field.name, field


def _scores(plan: Plan) -> dict[str, tuple[str, bool]]:
    """The primary metric of each condition, and whether higher is better."""
    scores = {}
    for (condition, arm), config in _configs(plan).items():
        if arm == plan.protocol.reference:
            metrics = KINDS[config.task.kind].metrics
            name = config.task.metric or next(iter(metrics))
            scores[condition] = (name, metrics[name].higher_is_better)
    return scores


def check_continues(before: Declaration, plan: Plan, texts: dict[str, Any], name: str) -> None:
    """Refuse a plan that changes what was declared before runs that are recorded.

    Raises:
        ConfigError: names every change, and what to type.
    """
    if changes := list(broken_promises(before, _promised(plan, texts))):
        raise ConfigError(
            f"{name} has runs, and its declaration changed: {'; '.join(changes)}. Undo this in experiments/{name}.py "
            "(arms and levels may be added), or start a study of its own: --runs FOLDER --records FOLDER"
        )


def broken_promises(before: Declaration, now: Declaration) -> Iterator[str]:
    """What an earlier declaration said and a later one says otherwise."""
    for key in FIXED:
        yield from _change(key, getattr(before.protocol, key), getattr(now.protocol, key))
    for key in ("common", "control_of", "low_share"):
        yield from _change(key, getattr(before, key), getattr(now, key))
    arms = {arm.name: arm for arm in now.protocol.arms}
    for arm in before.protocol.arms:
        yield from _change(f"the arm {arm.name}", arm, arms.get(arm.name))
        yield from _change(f"final overrides of {arm.name}", before.final.get(arm.name), now.final.get(arm.name))
    yield from _change("factors", list(before.factors), list(now.factors))
    for factor, levels in before.factors.items():
        for name, overrides in levels.items():
            yield from _change(f"{factor} {name}", overrides, now.factors.get(factor, {}).get(name))
    if before.has_answer and not now.has_answer:
        yield f"the figure {ANSWER} is gone, and with it the verdict"
    for key in ("question", "budget"):
        if _words(before, key) != _words(now, key):
            yield f"the {key} was changed"
    if _words(now, "prediction")[: len(_words(before, "prediction"))] != _words(before, "prediction"):
        yield "the prediction was changed (a new one may follow the old text)"


def _change(key: str, was: object, present: object) -> Iterator[str]:
    if was != present:
        yield f"{key} was {_text(was)} and is {_text(present)}"


def _text(value: object) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)


def _words(declared: Declaration, key: str) -> list[str]:
    return str(declared.texts.get(key, "")).split()


def is_grown(before: Declaration, plan: Plan, texts: dict[str, Any]) -> bool:
    """Whether a plan declares more than before, or says it in other words."""
    now = _promised(plan, texts)
    told = [(one.texts, one.figures, one.control_of) for one in (before, now)]
    return bool(_added(before, now)) or told[0] != told[1]


def has_new_settings(before: Declaration, now: Declaration) -> bool:
    """Whether cells that both declare have a setting that the earlier one does not know."""
    both = before.settings.keys() & now.settings.keys()
    return any(now.settings[pair].keys() - before.settings[pair].keys() for pair in both)


def moved_settings(before: Declaration, now: Declaration) -> list[str]:
    """Settings of cells that both declare and that differ, as where a default changed."""
    return [
        f"{key} of {', '.join(pair)} was {declared[key]} and is {now.settings[pair].get(key)}"
        for pair, declared in before.settings.items()
        if pair in now.settings
        for key in declared
        if not same(declared, now.settings[pair], key, now.neutral)
    ]


def _added(before: Declaration, now: Declaration) -> dict[str, Any]:
    known = {arm.name for arm in before.protocol.arms}
    added: dict[str, Any] = {"arms": [arm.name for arm in now.protocol.arms if arm.name not in known]}
    for factor, levels in now.factors.items():
        added[factor] = [name for name in levels if name not in before.factors.get(factor, {})]
    added["prediction"] = " ".join(_words(now, "prediction")[len(_words(before, "prediction")) :])
    return {key: value for key, value in added.items() if value}
