"""The full update itself: its spectral ranks beside noise and rounding, the scores of its cuts, and the directions that
seeds share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from lorax_lab.record.result import UNDEFINED
from lorax_lab.spectra import NULLS, tells_spikes
from lorax_lab.study.answers import CUT_PARTS

from .comparison import added, added_by_cuts, seeds_of
from .records import KEPT, Records, score_of
from .statistics import Interval, Smallest, crossed, smallest, t_interval

if TYPE_CHECKING:
    import pandas as pd

MEASURES = (
    "effective_rank",
    "stable_rank",
    "participation_ratio",
    "energy_rank_90",
    "energy_rank_95",
    "energy_rank_99",
)
"""Those of `spectra.MEASURES` that a study's pages and tables show: the ranks that papers report, and three shares of
the energy. A line has every other measure too, derived from σ."""
COUNTS = ("spikes", "above_rounding", "bulk_misfit", "relative_norm")
"""Measures without a null of their own: directions above the fitted noise, NaN where a bulk is not that of iid noise,
values above fp32 rounding, how far the bulk is from noise, and ‖ΔW‖ / ‖W0‖."""
ALL = "all"
EVERY_MATRIX = "all-linear"
"""The target modules that are every matrix of the body."""
WHOLE, BASE = "whole", "base"


@lru_cache(maxsize=KEPT * 16)
def spectral(records: Records, task: str, by: str = "module") -> pd.DataFrame:
    """One row per group and measure: the mean over the group's matrices, its t interval over the seeds, and the null's.

    Args:
        by: `module` or `layer`; the group `all` holds every matrix.

    Returns:
        Columns task, group, matrices, measure, mean, low, high, seeds, null, gaussian: the last is what the lab reads
        off Gaussian matrices of the updates' shapes and norms, where they were drawn.
    """
    import pandas as pd

    lines = list(seeds_of(records, task, records.protocol.reference).values())
    rows = []
    for group in [ALL, *dict.fromkeys(row[by] for line in lines[:1] for row in line["matrices"].values())]:
        members = [name for name, row in lines[0]["matrices"].items() if group in (ALL, row[by])]
        for measure in (*MEASURES, *COUNTS):
            interval = t_interval([_mean(line["matrices"], members, measure) for line in lines])
            row = {"task": task, "group": group, "matrices": len(members), "measure": measure}
            row |= {"mean": interval.mean, "low": interval.low, "high": interval.high, "seeds": interval.count}
            null = [
                row["null"][measure]
                for name, row in lines[0]["matrices"].items()
                if name in members and measure in row["null"]
            ]
            drawn = [_mean(line["gaussian"], members, measure) for line in lines if line.get("gaussian") and null]
            row |= {"null": float(np.mean(null)) if null else None}
            rows.append(row | {"gaussian": float(np.mean(drawn)) if drawn else None})
    return pd.DataFrame(rows)


def structured(records: Records, task: str) -> dict[str, dict[str, float]]:
    """Of each null that keeps something of the update's structure, by name, the mean of every measure over matrices and
    seeds; none where they were not drawn."""
    lines = seeds_of(records, task, records.protocol.reference).values()
    rows = [row["nulls"] for line in lines for row in line["matrices"].values() if row.get("nulls")]
    return {name: {key: _mean_of(row[name].get(key) for row in rows) for key in MEASURES} for name in NULLS if rows}


def _mean_of(values: Iterable[float | None]) -> float:
    """NaN where a value has none."""
    return float(np.mean([math.nan if value is None else value for value in values]))


def undefined(records: Records, task: str) -> list[str]:
    """Why measures of the reference's updates have no value, and in how many matrices of all seeds."""
    lines = seeds_of(records, task, records.protocol.reference).values()
    rows = [row for line in lines for row in line["matrices"].values()]
    counts = Counter(row[UNDEFINED] for row in rows if UNDEFINED in row)
    return [f"{reason} in {count} of {len(rows)}" for reason, count in counts.items()]


def entry(spectra: pd.DataFrame, measure: str, group: str = ALL) -> dict[str, Any]:
    """The row of `spectral` for a measure and a group."""
    rows = spectra[(spectra["group"] == group) & (spectra["measure"] == measure)].to_dict("records")
    return {str(key): value for key, value in rows[0].items()}


