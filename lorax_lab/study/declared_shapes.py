"""The types of a declaration's parts, of both formats, as `lorax_lab.record.shapes` has those of a line."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lorax_lab.record.shapes import NONE, Count, Part, fault_of

MOST_RATES = 100
"""Of a grid, and how often it may be extended."""


class DeclaredArm(Part):
    """An arm; of format 1 its overrides are called words."""

    name: Annotated[str, Field(min_length=1)]
    lowest: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    overrides: list[str] = NONE
    words: list[str] = NONE


class DeclaredProtocol(Part):
    """The rules of a comparison."""

    arms: Annotated[list[DeclaredArm], Field(min_length=1)]
    reference: str
    rates: Annotated[int, Field(ge=1, le=MOST_RATES)]
    factor: Annotated[float, Field(gt=1, allow_inf_nan=False)]
    selection_seeds: Annotated[list[Count], Field(min_length=1)]
    final_seeds: Annotated[list[Count], Field(min_length=1)]
    margin: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    loss_margin: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = NONE
    extensions: Annotated[int, Field(ge=0, le=MOST_RATES)] = NONE

    @model_validator(mode="after")
    def _names(self) -> DeclaredProtocol:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"of the arms {names} two have one name")
        if self.reference not in names:
            raise ValueError(f"the reference {self.reference!r} is none of the arms {names}")
        return self


class DeclaredCell(Part):
    """The settings of an arm in a condition, those that all cells have left out."""

    condition: str
    arm: str
    settings: dict[str, Any]


class DeclaredSettings(Part):
    """The settings of all cells, and of each."""

    all: dict[str, Any]
    cells: list[DeclaredCell]


class Growth(Part):
    """What was added to a declaration, or changed in it, on a day."""

    date: str
    added: dict[str, Any] = NONE
    changed: dict[str, Any] = NONE


Levels = Annotated[dict[str, list[str]], Field(min_length=1)]
"""Overrides by level."""


class Declared(Part):
    """What a study declares; of format 1 it has tasks in the place of factors."""

    format: Literal[1, 2] = NONE
    study: str = NONE
    budget: str = NONE
    question: str = NONE
    prediction: str = NONE
    cost: str = NONE
    protocol: DeclaredProtocol
    tasks: Levels = NONE
    factors: Annotated[dict[str, Levels], Field(min_length=1)] = NONE
    common: list[str] = NONE
    final: dict[str, list[str]] = NONE
    settings: DeclaredSettings = NONE
    neutral: dict[str, Any] = NONE
    apart: list[str] = NONE
    figures: list[str] | None = NONE
    control_of: str | None = NONE
    history: list[Growth] = NONE
    written: str = NONE
    low_share: Annotated[float, Field(gt=0, le=1)] = NONE
    scores: dict[str, tuple[str, bool]] = NONE
    nulls: dict[str, list[str]] = NONE
    earlier: list[Declared] = NONE


def check_declaration(text: str) -> None:
    """Refuse a declaration, as JSON, whose parts are not there, or of other types.

    Raises:
        ValueError: with the first such part.
    """
    if fault := fault_of(Declared, text):
        raise ValueError(fault)
