"""The directions that rank 8 and rank 64 share (Figures 3 and 6 of the LoRA paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import style
from .. import similarities
from ..records import Records

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "the directions that rank 8 and rank 64 share (Figures 3 and 6 of the LoRA paper)"
SHOWN = (("r=8 and r=64", "A at the start"), ("r=8 and r=64", "A"), ("r=8 and r=64", "row"), ("r=8 and r=64", "column"))


def table(records: Records) -> pd.DataFrame | None:
    """`similarities.table` of `SHOWN`."""
    return similarities.table(records, SHOWN)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """`similarities.draw`."""
    return similarities.draw(table, "directions of rank 8 (i) and of rank 64 (j)")
