"""The types of the rows that were measured afterwards, by the name of their file; those of other names are free."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lorax_lab.record.shapes import Count, Part, Positive, fault_of

Share = Annotated[float, Field(ge=0, le=1.001)]
"""φ, rounded."""
Thousandths = Annotated[int, Field(ge=0, le=1000)]
BYTES = 2
"""Of a number of a direction, which is kept in half precision."""


class Head(Part):
    """The line before the rows of a condition; a head that was damaged names neither runs nor a number."""

    condition: str
    runs: list[str] | None
    rows: Count | None


class Row(Part):
    """What every row has."""

    condition: str


class Similarity(Row):
    """φ(i, j) of pairs of runs in one matrix (`lorax_lab.afterwards.similarities`).

    Attributes:
        adapted: which types of matrix LoRA adapts, where it is not every one.
    """

    pair: str
    side: str
    adapted: str | None = None
    matrix: str
    module: str
    layer: int | None
    d: Positive
    i: list[Positive]
    j: list[Positive]
    phi: list[list[Thousandths]]
    each: dict[str, list[Share]]

    @model_validator(mode="after")
    def _whole(self) -> Similarity:
        if len(self.phi) != len(self.i) or {len(row) for row in self.phi} != {len(self.j)}:
            raise ValueError(f"phi has not {len(self.i)} rows of {len(self.j)} numbers")
        return self


class Factors(Row):
    """By how much an update amplifies directions of its base (`lorax_lab.afterwards.amplification`)."""

    arm: str
    seed: Count
    matrix: str
    module: str
    layer: int | None
    r: Positive
    factor: float
    random_factor: float
    base_factor: float
    gaussian_factor: float
    delta_norm: float
    base_in_delta: float
    base_in_random: float
    base_in_base: float


class SetCut(Row):
    """Which answers are right when the full update is cut in a set of matrices (`lorax_lab.afterwards.sets`)."""

    seed: Count
    set: str
    k: Count | Literal["whole"]
    correct: Annotated[str, Field(pattern="^([0-9a-f]{2})+$")]


class Directions(Row):
    """The top directions of one side of an update (`lorax_lab.afterwards.directions`)."""

    arm: str
    seed: Count
    matrix: str
    side: str
    k: Positive
    d: Positive
    vectors: str

    @model_validator(mode="after")
    def _whole(self) -> Directions:
        try:
            size = len(base64.b64decode(self.vectors, validate=True))
        except binascii.Error as error:
            raise ValueError("vectors is not base64") from error
        if size != BYTES * self.k * self.d:
            raise ValueError(f"vectors has {size} bytes, where k and d ask for {BYTES * self.k * self.d}")
        return self


SHAPES: Mapping[str, type[Part]] = {
    "similarities": Similarity,
    "factors": Factors,
    "sets": SetCut,
    "directions": Directions,
}


def check_row(name: str, text: str, is_head: bool = False) -> None:
    """Refuse a row, as JSON, whose parts are not there, or of other types.

    Args:
        name: of the file.

    Raises:
        ValueError: with the first such part.
    """
    if fault := fault_of(Head if is_head else SHAPES.get(name, Row), text):
        raise ValueError(fault)
