"""Which arms of LoRA were trained at another learning rate than most: with one seed to choose by, often of a tie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .markdown import listed

if TYPE_CHECKING:
    import pandas as pd

RATE = "learning_rate"


def usual(rows: pd.DataFrame) -> float | None:
    """The learning rate of most arms of LoRA on one task, the lowest of several; None where no arm has a rank.

    Args:
        rows: of one task, as `comparison.table` has them.

    >>> import pandas as pd
    >>> usual(pd.DataFrame({"rank": [None, 1, 2, 4], "learning_rate": [7e-5, 2e-3, 1e-3, 2e-3]}))
    0.002
    """
    counts = rows.loc[rows["rank"].notna(), RATE].value_counts()
    return float(counts[counts == counts.max()].index.min()) if len(counts) else None


def is_unlike(rows: pd.DataFrame) -> np.ndarray:
    """Which arms of LoRA have another rate than most of them, (arms,); none of another method has."""
    most = usual(rows)
    same = rows[RATE].map(lambda rate: most is not None and bool(np.isclose(rate, most)))
    return np.asarray(rows["rank"].notna() & ~same, dtype=bool)


def others(rows: pd.DataFrame) -> str:
    """Those rates and that of most, in words; nothing where all arms of LoRA have one rate.

    >>> import pandas as pd
    >>> others(pd.DataFrame({"rank": [1, 2, 4], "learning_rate": [2e-3, 1e-3, 2e-3]}))
    'learning rate 0.001, not 0.002'
    """
    unlike = sorted({f"{rate:g}" for rate in rows.loc[is_unlike(rows), RATE]}, key=float)
    return f"learning rate {listed(unlike)}, not {usual(rows):g}" if unlike else ""
