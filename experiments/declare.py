"""What a study declares before its runs, and how it may grow afterwards.

A study may gain arms, levels of its factors, final seeds, and a prediction for these. Everything else that was declared
stays: the margin, the metric, the grid of rates already tried, the prediction. What is added is recorded with its date.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.study import Plan, composed
from lorax_lab.config.identity import plain
from lorax_lab.errors import ConfigError
from lorax_lab.study.continuity import broken_promises
from lorax_lab.study.declaration import NEUTRAL, Declaration, Pair, Settings, alike, decisive, own_content
from lorax_lab.tasks import KINDS

OWN_TO_THE_PROTOCOL = ("train.learning_rate", "seed", "measure", "reference")
"""Settings that no arm or level may fix."""
NAMES = ("model", "task.name", "task.path")
"""Settings that hashes replace in a run's identity. Here the settings themselves tell cells apart."""


def declaration_of(plan: Plan, texts: dict[str, Any], before: Declaration | None = None) -> Declaration:
    """The declaration that is written beside the lines. Of an absolute path it has only the file's name.

    Args:
        texts: question, prediction and cost.
        before: the earlier declaration, which the plan continues.

    Raises:
        ConfigError: two cells that no line could tell apart.
    """
    history = before.history if before else ()
    declared = Declaration(
        texts=texts,
        protocol=plan.protocol,
        factors=_portable_factors(plan),
        common=_portable(plan.common),
        final={arm: tuple(overrides) for arm, overrides in plan.final.items()},
        settings=settings_of(plan),
        **_meaning(plan),
        figures=plan.figures,
        control_of=plan.control_of,
        low_share=plan.low_share,
        scores=_scores(plan),
    )
    now, earlier = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), before.earlier if before else ()
    if before and replace(declared, written=before.written).sha256 == before.sha256:
        return replace(declared, history=history, earlier=earlier, written=before.written)
    if before:
        changes = {"added": _added(before, declared), "changed": _changed(before, declared)}
        entry = {key: value for key, value in changes.items() if value}
        history = (*history, {"date": now[:10]} | entry) if entry else history
        earlier = (*earlier, own_content(before))
    return replace(declared, history=history, earlier=earlier, written=now)


def check_arms(plan: Plan) -> None:
    """Refuse arms and levels that set what the protocol chooses, names that are not unique, and final runs that differ
    from their trials.

    Raises:
        ConfigError: names the arm or level, and what to change.
    """
    names = [arm.name for arm in plan.protocol.arms]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"two arms are called {twice[0]}; give each a name of its own")
    for factor, levels in plan.factors.items():
        if with_comma := [name for name in levels if "," in name]:
            raise ConfigError(
                f"{factor} {with_comma[0]!r} has a comma, which separates the levels in a condition's name; "
                "name the level without it"
            )
    if not plan.protocol.margin >= 0:
        raise ConfigError(
            f"margin={plan.protocol.margin:g} is below 0; it is how much worse a score may be, in the metric's units, "
            "whether higher or lower scores are better; write it without the sign"
        )
    if plan.protocol.loss_margin is not None and not plan.protocol.loss_margin >= 0:
        raise ConfigError(
            f"loss_margin={plan.protocol.loss_margin:g} is below 0; it is by how many nats the log loss may be higher; "
            "write it without the sign"
        )
    if plan.protocol.reference not in names:
        raise ConfigError(f"reference={plan.protocol.reference} is no arm; arms: {', '.join(names)}")
    parts = {f"arm {arm.name}": arm.overrides for arm in plan.protocol.arms}
    parts |= {f"{factor} {name}": o for factor, levels in plan.factors.items() for name, o in levels.items()}
    for name, overrides in (parts | {"every run": plan.common}).items():
        for override in overrides:
            if override.partition("=")[0].lstrip("+~") in OWN_TO_THE_PROTOCOL:
                raise ConfigError(f"{name} fixes {override}, which the protocol chooses; leave it out")
            if override == "train.precision=auto":
                varies = "which is another precision on another machine"
                raise ConfigError(f"{name} has {override}, {varies}; type train.precision=fp32 or train.precision=bf16")
    for arm, overrides in plan.final.items():
        if arm not in names:
            raise ConfigError(f"final={arm} is no arm; arms: {', '.join(names)}")
        for override in overrides:
            if not override.startswith("measure=") or override == "measure=trial":
                raise ConfigError(
                    f"final of {arm} has {override}. The only override that final runs may have "
                    f"of their own is measure, as measure=controls; leave {override} out, or declare it for the arm"
                )


