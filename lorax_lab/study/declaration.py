"""What a study declares in `<study>.json`, beside its published lines; and which run each line belongs to.

A line belongs to the cell that has the same settings: all that decide a result, except the learning rate and the seed.
The settings of every cell are part of the declaration, as dotted keys, so that a reader needs no composing. A
declaration of format 1 has only the overrides. There a line belongs to the cell if all its overrides agree.
"""

from __future__ import annotations

import hashlib
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
from lorax_lab.record.redact import redacted
from lorax_lab.record.sums import read_checked, write_summed
from lorax_lab.study.protocol import Arm, Cell, Protocol

FORMAT = 2
NOT_HASHED = ("format", "history", "earlier")
"""Parts of a declaration's file that its hash leaves out."""
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
"""Settings of a line that do not tell cells apart: the cell's own seed, rate and stage, and what decides no result."""
NEUTRAL: dict[str, Any] = {"train.head": True}
"""What an older record is taken to have for a setting that did not exist yet. A setting not listed here counts as
null."""

LOW_SHARE = 1 / 16
"""The share of a matrix's smaller side up to which a rank is called low, in a declaration that states none."""

Settings = dict[str, Any]
Pair = tuple[str, str]
"""A condition and an arm."""


ANSWER = "answer"
"""The figure of r* and k*."""


