"""The full update itself: its spectral ranks beside noise and rounding, the scores of its cuts, and the directions that
seeds share."""

import math
from collections.abc import Iterable
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from lorax_lab.record.statistics import Interval, Smallest, crossed, smallest, t_interval
from lorax_lab.spectra import NULLS, tells_spikes
from lorax_lab.study.answers import CUT_PARTS
from lorax_lab.study.published import Line

from .comparison import added, added_by_cuts, seeds_of
from .records import KEPT, Records, score_of

MEASURES = (
    *("effective_rank", "stable_rank", "participation_ratio"),
    *("energy_rank_90", "energy_rank_95", "energy_rank_99"),
)
"""Those of `spectra.MEASURES` that a study's pages and tables show: the ranks that papers report, and three shares of
the energy. A line has every other measure too, derived from σ."""
COUNTS = ("spikes", "above_rounding", "bulk_misfit", "relative_norm")
"""Measures without a null of their own: directions above the fitted noise, NaN where a bulk is not that of iid noise,
values above fp32 rounding, how far the bulk is from noise, and ‖ΔW‖ / ‖W0‖."""
ALL = "all"


def lines_of(records: Records, task: str) -> list[Line]:
    """The completed final runs of the reference, whose updates are looked at, by seed."""
    return list(seeds_of(records, task, records.protocol.reference).values())


@lru_cache(maxsize=KEPT * 16)
def spectral(records: Records, task: str, by: str = "module") -> pd.DataFrame:
    """One row per group and measure: the mean over the group's matrices, its t interval over the seeds, and the null's.

    Args:
        by: `module` or `layer`; the group `all` holds every matrix.

    Returns:
        Columns task, group, matrices, measure, mean, low, high, seeds, null, gaussian: the last is what the lab reads
        off Gaussian matrices of the updates' shapes and norms, where they were drawn.
    """
    lines = lines_of(records, task)
    first = lines[0]["matrices"] if lines else {}
    groups = {ALL: list(first)}
    for name, row in first.items():
        groups.setdefault(row[by], []).append(name)
    rows = []
    for (group, names), measure in product(groups.items(), (*MEASURES, *COUNTS)):
        interval = t_interval([_mean(line["matrices"], names, measure) for line in lines])
        row = {"task": task, "group": group, "matrices": len(names), "measure": measure}
        row |= {"mean": interval.mean, "low": interval.low, "high": interval.high, "seeds": interval.count}
        null = [first[name]["null"][measure] for name in names if measure in first[name]["null"]]
        drawn = [_mean(line["gaussian"], names, measure) for line in lines if line.get("gaussian") and null]
        row |= {"null": float(np.mean(null)) if null else None}
        rows.append(row | {"gaussian": float(np.mean(drawn)) if drawn else None})
    return pd.DataFrame(rows)


def structured(records: Records, task: str) -> dict[str, dict[str, float]]:
    """Of each null that keeps something of the update's structure, by name, the mean of every measure over matrices and
    seeds; none where they were not drawn."""
    rows = [row["nulls"] for line in lines_of(records, task) for row in line["matrices"].values() if row.get("nulls")]
    return {name: {key: _mean_of(row[name].get(key) for row in rows) for key in MEASURES} for name in NULLS if rows}


def _mean_of(values: Iterable[float | None]) -> float:
    """NaN where a value is missing."""
    return float(np.mean([math.nan if value is None else value for value in values]))


def has_cuts(records: Records) -> bool:
    """Whether the reference's updates were cut in every condition, as those of full fine-tuning are."""
    return all(any(line.get("functional") for line in lines_of(records, task)) for task in records.conditions)


def asks_how_low(records: Records) -> bool:
    """Whether the study asks how low the rank is: its full updates were cut, and its figures have the answer."""
    return records.declared.has_answer and has_cuts(records)


@lru_cache(maxsize=KEPT * 16)
def functional(records: Records, task: str) -> pd.DataFrame:
    """One row per part, module, k and seed: the validation score, and its difference from the whole update's."""
    rows = []
    for line in lines_of(records, task):
        uncut = score_of(line, "validation")
        for part, k, module, score in line["functional"]:
            row = {"task": task, "part": part, "module": module or ALL, "k": k, "seed": line["seed"]}
            rows.append(row | {"score": score, "difference": score - uncut})
    return pd.DataFrame(rows)


def functional_on_test(records: Records, task: str) -> pd.DataFrame:
    """As `functional`, of the cuts by their scores on test; empty where no line has them."""
    rows = []
    for line in lines_of(records, task):
        for k, values in added_by_cuts(line, "cut").items():
            score = float(values.mean())
            row = {"task": task, "part": "cut", "k": k, "module": ALL, "seed": line["seed"], "score": score}
            rows.append(row | {"difference": score - score_of(line, "test")})
    return pd.DataFrame(rows)


def _differences_by_k(cuts: pd.DataFrame, part: str, module: str) -> dict[int, np.ndarray]:
    """The differences from the whole update on validation, (seeds, 1), by each k that every seed has."""
    rows = cuts[(cuts["part"] == part) & (cuts["module"] == module)]
    by_k: dict[Any, pd.Series[float]] = dict(iter(rows.groupby("k")["difference"]))
    seeds = rows["seed"].nunique()  # a search for k90 scores other cuts of each seed
    return {int(k): values.to_numpy(dtype=float)[:, None] for k, values in by_k.items() if len(values) == seeds}


