"""Names of a run in figures: its variant (the method and its settings that differ) and its arm (a variant at one
rank)."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lorax_lab.record import variation
from lorax_lab.record.variation import Settings

REFERENCE = "full"
"""The method that the others are compared with."""
METHOD_NAMES = {
    "full": "full fine-tuning",
    "lora": "LoRA",
    "head": "head alone",
    "embeddings": "embeddings alone",
    "norms_and_biases": "norms and biases alone",
}
"""What figures call a method, where that is not its own name."""
DEFAULTS = "defaults"
"""Said in a table where no setting that its runs share differs from the defaults."""
COLLAPSED = "collapsed"
"""The column that says whether a run collapsed, as its record has it. A table has it only if some run of the group
did."""
BY_RANK = "by rank"
"""Said of a number that has one value at each rank, such as alpha = 2 r: it goes with the rank along one line."""


def named(runs: pd.DataFrame, settings: dict[str, Settings]) -> pd.DataFrame:
    """The runs, each method by rank and seed, the reference last, with these columns more:

    `variant`: `LoRA (alpha 16)`, the method and the settings in which its runs differ, but for the rank.
    `arm`: `LoRA r = 4 (alpha 16)`, what is averaged over seeds.
    `arm_key`: the same for all runs of an arm, and different from that of any other.
    `variants`: how many arms there are of the method and rank.
    """
    parts = []
    for method, part in runs.groupby("method"):
        of_method = [settings[run_id] for run_id in part["run_id"]]
        variants, arms = _names(str(method), of_method)
        keys = [variation.arm(run) for run in of_method]
        parts.append(part.assign(variant=variants, arm=arms, arm_key=keys, last=method == REFERENCE))
    named = pd.concat(parts)
    counts = named.groupby(["method", "rank"], dropna=False)["arm_key"].transform("nunique")
    order = ["last", "method", "rank", "variant", "arm", "seed"]
    return named.assign(variants=counts).sort_values(order).drop(columns="last").reset_index(drop=True)


def shared(table: pd.DataFrame) -> str:
    """The settings that all runs of a figure share and that are not the defaults: a line of its title, or nothing."""
    settings = table["settings"].iloc[0]
    return "" if settings == DEFAULTS else f"\nall with {settings}"


def choice(table: pd.DataFrame) -> str:
    """What to say where a figure shows one variant of several: a line of its title, or nothing."""
    return "\nof each method and rank the variant that validates best" if table["variants"].max() > 1 else ""


def collapsed(table: pd.DataFrame, sign: str = "") -> str:
    """What to say of a figure's collapsed runs, whose points have the mark `sign`: a line of its title, or nothing."""
    collapsed, runs = _collapsed(table)
    return f"\n{collapsed} of {runs} runs collapsed{sign}; none is left out" if collapsed else ""


def of_collapsed(rows: pd.DataFrame) -> str:
    """What to say of one arm or variant that has collapsed runs, or nothing."""
    collapsed, runs = _collapsed(rows)
    return "" if not collapsed else ", collapsed" if runs == 1 else f", {collapsed} of {runs} collapsed"


def _collapsed(table: pd.DataFrame) -> tuple[int, int]:
    """How many runs of a table collapsed, and how many runs there are."""
    if COLLAPSED not in table:
        return 0, 0
    runs = table[["arm", "seed", COLLAPSED]].drop_duplicates()
    return int(runs[COLLAPSED].sum()), len(runs)


def best_of(rows: pd.DataFrame) -> str:
    """What to say of one arm that was chosen among several, or nothing."""
    count = rows["variants"].iloc[0]
    return f", the best of {count} variants on validation" if count > 1 else ""


def _names(method: str, runs: Sequence[Settings]) -> tuple[list[str], list[str]]:
    keys = [key for key in variation.dials(runs) if key not in ("method.name", "rank")]
    headings, labels = variation.headings(keys), variation.labels(runs, keys)
    by_rank = {key for key in keys if _goes_with_rank(key, runs)}
    name, variants, arms = METHOD_NAMES.get(method, method), [], []
    for run, values in zip(runs, labels, strict=True):
        rank = f" r = {run['rank']}" if "rank" in run else ""
        of_arm = [f"{headings[key]} {values[key]}" for key in keys]
        of_variant = [f"{headings[key]} {BY_RANK if key in by_rank else values[key]}" for key in keys]
        variants.append(_with(name, of_variant))
        arms.append(_with(f"{name}{rank}", of_arm))
    return variants, arms


def _with(name: str, settings: list[str]) -> str:
    return f"{name} ({', '.join(settings)})" if settings else name


def _goes_with_rank(key: str, runs: Sequence[Settings]) -> bool:
    """Whether a setting is a number with one value at each of several ranks."""
    values: dict[Any, set[Any]] = {}
    for run in runs:
        value = run.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        values.setdefault(run.get("rank"), set()).add(value)
    return all(len(different) == 1 for different in values.values())
