"""The directions that W and its update share (Figure 8 of the LoRA paper)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import style
from .. import similarities
from ..records import Records

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "the directions that W and its update share (Figure 8 of the LoRA paper)"
PAIRS = ("W and r=4", "W and r=8", "W and r=64", "W and full")
SHOWN = tuple((pair, side) for pair in PAIRS for side in ("row", "column"))


def table(records: Records) -> pd.DataFrame | None:
    """`similarities.table` of `SHOWN`, with Gaussian matrices."""
    return similarities.table(records, SHOWN, gaussian=True)


@style.styled
def draw(table: pd.DataFrame) -> Figure:
    """`similarities.draw`."""
    return similarities.draw(table, "directions of W (i) and of its update (j)")