def settings_of(plan: Plan) -> dict[Pair, Settings]:
    """Every cell's settings as its lines will have them, by condition and arm.

    Raises:
        ConfigError: two cells have the same, so that no line could tell them apart.
    """
    from lorax_lab.study.published import portable

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
    """The settings that decide no result, the neutral values of others, and those that are hashed as null where they
    are absent, as the configuration's fields say."""
    neutral, apart, nulls = dict(NEUTRAL), [], dict[str, tuple[str, ...]]()
    for config in _configs(plan).values():
        if absent := tuple(f"method.{key}" for key in config.method.HASHED_AS_NULL):
            nulls[config.method.name] = absent
        for key, field in _fields(config):
            if "neutral" in field.metadata:
                neutral[key] = field.metadata["neutral"]
            if not field.metadata.get("decides_result", True) and key not in NAMES:
                apart.append(key)
    return {"neutral": neutral, "apart": tuple(dict.fromkeys(apart)), "nulls": nulls}


def _scores(plan: Plan) -> dict[str, tuple[str, bool]]:
    """The primary metric of each condition, and whether higher is better."""
    scores = {}
    for (condition, arm), config in _configs(plan).items():
        if arm == plan.protocol.reference:
            metrics = KINDS[config.task.kind].metrics
            name = config.task.metric or next(iter(metrics))
            scores[condition] = (name, metrics[name].higher_is_better)
    return scores


def _fields(config: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{prefix}{field.name}.")
        yield prefix + field.name, field


def check_continues(before: Declaration, plan: Plan, texts: dict[str, Any], name: str) -> None:
    """Refuse a plan that changes what was declared before runs that are recorded.

    Args:
        texts: the study's present texts, question, prediction and budget among them.

    Raises:
        ConfigError: names every change, and what to type.
    """
    arms = tuple(replace(arm, overrides=_portable(arm.overrides)) for arm in plan.protocol.arms)
    now = Declaration(
        texts=texts,
        protocol=replace(plan.protocol, arms=arms),
        factors=_portable_factors(plan),
        common=_portable(plan.common),
        final={arm: tuple(overrides) for arm, overrides in plan.final.items()},
        figures=plan.figures,
        control_of=plan.control_of,
        low_share=plan.low_share,
    )
    changes = broken_promises(before, now)
    if changes:
        raise ConfigError(
            f"{name} has runs, and its declaration changed: {'; '.join(changes)}. Undo this in experiments/{name}.py "
            "(arms and levels may be added), or start a study of its own: --runs FOLDER --records FOLDER"
        )


def is_grown(before: Declaration, plan: Plan, prediction: str) -> bool:
    """Whether the plan has more than was declared."""
    arms, protocol = len(before.protocol.arms), plan.protocol
    sizes = [(arms, len(protocol.arms)), (len(before.conditions), len(plan.conditions))]
    sizes += [(len(before.texts.get("prediction", "").split()), len(prediction.split()))]
    return any(was < now for was, now in sizes)


def _added(before: Declaration, now: Declaration) -> dict[str, Any]:
    declared = {arm.name for arm in before.protocol.arms}
    added: dict[str, Any] = {"arms": [arm.name for arm in now.protocol.arms if arm.name not in declared]}
    for factor, levels in now.factors.items():
        added[factor] = [name for name in levels if name not in before.factors.get(factor, {})]
    common = before.settings.keys() & now.settings.keys()
    added["settings"] = sorted({key for pair in common for key in now.settings[pair].keys() - before.settings[pair]})
    length = len(before.texts.get("prediction", "").split())
    added["prediction"] = " ".join(str(now.texts["prediction"]).split()[length:])
    return {key: value for key, value in added.items() if value}


def _changed(before: Declaration, now: Declaration) -> dict[str, Any]:
    """What a declaration may change and yet tells of: the earlier and the present cost, figures and `control_of`."""
    pairs = {key: (getattr(before, key), getattr(now, key)) for key in ("figures", "control_of")}
    pairs["cost"] = (before.texts.get("cost"), now.texts.get("cost"))
    return {key: {"was": was, "is": present} for key, (was, present) in pairs.items() if was != present}


def _portable_factors(plan: Plan) -> dict[str, dict[str, tuple[str, ...]]]:
    return {factor: {name: _portable(o) for name, o in levels.items()} for factor, levels in plan.factors.items()}


def _portable(overrides: Iterable[str]) -> tuple[str, ...]:
    pairs = [override.partition("=") for override in overrides]
    return tuple(f"{key}{sign}{Path(value).name if Path(value).is_absolute() else value}" for key, sign, value in pairs)