def has_cuts(records: Records) -> bool:
    """Whether the reference's updates were cut in every condition, as those of full fine-tuning are."""
    return all(
        any(line.get("functional") for line in seeds_of(records, name, records.protocol.reference).values())
        for name in records.conditions
    )


def asks_how_low(records: Records) -> bool:
    """Whether the study asks how low the rank is: its full updates were cut, and its figures have the answer."""
    return has_answer(records) and has_cuts(records)


def has_answer(records: Records) -> bool:
    """Whether the study's figures have the answer: one that names its figures without it asks something else."""
    return records.declared.has_answer


@lru_cache(maxsize=KEPT * 16)
def functional(records: Records, task: str) -> pd.DataFrame:
    """One row per part, module, k and seed: the validation score, and its difference from the whole update's."""
    import pandas as pd

    rows = []
    for seed, line in seeds_of(records, task, records.protocol.reference).items():
        whole = score_of(line, "validation")
        for part, k, module, score in line["functional"]:
            row = {"task": task, "part": part, "module": module or ALL, "k": k, "seed": seed}
            rows.append(row | {"score": score, "difference": score - whole})
    return pd.DataFrame(rows)


def cut_intervals(cuts: pd.DataFrame, part: str, module: str = ALL) -> dict[int, Interval]:
    """The t interval over the seeds of the difference from the whole update on validation, by k."""
    rows = cuts[(cuts["part"] == part) & (cuts["module"] == module)]
    return {int(k): t_interval(rows[rows["k"] == k]["difference"].tolist()) for k in sorted(rows["k"].unique())}


def is_on_test(records: Records, task: str, part: str = "cut", module: str = ALL) -> bool:
    """Whether a part is decided on the test split: every seed kept what each example there adds to the score, which
    only cuts of all matrices at once can have. Else it is decided on validation."""
    if module != ALL or part not in CUT_PARTS:
        return False
    lines = seeds_of(records, task, records.protocol.reference).values()
    return bool(lines) and all(added(line) is not None and added_by_cuts(line, part) for line in lines)


@lru_cache(maxsize=KEPT * 16)
def differences(records: Records, task: str, part: str = "cut", module: str = ALL) -> dict[int, np.ndarray]:
    """What a changed update scores against the whole one of the same seed, by k: (seeds, examples) on test
    where `is_on_test`, else (seeds, 1) of scores on validation. Only a k that every seed has counts."""
    if is_on_test(records, task, part, module):
        lines = seeds_of(records, task, records.protocol.reference).values()
        answers = [(added_by_cuts(line, part), added(line)) for line in lines]
        every = sorted(set.intersection(*(set(of_cuts) for of_cuts, _ in answers)))
        return {k: np.array([of_cuts[k] - whole for of_cuts, whole in answers]) for k in every}
    cuts = functional(records, task)
    rows = cuts[(cuts["part"] == part) & (cuts["module"] == module)]
    by_k = {int(k): rows[rows["k"] == k]["difference"] for k in sorted(rows["k"].unique())}
    return {k: of_k.to_numpy(dtype=float)[:, None] for k, of_k in by_k.items()}


@lru_cache(maxsize=KEPT * 16)
def gains(records: Records, task: str, part: str = "cut", module: str = ALL) -> dict[int, Interval]:
    """The gain of a changed update over the whole one, above 0 is better, by k: what k* and every sentence are decided
    by."""
    higher = records.higher_is_better(task)
    of_cuts = differences(records, task, part, module)
    return {k: crossed(d).interval().oriented(higher) for k, d in of_cuts.items()}


def on_validation(records: Records, task: str, part: str) -> dict[int, Interval]:
    """As `gains` of all matrices at once, on validation wherever k* is decided: what parts without answers on test are
    compared with."""
    intervals = cut_intervals(functional(records, task), part)
    return {k: d.oriented(records.higher_is_better(task)) for k, d in intervals.items()}


