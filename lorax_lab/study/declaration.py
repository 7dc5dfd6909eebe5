"""What a study declares in `declaration.json`, beside its published runs; and which of its cells each run belongs to.

A run belongs to the cell that has the same settings: all that decide a result, except the learning rate and the seed.
The settings of every cell are part of the declaration, as dotted keys, so that a reader needs no composing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from lorax_lab.config.defaults import flat
from lorax_lab.errors import in_short
from lorax_lab.record.files import write_json
from lorax_lab.study.protocol import Arm, Cell, Protocol

DECLARATION = "declaration.json"
APART = (
    "seed",
    "measure",
    "train.learning_rate",
    "train.device",
    "train.kernel",
    "reference",
    "checkpoint_seconds",
    "time_limit_seconds",
)
"""Settings of a run that do not tell cells apart: the cell's own seed, rate and stage, and what decides no result."""
NEUTRAL: dict[str, Any] = {"train.head": True}
"""What an older record is taken to have for a setting that did not exist yet. A setting not listed here counts as
null."""
LOW_SHARE = 1 / 16
"""The share of a matrix's smaller side up to which a rank is called low, in a declaration that states none."""
TEXTS = ("study", "budget", "question", "prediction", "cost")
ANSWER = "answer"
"""The figure of r* and k*."""

Settings = dict[str, Any]
Pair = tuple[str, str]
"""A condition and an arm."""


@dataclass(frozen=True)
class Declaration:
    """What a study said before its runs.

    Attributes:
        texts: texts for a reader: question, prediction, cost, budget, the module's name.
        factors: overrides by level by factor; a condition is one level of each.
        common: overrides of every run.
        final: overrides of the final runs of an arm, by the arm's name.
        settings: by condition and arm, dotted keys.
        neutral: values of settings in records older than the setting; null for those not named.
        apart: settings that decide no result.
        figures: names of its figures; None means the standard ones.
        control_of: the study that it is a control of.
        history: what was added after the first declaration, and when.
        written: when it was declared (UTC); empty in declarations that are older than the field.
        low_share: a rank up to this share of a matrix's smaller side is called low.
        scores: by condition the primary metric, and whether higher is better; empty in older declarations.
    """

    texts: dict[str, Any]
    protocol: Protocol
    factors: dict[str, dict[str, tuple[str, ...]]]
    common: tuple[str, ...] = ()
    final: dict[str, tuple[str, ...]] = field(default_factory=dict)
    settings: dict[Pair, Settings] = field(default_factory=dict)
    neutral: Settings = field(default_factory=lambda: dict(NEUTRAL))
    apart: tuple[str, ...] = ()
    figures: tuple[str, ...] | None = None
    control_of: str | None = None
    history: tuple[dict[str, Any], ...] = ()
    written: str = ""
    low_share: float = LOW_SHARE
    scores: dict[str, tuple[str, bool]] = field(default_factory=dict)

    @property
    def has_answer(self) -> bool:
        """Whether its figures have the answer: a study that names its figures without it asks something else."""
        return self.figures is None or ANSWER in self.figures

    @cached_property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        """Overrides by condition. A condition is one level of each factor, and its name consists of the levels'
        names."""
        return conditions(self.factors)

    def cell_of(self, line: Mapping[str, Any]) -> Cell | None:
        """The cell that a published run belongs to, by its configuration; None where it belongs to no cell."""
        settings = decisive(line["config"], self.apart)
        pairs = [pair for pair in self.settings if not self._differing(pair, settings)]
        if len(pairs) != 1:
            return None
        (condition, arm), stage = pairs[0], "trial" if line["config"]["measure"] == "trial" else "final"
        return Cell(stage, condition, arm, float(line["config"]["train"]["learning_rate"]), line["seed"])

    def unlike(self, pair: Pair, config: Mapping[str, Any]) -> list[str]:
        """The settings in which a published configuration differs from a cell's, in the order of their names."""
        return self._differing(pair, decisive(config, self.apart))

    def _differing(self, pair: Pair, settings: Settings) -> list[str]:
        declared = self.settings[pair]
        keys = sorted(declared.keys() | settings.keys())
        return [key for key in keys if not same(declared, settings, key, self.neutral)]


