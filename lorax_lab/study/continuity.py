"""Which declaration a run followed, and whether a later declaration keeps what an earlier one said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorax_lab.study.declaration import ANSWER, Declaration, same

KEY = "declaration"
"""The key under which a published line has the hash of the declaration that its run followed."""
TEXTS = ("question", "budget")
"""Texts that stay as they were declared. The prediction may become longer."""
FIXED = ("reference", "rates", "factor", "selection_seeds", "final_seeds", "margin", "loss_margin", "extensions")
"""The parts of the protocol that stay as they were declared. Were three seeds added to five whose scores are known, an
arm at the margin would pass in .041 of studies, and not in .025."""


def followed(declarations: Sequence[Declaration], line: Mapping[str, Any]) -> int:
    """The place in a study's `versions` of the declaration that a run followed: the latest that was written before the
    run's record, or the first one."""
    return max((i for i, declared in enumerate(declarations) if declared.written <= line["written"]), default=0)


def broken_promises(before: Declaration, now: Declaration) -> list[str]:
    """What an earlier declaration said and a later one says otherwise. Arms, levels and a prediction for these may be
    added."""
    broken = [*_protocol(before, now), *_grid(before, now)]
    if before.has_answer and not now.has_answer:
        broken.append(f"the figure {ANSWER} is gone, and with it the verdict")
    if before.control_of != now.control_of:
        broken.append(_change("the study that it is a control of", before.control_of or "none", now.control_of))
    if before.common != now.common:
        broken.append(_change("common overrides", before.common, now.common))
    for arm in (arm.name for arm in before.protocol.arms):
        was, is_now = before.final.get(arm, ()), now.final.get(arm, ())
        broken += [_change(f"final overrides of {arm}", was, is_now)] if was != is_now else []
    if before.low_share != now.low_share:
        broken.append(_change("the share that is called low", before.low_share, now.low_share))
    return broken + _settings(before, now) + _texts(before.texts, now.texts)


def lost(before: Declaration, now: Declaration) -> list[str]:
    """What a later declaration does not have of an earlier one of the same study: cells, metrics, its history."""
    gone = [f"the settings of {', '.join(pair)}" for pair in before.settings if pair not in now.settings]
    gone += [f"the metric of {name}" for name, score in before.scores.items() if now.scores.get(name) != score]
    gone += ["its history"] if now.history[: len(before.history)] != before.history else []
    return [f"{what} is gone" for what in gone]


def _texts(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    def words(texts: Mapping[str, Any], key: str) -> list[str]:
        return str(texts.get(key, "")).split()

    broken = [f"the {k} was changed" for k in TEXTS if k in before and words(before, k) != words(now, k)]
    was, is_now = words(before, "prediction"), words(now, "prediction")
    if is_now[: len(was)] != was:
        broken.append("the prediction was changed (a new one may follow the old text)")
    return broken


def _protocol(before: Declaration, now: Declaration) -> list[str]:
    was, is_now = before.protocol, now.protocol
    values = [(key, getattr(was, key), getattr(is_now, key)) for key in FIXED]
    broken = [_change(*value) for value in values if value[1] != value[2]]
    arms = {arm.name: arm for arm in is_now.arms}
    for arm in was.arms:
        other = arms.get(arm.name)
        if other is None:
            broken.append(f"the arm {arm.name} is gone")
        elif (arm.overrides, arm.lowest) != (other.overrides, other.lowest):
            said = ([*arm.overrides, arm.lowest], [*other.overrides, other.lowest])
            broken.append(_change(f"the arm {arm.name}", *said))
    return broken


def _grid(before: Declaration, now: Declaration) -> list[str]:
    if list(before.factors) != list(now.factors):
        return [_change("factors", list(before.factors), list(now.factors))]
    return [
        _change(f"{factor} {name}", overrides, now.factors[factor].get(name))
        for factor, levels in before.factors.items()
        for name, overrides in levels.items()
        if now.factors[factor].get(name) != overrides
    ]


def _settings(before: Declaration, now: Declaration) -> list[str]:
    """Settings of the same cell that differ, where both declarations have them."""
    return [
        f"{key} of {', '.join(pair)} was {own[key]} and is {now.settings[pair].get(key)}"
        for pair, own in before.settings.items()
        for key in own
        if pair in now.settings and not same(own, now.settings[pair], key, now.neutral)
    ]


def _change(key: str, was: object, now: object) -> str:
    if now is None:
        return f"{key} is gone"
    return f"{key} was {_text(was)} and is {_text(now)}"


def _text(value: object) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)
