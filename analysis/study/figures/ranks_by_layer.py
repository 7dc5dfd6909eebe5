"""The directions of A that rank 8 and rank 64 share, in each layer (Figure 6 of the LoRA paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import style
from .. import similarities
from ..records import Records

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "the directions of A that rank 8 and rank 64 share, in each layer (Figure 6 of the LoRA paper)"
SHOWN = (("r=8 and r=64", "A"),)


def table(records: Records) -> pd.DataFrame | None:
    """`similarities.table` of `SHOWN` in every layer."""
    return similarities.table(records, SHOWN, every_layer=True)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """`similarities.draw`."""
    return similarities.draw(table, "directions of A of rank 8 (i) and of rank 64 (j)")
