"""Which arms of LoRA were trained at another learning rate than most: with one seed to choose by, often of a tie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .latex import escaped
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


def notes(table: pd.DataFrame) -> list[str]:
    """The arms at other rates, a sentence of LaTeX for each task that has any.

    >>> import pandas as pd
    >>> rows = {"task": "sarcasm", "arm": [*"abcde"], "rank": [1, 2, 4, 8, 16], "learning_rate": [4, 1, 2, 1, 1]}
    >>> notes(pd.DataFrame(rows))
    ['sarcasm: c at a learning rate 2 and a at 4, not 1 as most arms of LoRA.']
    """
    sentences = []
    for task, of_task in table.groupby("task", sort=False):
        unlike = of_task[is_unlike(of_task)]
        arms = [(f"{rate:g}", listed(of["arm"])) for rate, of in unlike.groupby(RATE)]
        told = [f"{names} at {'' if place else 'a learning rate '}{rate}" for place, (rate, names) in enumerate(arms)]
        if told:
            sentences.append(escaped(f"{task}: {listed(told)}, not {usual(of_task):g} as most arms of LoRA."))
    return sentences
