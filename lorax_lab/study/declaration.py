"""What a study declares in `declaration.json`, beside its published runs; and which of its cells each run belongs to:
that of the same settings, all that decide a result but the learning rate and the seed."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from lorax_lab.config.defaults import flat
from lorax_lab.record.files import write_json
from lorax_lab.study.protocol import Cell, Protocol

DECLARATION = "declaration.json"
APART = (
    *("seed", "measure", "train.learning_rate", "train.device", "train.kernel", "reference"),
    *("checkpoint_seconds", "time_limit_seconds"),
)
"""Settings of a run that do not tell cells apart: the cell's own seed, rate and stage, and what decides no result."""
NEUTRAL: dict[str, Any] = {"train.head": True}
"""What an older record is taken to have for a setting that did not exist yet. A setting not listed here counts as
null."""
TEXTS = ("study", "question", "prediction", "cost")
ANSWER = "answer"
"""The figure of r* and k*."""

Settings = dict[str, Any]
Pair = tuple[str, str]
"""A condition and an arm."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """What a study runs: a grid of factors, times arms, under a protocol.

    Attributes:
        protocol: the fair comparison, with its arms.
        factors: overrides by level by factor, as `{"task": {"sarcasm": ("task=sarcasm",)}}`. Arms are compared within
            each condition, which is one level of every factor.
        common: overrides of every run.
        final: overrides of the final runs of an arm, by the arm's name.
        figures: names in `analysis.study.figures.FIGURES`; None means the standard ones.
        control_of: the study that it is a control of.
        against: arms that the page compares the others with too, as it does with the reference. What the study asks is
            answered by the first of them.
    """

    protocol: Protocol
    factors: Mapping[str, Mapping[str, tuple[str, ...]]]
    common: tuple[str, ...] = ()
    final: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    figures: tuple[str, ...] | None = None
    control_of: str | None = None
    against: tuple[str, ...] = ()

    @cached_property
    def levels(self) -> dict[str, dict[str, str]]:
        """The level of each factor by condition."""
        points = product(*self.factors.values())
        return {", ".join(names): dict(zip(self.factors, names, strict=True)) for names in points}

    @cached_property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        """Overrides by condition: one level of each factor. Its name consists of the levels' names."""
        points = product(*(levels.items() for levels in self.factors.values()))
        return {", ".join(name for name, _ in point): tuple(o for _, level in point for o in level) for point in points}


@dataclass(frozen=True, kw_only=True)
class Declaration(Design):
    """What a study said before its runs.

    Attributes:
        texts: texts for a reader: question, prediction, cost, the module's name.
        settings: by condition and arm, dotted keys.
        neutral: values of settings in records older than the setting; null for those not named.
        apart: settings that decide no result.
        scores: by condition the primary metric, and whether higher is better; empty in older declarations.
        written: when it was declared (UTC); empty in declarations that are older than the field.
        history: what was added after the first declaration, and when.
    """

    texts: dict[str, Any] = field(default_factory=dict)
    settings: dict[Pair, Settings] = field(default_factory=dict)
    neutral: Settings = field(default_factory=lambda: dict(NEUTRAL))
    apart: tuple[str, ...] = ()
    scores: dict[str, tuple[str, bool]] = field(default_factory=dict)
    written: str = ""
    history: tuple[dict[str, Any], ...] = ()

    @property
    def has_answer(self) -> bool:
        """Whether its figures have the answer: a study that names its figures without it asks something else."""
        return self.figures is None or ANSWER in self.figures

    def cell_of(self, line: Mapping[str, Any]) -> Cell | None:
        """The cell that a published run belongs to, by its configuration; None where it belongs to no cell."""
        config = line["config"]
        settings = decisive(config, self.apart)
        pairs = [pair for pair in self.settings if not self.unlike(pair, settings)]
        if len(pairs) != 1:
            return None
        stage = "trial" if config["measure"] == "trial" else "final"
        return Cell(stage, *pairs[0], float(config["train"]["learning_rate"]), line["seed"])

    def unlike(self, pair: Pair, settings: Settings) -> list[str]:
        """The settings that differ from a cell's, in the order of their names."""
        declared = self.settings[pair]
        keys = sorted(declared.keys() | settings.keys())
        return [key for key in keys if not same(declared, settings, key, self.neutral)]


def decisive(config: Mapping[str, Any], apart: tuple[str, ...] = ()) -> Settings:
    """A published configuration as dotted keys, without those that do not tell cells apart, `APART` and `apart`.

    >>> decisive({"seed": 1, "rank": 8, "method": {"name": "lora", "alpha": 16}})
    {'rank': 8, 'method.name': 'lora', 'method.alpha': 16}
    """
    return {key: value for key, value in flat(config).items() if key not in APART and key not in apart}


def same(one: Settings, another: Settings, key: str, neutral: Settings) -> bool:
    """Whether a setting has one value in both; absent it has its neutral value."""
    first, second = (settings.get(key, neutral.get(key)) for settings in (one, another))
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=1e-5)  # older runs have six digits
    return bool(first == second)


def read_declaration(folder: Path) -> Declaration:
    """The declaration in a study's folder.

    Raises:
        OSError, ValueError, KeyError: it is not whole.
    """
    from pydantic import TypeAdapter

    content = json.loads((folder / DECLARATION).read_text(encoding="utf-8"))
    content["texts"] = {key: content[key] for key in TEXTS if key in content}
    declared = TypeAdapter(Declaration).validate_python(content | {"settings": {}})
    arms = [arm.name for arm in declared.protocol.arms]
    settings = {pair: _unfolded(content["settings"], pair) for pair in product(declared.conditions, arms)}
    return replace(declared, settings=settings)


def write_declaration(folder: Path, declared: Declaration) -> None:
    """Write a declaration into a study's folder; the settings that all cells have in common stand there once."""
    content = {item.name: getattr(declared, item.name) for item in fields(declared)}
    content |= content.pop("texts") | {"protocol": asdict(declared.protocol)}
    first, *rest = declared.settings.values() or [{}]
    common = {key: value for key, value in first.items() if all(key in o and o[key] == value for o in rest)}
    cells = [
        {"condition": condition, "arm": arm, "settings": {key: v for key, v in cell.items() if key not in common}}
        for (condition, arm), cell in declared.settings.items()
    ]
    write_json(folder / DECLARATION, content | {"settings": {"all": common, "cells": cells}}, indent=1)


def _unfolded(folded: Mapping[str, Any], pair: Pair) -> Settings:
    """The settings of a cell; older declarations have those of its condition and of its arm apart."""
    condition, arm = pair
    settings = folded["all"] | folded.get("conditions", {}).get(condition, {}) | folded.get("arms", {}).get(arm, {})
    for cell in folded["cells"]:
        if (cell["condition"], cell["arm"]) == pair:
            settings = settings | cell["settings"]
    return settings