def conditions(factors: Mapping[str, Mapping[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    """Every combination of one level of each factor: its name, and the overrides of its levels.

    >>> conditions({"task": {"a": ("task=a",)}, "size": {"3": ("n=3",), "9": ("n=9",)}})
    {'a, 3': ('task=a', 'n=3'), 'a, 9': ('task=a', 'n=9')}
    """
    points = product(*(levels.items() for levels in factors.values()))
    return {", ".join(name for name, _ in point): tuple(o for _, level in point for o in level) for point in points}


def decisive(config: Mapping[str, Any], apart: tuple[str, ...] = ()) -> Settings:
    """A published configuration as dotted keys, without those that do not tell cells apart, `APART` and `apart`.

    >>> decisive({"seed": 1, "rank": 8, "method": {"name": "lora", "alpha": 16}})
    {'rank': 8, 'method.name': 'lora', 'method.alpha': 16}
    """
    return {key: value for key, value in flat(config).items() if key not in APART and key not in apart}


def alike(settings: Mapping[Pair, Settings]) -> list[tuple[Pair, Pair]]:
    """Pairs of cells that no run can tell apart."""
    items = list(settings.items())
    return [
        (first, second)
        for number, (first, one) in enumerate(items)
        for second, other in items[number + 1 :]
        if all(same(one, other, key, {}) for key in one.keys() | other.keys())
    ]


def same(one: Settings, other: Settings, key: str, neutral: Settings) -> bool:
    """Whether a setting has one value in both; absent it has its neutral value."""
    first, second = (settings.get(key, neutral.get(key)) for settings in (one, other))
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=1e-5)  # older runs have six digits
    return bool(first == second)


class DamagedDeclaration(ValueError):
    """A declaration that says too little, or that is no JSON; the message names it."""


def read_declaration(folder: Path) -> Declaration:
    """The declaration in a study's folder.

    Raises:
        DamagedDeclaration: it is not whole.
    """
    path = folder / DECLARATION
    try:
        return _from_content(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else in_short(error)
        raise DamagedDeclaration(f"{folder.name}/{path.name}: it is no declaration of a study: {reason}") from error


def write_declaration(folder: Path, declared: Declaration) -> None:
    """Write a declaration into a study's folder."""
    write_json(folder / DECLARATION, _to_content(declared), indent=1)


def _from_content(content: Mapping[str, Any]) -> Declaration:
    protocol = dict(content["protocol"])
    arms = [Arm(arm["name"], tuple(arm["overrides"]), arm["lowest"]) for arm in protocol.pop("arms")]
    protocol |= {key: tuple(protocol[key]) for key in ("selection_seeds", "final_seeds")}
    factors = {name: {k: tuple(v) for k, v in levels.items()} for name, levels in content["factors"].items()}
    figures = content.get("figures")
    return Declaration(
        texts={key: content[key] for key in TEXTS if key in content},
        protocol=Protocol(arms=tuple(arms), **protocol),
        factors=factors,
        common=tuple(content["common"]),
        final={arm: tuple(overrides) for arm, overrides in content["final"].items()},
        settings=_unfolded(content["settings"], list(conditions(factors)), [arm.name for arm in arms]),
        neutral=dict(content["neutral"]),
        apart=tuple(content["apart"]),
        figures=None if figures is None else tuple(figures),
        control_of=content.get("control_of"),
        history=tuple(content.get("history", ())),
        written=str(content.get("written", "")),
        low_share=float(content.get("low_share", LOW_SHARE)),
        scores={name: (str(score[0]), bool(score[1])) for name, score in content.get("scores", {}).items()},
    )


def _to_content(declared: Declaration) -> dict[str, Any]:
    content = dict(declared.texts) | {"control_of": declared.control_of, "figures": declared.figures}
    content |= {"factors": declared.factors, "common": declared.common, "final": declared.final}
    content |= {"protocol": asdict(declared.protocol), "settings": _folded(declared.settings)}
    content |= {"neutral": declared.neutral, "apart": declared.apart, "scores": declared.scores}
    content |= {"low_share": declared.low_share, "written": declared.written, "history": declared.history}
    return content


def _folded(settings: Mapping[Pair, Settings]) -> dict[str, Any]:
    """The settings of all cells, each written once: those that all have in common, those of a condition, those of an
    arm, and those of single cells.

    >>> cells = {("a", "full"): {"n": 1, "task": "a"}, ("a", "lora"): {"n": 1, "task": "a", "rank": 2}}
    >>> cells |= {("b", "full"): {"n": 1, "task": "b"}, ("b", "lora"): {"n": 1, "task": "b", "rank": 2}}
    >>> _folded(cells) == {
    ...     "all": {"n": 1}, "conditions": {"a": {"task": "a"}, "b": {"task": "b"}}, "arms": {"lora": {"rank": 2}},
    ...     "cells": [],
    ... }
    True
    """
    folded: dict[str, Any] = {"all": _common(settings.values()), "conditions": {}, "arms": {}, "cells": []}
    for place, name in enumerate(("conditions", "arms")):
        for level in dict.fromkeys(pair[place] for pair in settings):
            members = [_left(folded, pair, cell) for pair, cell in settings.items() if pair[place] == level]
            if shared := _common(members):
                folded[name][level] = shared
    for pair, cell in settings.items():
        if rest := _left(folded, pair, cell):
            folded["cells"].append({"condition": pair[0], "arm": pair[1], "settings": rest})
    return folded


def _common(settings: Any) -> Settings:
    first, *rest = list(settings) or [{}]
    return {key: value for key, value in first.items() if all(key in o and o[key] == value for o in rest)}


def _left(folded: Mapping[str, Any], pair: Pair, cell: Settings) -> Settings:
    written = folded["all"] | folded["conditions"].get(pair[0], {}) | folded["arms"].get(pair[1], {})
    return {key: value for key, value in cell.items() if key not in written}


def _unfolded(folded: Mapping[str, Any], names: list[str], arms: list[str]) -> dict[Pair, Settings]:
    single = {(cell["condition"], cell["arm"]): cell["settings"] for cell in folded["cells"]}
    return {
        (name, arm): folded["all"]
        | folded["conditions"].get(name, {})
        | folded["arms"].get(arm, {})
        | single.get((name, arm), {})
        for name in names
        for arm in arms
    }