def cut_intervals(cuts: pd.DataFrame, part: str, module: str = ALL) -> dict[int, Interval]:
    """The t interval over the seeds of the difference from the whole update on validation, by k."""
    return {k: crossed(values).interval() for k, values in _differences_by_k(cuts, part, module).items()}


def is_on_test(records: Records, task: str, part: str = "cut", module: str = ALL) -> bool:
    """Whether a part is decided on the test split: every seed kept what each example there adds to the score, which
    only cuts of all matrices at once can have. Else it is decided on validation."""
    if module != ALL or part not in CUT_PARTS:
        return False
    lines = lines_of(records, task)
    return bool(lines) and all(added(line) is not None and added_by_cuts(line, part) for line in lines)


@lru_cache(maxsize=KEPT * 16)
def differences(records: Records, task: str, part: str = "cut", module: str = ALL) -> dict[int, np.ndarray]:
    """What a changed update scores against the whole one of the same seed, by k: (seeds, examples) on test
    where `is_on_test`, else (seeds, 1) of scores on validation. Only a k that every seed has counts."""
    if not is_on_test(records, task, part, module):
        return _differences_by_k(functional(records, task), part, module)
    answers = [(added_by_cuts(line, part), added(line)) for line in lines_of(records, task)]
    sizes = sorted(set.intersection(*(set(cuts) for cuts, _ in answers)))
    return {k: np.array([cuts[k] - uncut for cuts, uncut in answers]) for k in sizes}


@lru_cache(maxsize=KEPT * 16)
def gains(records: Records, task: str, part: str = "cut", module: str = ALL) -> dict[int, Interval]:
    """The gain of a changed update over the whole one, above 0 is better, by k: what k* and every sentence are decided
    by."""
    return _oriented(records, task, differences(records, task, part, module))


def _oriented(records: Records, task: str, by_k: dict[int, np.ndarray]) -> dict[int, Interval]:
    higher = records.higher_is_better(task)
    return {k: crossed(values).interval().oriented(higher) for k, values in by_k.items()}


def against(records: Records, task: str, part: str, rival: str) -> dict[int, Interval]:
    """The gain of one part over another of the same seed on validation, by each k that both have."""
    cuts = functional(records, task)
    scores = cuts[cuts["module"] == ALL].pivot_table(index=["k", "seed"], columns="part", values="score")
    if not {part, rival} <= set(scores):
        return {}
    by_k: dict[Any, Any] = dict(iter((scores[part] - scores[rival]).dropna().groupby("k")))
    return _oriented(records, task, {int(k): values.to_numpy()[:, None] for k, values in by_k.items()})


def functional_rank(records: Records, task: str, module: str = ALL, margin: float | None = None) -> Smallest:
    """k*, the smallest k from which on the cut update is not inferior to the whole by more than the margin, the
    declared one unless another is given; of one `module`, with the others whole."""
    return smallest(gains(records, task, module=module), records.protocol.margin if margin is None else margin)


def modules(cuts: pd.DataFrame) -> list[str]:
    """The types of matrix that were cut alone."""
    return [name for name in dict.fromkeys(cuts["module"]) if name != ALL]


def shared(table: pd.DataFrame) -> pd.DataFrame:
    """One row per kind of pair, k and side: the mean φ(k, k) over matrices and pairs, its t interval over the pairs,
    the random expectation, and k · (φ − random) / (1 − random), how many directions are common beyond chance.

    The pairs share runs and so are not independent, which makes their interval too narrow.
    """
    kinds = [*(f"{task}: two seeds" for task in table["task"].unique()), "two tasks, one seed"]
    pair_of = (table["task"] + ": two seeds").where(table["task"] == table["other_task"], kinds[-1])
    by_kind: Any = table.assign(pair=pd.Categorical(pair_of, kinds)).groupby(["pair", "k"], observed=True)
    made = []
    for (pair, k), rows in by_kind:
        for side in ("column", "row"):
            pairs = rows.groupby(["task", "seed", "other_task", "other_seed"])[side].mean()
            interval, chance = t_interval(pairs.tolist()), float(rows[f"random_{side}"].mean())
            row: dict[str, Any] = {"pair": pair, "k": int(k), "side": side, "pairs": len(pairs)}
            row |= {"similarity": interval.mean, "low": interval.low, "high": interval.high, "random": chance}
            made.append(row | {"common": k * (interval.mean - chance) / (1 - chance)})
    return pd.DataFrame(made)


def _tells_spikes(row: dict[str, Any]) -> bool:
    misfit, std = (math.nan if row.get(key) is None else float(row[key]) for key in ("bulk_misfit", "noise_std"))
    return tells_spikes(misfit, std, row["shape"])


def _mean(matrices: dict[str, Any], names: list[str], measure: str) -> float:
    """NaN where the measure has no value in some matrix, as in one whose update is zero, or whose bulk is no noise."""
    rows = [matrices[name] for name in names]
    return _mean_of(None if measure == "spikes" and not _tells_spikes(row) else row[measure] for row in rows)
