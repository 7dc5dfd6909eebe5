"""The directions of A of rank 64 that two seeds share, in each layer (Figure 7 of the LoRA paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import style
from .. import similarities
from ..records import Records

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "the directions of A of rank 64 that two seeds share, in each layer (Figure 7 of the LoRA paper)"
SHOWN = (("two seeds of r=64", "A"),)


def table(records: Records) -> pd.DataFrame | None:
    """`similarities.table` of `SHOWN` in every layer, with Gaussian matrices."""
    return similarities.table(records, SHOWN, gaussian=True, every_layer=True)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """`similarities.draw`."""
    return similarities.draw(table, "directions of A of two seeds, LoRA of rank 64")