def against(records: Records, task: str, part: str, other: str) -> dict[int, Interval]:
    """The gain of one part over another of the same seed on validation, by each k that both have."""
    cuts = functional(records, task)
    by_k = cuts[cuts["module"] == ALL].set_index("seed").groupby(["part", "k"])["score"]
    scores: dict[Any, Any] = dict(iter(by_k))
    both = [k for of, k in scores if of == part and (other, k) in scores]
    higher = records.higher_is_better(task)
    return {int(k): t_interval((scores[part, k] - scores[other, k]).tolist()).oriented(higher) for k in both}


def shrunk(records: Records, task: str) -> dict[int, Interval]:
    """The gain over the whole update, on validation, by the percentage that is left of it in every matrix. The
    intervals hold for all percentages at once, since the best is chosen by the same scores."""
    of_shares = differences(records, task, "shrunk")
    higher = records.higher_is_better(task)
    return {k: crossed(d).interval(len(of_shares)).oriented(higher) for k, d in of_shares.items()}


def changes_all(records: Records, task: str) -> bool:
    """Whether a cut changes every matrix of the body, so that at k = 0 only head, embeddings and biases are as trained.
    Where a study measures some matrices, the reference trains the others too."""
    lines = seeds_of(records, task, records.protocol.reference).values()
    return all(line["config"]["method"].get("target_modules") == [EVERY_MATRIX] for line in lines)


def functional_rank(
    records: Records, task: str, module: str = ALL, part: str = "cut", margin: float | None = None
) -> Smallest:
    """k*, the smallest k from which on the cut update is not inferior to the whole by more than the margin, the
    declared one unless another is given; of one `module`, with the others whole."""
    return smallest(gains(records, task, part, module), records.protocol.margin if margin is None else margin)


def modules(cuts: pd.DataFrame) -> list[str]:
    """The types of matrix that were cut alone."""
    return [name for name in dict.fromkeys(cuts["module"]) if name != ALL]


def shared(table: pd.DataFrame) -> pd.DataFrame:
    """One row per kind of pair, k and side: the mean φ(k, k) over matrices and pairs, its t interval over the pairs,
    the random expectation, and k · (φ − random) / (1 − random), how many directions are common beyond chance.

    The pairs share runs and so are not independent, which makes their interval too narrow.
    """
    import pandas as pd

    same = table["task"] == table["other_task"]
    kinds = {f"{task}: two seeds": table[same & (table["task"] == task)] for task in table["task"].unique()}
    kinds |= {"two tasks, one seed": table[~same]} if (~same).any() else {}
    made = []
    for kind, rows in kinds.items():
        for k in sorted(int(k) for k in rows["k"].unique()):
            of_k = rows[rows["k"] == k]
            for side in ("column", "row"):
                pairs = of_k.groupby(["task", "seed", "other_task", "other_seed"])[side].mean()
                interval, chance = t_interval(pairs.tolist()), float(of_k[f"random_{side}"].mean())
                row: dict[str, Any] = {"pair": kind, "k": k, "side": side, "pairs": len(pairs)}
                row |= {"similarity": interval.mean, "low": interval.low, "high": interval.high, "random": chance}
                made.append(row | {"common": k * (interval.mean - chance) / (1 - chance)})
    return pd.DataFrame(made)


def common(records: Records, task: str, module: str = ALL) -> tuple[int, float, float] | None:
    """(k, column, row): how many of their top k directions two seeds share beyond chance, in the column and in the row
    space, for the largest k; None where the directions were not compared."""
    if records.shared is None:
        return None
    rows = records.shared if module == ALL else records.shared[records.shared["module"] == module]
    pairs = shared(rows[(rows["task"] == task) & (rows["other_task"] == task)])
    if pairs.empty:
        return None
    sides = pairs[pairs["k"] == pairs["k"].max()].set_index("side")["common"]
    return int(pairs["k"].max()), float(sides["column"]), float(sides["row"])


def _told(row: dict[str, Any]) -> bool:
    misfit, std = (math.nan if row.get(key) is None else float(row[key]) for key in ("bulk_misfit", "noise_std"))
    return tells_spikes(misfit, std, row["shape"])


def _mean(matrices: dict[str, Any], members: list[str], measure: str) -> float:
    """NaN where the measure has no value in some matrix, as in one whose update is zero, or is not told."""
    rows = [matrices[name] for name in members]
    values = [None if measure == "spikes" and not _told(row) else row[measure] for row in rows]
    return float(np.mean([math.nan if value is None else value for value in values]))
