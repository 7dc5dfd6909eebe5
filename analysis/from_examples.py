"""The standard error of a score that is no share of right answers, from what each test example adds to it."""

from __future__ import annotations

import math
from pathlib import Path
from zipfile import BadZipFile

from lorax_lab.record.folder import OUTPUTS, load_arrays
from lorax_lab.study.answers import PSEUDO_VALUES


def error_on_test(folder: Path) -> float:
    """s / √n over a run's n pseudo-values (`tasks.kind.Metric`), as a card and a verdict take it; NaN where the run has
    none."""
    try:
        values = load_arrays(folder, OUTPUTS)["test"][PSEUDO_VALUES]
    except (OSError, ValueError, KeyError, BadZipFile):
        return math.nan
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
