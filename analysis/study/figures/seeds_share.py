"""The directions that two seeds share, of LoRA and of full fine-tuning (Figures 4 and 7 of the LoRA paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import style
from .. import similarities
from ..records import Records

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "the directions that two seeds share, of LoRA and of full fine-tuning (Figures 4 and 7 of the LoRA paper)"
SHOWN = (
    ("two seeds of r=64", "A at the start"),
    ("two seeds of r=64", "A"),
    ("two seeds of r=64", "row"),
    ("two seeds of r=64", "column"),
    ("two seeds of full", "row"),
    ("two seeds of full", "column"),
)


def table(records: Records) -> pd.DataFrame | None:
    """`similarities.table` of `SHOWN`, with Gaussian matrices."""
    return similarities.table(records, SHOWN, gaussian=True)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """`similarities.draw`."""
    return similarities.draw(table, "directions of two seeds, of LoRA of rank 64 and of full fine-tuning")
