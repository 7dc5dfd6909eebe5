"""By how much an update amplifies the directions of W that it uses: the claims of Table 7 of the LoRA paper.

The factor of an update is ‖ΔW‖_F / ‖UᵀW V‖_F, with U and V its first r directions. Beside it stand those of a Gaussian
matrix of its norm, and of W's own top directions.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from lorax_lab.record.statistics import Interval, t_interval

from ..study.figures.directions import LORA, is_lora
from ..study.records import Records
from .directions import LOW, MANY
from .readings import Readings, above

FACTOR, GAUSSIAN, OWN = "factor", "gaussian_factor", "base_factor"


def by_update(records: Records, task: str) -> dict[tuple[str, int], pd.DataFrame]:
    """The factors of a task's matrices by update (LoRA, or full) and r."""
    factors = pd.DataFrame(records.rows.get("factors", ()))
    if not len(factors):
        return {}
    by_arm: Any = factors[factors["condition"] == task].groupby(["arm", "r"], sort=False)
    return {(LORA if is_lora(arm) else arm, r): group for (arm, r), group in by_arm}


def median(rows: pd.DataFrame, key: str) -> Interval:
    """The geometric mean over seeds of the median over matrices; NaN where a median is 0 or no number."""
    return _geometric(_logs(_medians(rows[key], rows["seed"])))


def ratio(rows: pd.DataFrame, over: str, divisor: str) -> Interval:
    """The ratio of two factors, taken matrix by matrix: the geometric mean over seeds of the median over matrices."""
    return _geometric(_medians(_logs(rows[over]) - _logs(rows[divisor]), rows["seed"]))


def _logs(values: pd.Series[float]) -> pd.Series[float]:
    """NaN where a value is 0 or no number."""
    return values.where((values > 0) & (values < math.inf)).map(math.log, na_action="ignore")


def _medians(values: pd.Series[float], seeds: pd.Series[int]) -> pd.Series[float]:
    """By seed; NaN where one of its values is."""
    return values.groupby(seeds).agg(lambda of_seed: of_seed.median(skipna=False))


def _geometric(logs: pd.Series[float]) -> Interval:
    """The geometric mean of ratios, with Student's interval over their logarithms."""
    return t_interval(logs.tolist()).mapped(math.exp)


# ---- the claims, of LoRA's update; noise is a Gaussian update of its norm


def larger_than_in_gaussian(records: Records, task: str, *, is_noise: bool = False) -> Readings:
    """Whether W is larger in the update's directions than in those of a Gaussian update, whose ratio is 1."""
    return _by_rank(records, task, GAUSSIAN, GAUSSIAN if is_noise else FACTOR, 1.0)


def larger_in_its_own(records: Records, task: str, *, is_noise: bool = False, times: float) -> Readings:
    """Whether W is larger in its own top directions than in the update's."""
    return _by_rank(records, task, GAUSSIAN if is_noise else FACTOR, OWN, times)


def _by_rank(records: Records, task: str, over: str, divisor: str, times: float) -> Readings:
    of_lora = {r: rows for (update, r), rows in by_update(records, task).items() if update == LORA}
    return {f"r = {r}": above(ratio(rows, over, divisor), times) for r, rows in of_lora.items()}


def factor_falls(records: Records, task: str, *, is_noise: bool = False, times: float) -> Readings:
    """Whether the factor falls from r = 4 to r = 64."""
    matrices = by_update(records, task)
    if (LORA, LOW) not in matrices or (LORA, MANY) not in matrices:
        return {}
    key = GAUSSIAN if is_noise else FACTOR
    pairs = matrices[LORA, LOW].merge(matrices[LORA, MANY], on=["seed", "matrix"], suffixes=("_few", "_many"))
    return {"fall": above(ratio(pairs, f"{key}_few", f"{key}_many"), times)}