@dataclass(frozen=True)
class Declaration:
    """What a study said before its runs.

    Attributes:
        texts: texts for a reader: question, prediction, cost, budget, the module's name.
        factors: overrides by level by factor; a condition is one level of each.
        common: overrides of every run.
        final: overrides of the final runs of an arm, by the arm's name.
        settings: by condition and arm, dotted keys; empty in format 1.
        neutral: values of settings in records older than the setting; null for those not named.
        apart: settings that decide no result.
        figures: names of its figures; None means the standard ones.
        control_of: the study that it is a control of.
        history: what was added after the first declaration, and when.
        written: when it was declared (UTC); empty in declarations that are older than the field.
        low_share: a rank up to this share of a matrix's smaller side is called low.
        scores: by condition the primary metric, and whether higher is better; empty in older declarations.
        nulls: by method the settings that are hashed as null where they are absent.
        earlier: the contents of the declarations that this one continues, the first one first.
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
    nulls: dict[str, tuple[str, ...]] = field(default_factory=dict)
    earlier: tuple[dict[str, Any], ...] = ()

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
        """The cell that a published line belongs to, by its configuration; None where it belongs to no cell."""
        own = decisive(line["config"], self.apart)
        pairs = [pair for pair, declared in self.cells.items() if self._agree(declared, own)]
        if len(pairs) != 1:
            return None
        (condition, arm), stage = pairs[0], "trial" if line["config"]["measure"] == "trial" else "final"
        return Cell(stage, condition, arm, float(line["config"]["train"]["learning_rate"]), line["seed"])

    @cached_property
    def cells(self) -> dict[Pair, Settings]:
        """The settings of every cell; of format 1 those that its overrides make."""
        return {pair: self.settings[pair] for pair in self.by_overrides if pair in self.settings} or self.by_overrides

    @cached_property
    def by_overrides(self) -> dict[Pair, Settings]:
        """The settings that each cell's overrides make by themselves."""
        return {
            (name, arm.name): dict(map(_setting, (*self.common, *overrides, *arm.overrides)))
            for name, overrides in self.conditions.items()
            for arm in self.protocol.arms
        }

    @cached_property
    def sha256(self) -> str:
        """The hash of all that was declared: plan, margin, what is called low, prediction, and when."""
        text = json.dumps(own_content(self), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def versions(self) -> tuple[Declaration, ...]:
        """The declarations of a study that grew, the first one first, this one last."""
        return (*(from_content(content) for content in self.earlier), self)

    def unlike(self, pair: Pair, config: Mapping[str, Any]) -> list[str]:
        """The settings in which a published configuration differs from a cell's, in the order of their names."""
        declared, own = self.cells[pair], decisive(config, self.apart)
        return sorted(key for key in self._compared(declared, own) if not same(declared, own, key, self.neutral))

    def _agree(self, declared: Settings, own: Settings) -> bool:
        return all(same(declared, own, key, self.neutral) for key in self._compared(declared, own))

    def _compared(self, declared: Settings, own: Settings) -> set[str]:
        return declared.keys() | own.keys() if self.settings else declared.keys() - {"task.path"}  # which no line keeps


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
    """Pairs of cells that no line can tell apart."""
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
        return math.isclose(first, second, rel_tol=1e-5)  # a line is rounded
    return bool(first == second)


def _setting(override: str) -> tuple[str, Any]:
    """An override of format 1 as the setting that it makes: `method=lora` names a group's file."""
    import yaml

    key, _, text = override.partition("=")
    if key in ("task", "method"):
        return f"{key}.name", text
    value = yaml.safe_load(text)
    return key, sorted(value) if isinstance(value, list) else value


class DamagedDeclaration(ValueError):
    """A declaration that is not what was written, or that says too little; the message names it."""


def read_declaration(path: Path) -> Declaration:
    """The declaration in `<study>.json`, of format 1 or 2.

    Raises:
        DamagedDeclaration: it is not whole, or its checksum does not match.
    """
    checked = read_checked(path)
    if checked.damages:
        raise DamagedDeclaration("; ".join(checked.damages))
    from lorax_lab.study.declared_shapes import check_declaration

    try:
        check_declaration(checked.text)
        declared = from_content(json.loads(checked.text))
        [one.conditions for one in declared.versions]
        declared.protocol.ranked()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else in_short(error)
        raise DamagedDeclaration(f"{path.name}: it is no declaration of a study: {what}") from error
    return declared


def write_declaration(path: Path, declared: Declaration) -> None:
    """Write a declaration, in format 2, with its checksums."""
    write_summed(path, json.dumps(redacted(to_content(declared)), indent=1, ensure_ascii=False) + "\n")


def own_content(declared: Declaration) -> dict[str, Any]:
    """What a declaration says by itself, as its file has it. What is empty is left out, so that a part that comes later
    does not change the hash of what was declared without it."""
    content = redacted(to_content(declared))
    content["protocol"] = {key: value for key, value in content["protocol"].items() if value is not None}
    return {key: value for key, value in content.items() if key not in NOT_HASHED and value not in (None, "", [], {})}


def from_content(content: Mapping[str, Any]) -> Declaration:
    """A declaration from what its file holds."""
    protocol = dict(content["protocol"])
    arms = [Arm(a["name"], tuple(a.get("overrides", a.get("words"))), a["lowest"]) for a in protocol.pop("arms")]
    protocol |= {key: tuple(protocol[key]) for key in ("selection_seeds", "final_seeds")}
    factors = content.get("factors") or {"task": content["tasks"]}
    written = content.get("settings", {"all": {}, "cells": []})
    cells = {(c["condition"], c["arm"]): written["all"] | c["settings"] for c in written["cells"]}
    figures = content.get("figures")
    return Declaration(
        texts={key: content[key] for key in ("study", "budget", "question", "prediction", "cost") if key in content},
        protocol=Protocol(arms=tuple(arms), **protocol),
        factors={name: {k: tuple(v) for k, v in levels.items()} for name, levels in factors.items()},
        common=tuple(content.get("common", ())),
        final={arm: tuple(overrides) for arm, overrides in content.get("final", {}).items()},
        settings=cells,
        neutral=dict(content.get("neutral", NEUTRAL)),
        apart=tuple(content.get("apart", ())),
        figures=None if figures is None else tuple(figures),
        control_of=content.get("control_of"),
        history=tuple(content.get("history", ())),
        written=str(content.get("written", "")),
        low_share=float(content.get("low_share", LOW_SHARE)),
        scores={name: (str(score[0]), bool(score[1])) for name, score in content.get("scores", {}).items()},
        nulls={method: tuple(keys) for method, keys in content.get("nulls", {}).items()},
        earlier=tuple(content.get("earlier", ())),
    )


def to_content(declaration: Declaration) -> dict[str, Any]:
    """What a declaration's file holds, in format 2; settings that all cells have in common are written once."""
    d = declaration
    first, *others = d.settings.values() or ({},)
    shared = {key: v for key, v in first.items() if all(key in o and o[key] == v for o in others)}
    cells = [
        {"condition": condition, "arm": arm, "settings": {k: v for k, v in own.items() if k not in shared}}
        for (condition, arm), own in d.settings.items()
    ]
    content = {"format": FORMAT} | d.texts | {"control_of": d.control_of, "figures": d.figures}
    content |= {"factors": d.factors, "common": d.common, "final": d.final, "protocol": asdict(d.protocol)}
    content |= {"settings": {"all": shared, "cells": cells}, "neutral": d.neutral, "apart": d.apart}
    content |= {"scores": d.scores, "nulls": d.nulls, "low_share": d.low_share, "written": d.written}
    content |= {"history": d.history, "earlier": d.earlier}
    return dict(json.loads(json.dumps(content)))
