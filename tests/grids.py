"""Grids of learning rates as tables: fair ones with a known answer, and one as others publish theirs."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

RATES = (0.001, 0.002, 0.004, 0.008, 0.016)
CURVE = RATES[2]
"""The rate that is best, unless another is named."""
SEEDS = (10, 11, 12, 13, 14)
"""Of final runs; trials have 0 and 1."""


def write(rows: pd.DataFrame, folder: Path) -> Path:
    path = folder / "grid.csv"
    rows.to_csv(path, index=False)
    return path


def rows_of(
    levels: Mapping[str, float],
    seeds: Iterable[int] = SEEDS,
    noise: float = 0.001,
    steep: float = -0.01,
    seed: int = 0,
    best: Mapping[str, float] | None = None,
    rates: Iterable[float] = RATES,
) -> pd.DataFrame:
    """Every arm at every rate with every seed.

    Args:
        levels: an arm's score at its best rate; an arm is `full`, or `lora 4`.
        noise: of a seed, the same for all arms; each run has a tenth of it for itself.
        steep: what a factor of 2 from the best rate changes; below 0 where higher scores are better.
        best: rates of arms whose best one is not `CURVE`.
    """
    draw, rates, rows = random.Random(seed), list(rates), []
    luck = {own: draw.gauss(0, noise) for own in seeds}
    for arm, level in levels.items():
        method, _, rank = arm.partition(" ")
        top = (best or {}).get(arm, CURVE)
        for rate in rates:
            for own, of_seed in luck.items():
                value = level + steep * abs(math.log2(rate / top)) + of_seed + draw.gauss(0, noise / 10)
                cell = {"method": method, "rank": int(rank) if rank else None, "learning_rate": rate}
                rows.append(cell | {"seed": own, "score": value})
    return pd.DataFrame(rows).astype({"rank": "Int64"})


def staged(levels: Mapping[str, float], best: Mapping[str, float] | None = None, **how: float) -> pd.DataFrame:
    """Trials on validation with seeds 0 and 1, and final runs on test at the best rate with `SEEDS`."""
    trials = rows_of(levels, seeds=(0, 1), best=best, **how)  # type: ignore[arg-type]
    finals = rows_of(levels, best=best, **how)  # type: ignore[arg-type]
    arms = finals["method"] + (" " + finals["rank"].astype(str)).where(finals["rank"].notna(), "")
    chosen = finals["learning_rate"] == arms.map({arm: (best or {}).get(arm, CURVE) for arm in levels})
    parts = [trials.assign(stage="trial", split="validation"), finals[chosen].assign(stage="final", split="test")]
    return pd.concat(parts, ignore_index=True)


def published() -> pd.DataFrame:
    """LoRA alone at three ranks and five rates, two models, one log loss a cell, chosen on test; no seeds."""
    rows = [
        {"model": model, "method": "lora", "rank": rank, "learning_rate": rate, "split": "test"}
        | {"score": f"{level - 0.005 * math.log2(rank / 4) + 0.03 * math.log2(rate / CURVE) ** 2:.4f}"}
        for model, level in (("small", 2.01), ("large", 1.5))
        for rank in (4, 16, 64)
        for rate in RATES
    ]
    return pd.DataFrame(rows)
