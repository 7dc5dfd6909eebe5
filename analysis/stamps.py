"""What is said on a figure that does not show all its runs, or runs that unlike versions made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import missing, versions
from .groups import Group

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Stamps:
    """`lacking`, as `3 of 4 runs`, and `unlike`, as `2 versions of torch`; each is empty where all is well."""

    lacking: str
    unlike: str

    @property
    def texts(self) -> list[str]:
        """Those that are not empty."""
        return [text for text in (self.lacking, self.unlike) if text]


def stamped(group: Group, table: pd.DataFrame) -> tuple[pd.DataFrame, Stamps]:
    """A figure's table, which says of each row by which versions its run was made if they are unlike, and what to
    stamp on the figure."""
    absent = missing.lacking(group, table)
    present = table[["arm", "seed"]].drop_duplicates().shape[0]
    marked, unlike = versions.marked(group, table)
    return marked, Stamps(f"{present} of {present + absent} runs" if absent else "", unlike)
