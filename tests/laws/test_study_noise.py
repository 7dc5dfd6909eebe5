"""Noise in what studies say: directions that seeds share beyond chance, and spikes only where they are told."""

from __future__ import annotations

import math
from functools import cache

import pytest

from analysis.study import update
from analysis.study.records import RECORDS, Records, load

MAIN = "rank_sweep"


@cache
def records(name: str) -> Records:
    return load(RECORDS / name)


def test_what_two_seeds_share_is_counted_in_directions_beyond_chance() -> None:
    table = records(MAIN).shared
    assert table is not None
    module = "intermediate.dense"
    rows = table[(table["k"] == 32) & (table["module"] == module)]
    for task in records(MAIN).conditions:
        own = rows[(rows["task"] == task) & (rows["other_task"] == task)]
        k, *sides = update.common(records(MAIN), task, module) or ()
        assert k == 32
        for side, beyond in zip(("column", "row"), sides, strict=True):
            chance = own[f"random_{side}"].mean()
            assert beyond == pytest.approx(32 * (own[side].mean() - chance) / (1 - chance), rel=1e-9)
            assert 0 < beyond < 32


def test_spikes_are_counted_only_above_a_bulk_of_iid_noise() -> None:
    for study in ("planted", "random_labels"):
        for task in records(study).conditions:
            assert math.isnan(update.entry(update.spectral(records(study), task), "spikes")["mean"])
    row = {"shape": [64, 64], "noise_std": 1.0, "bulk_misfit": 0.03, "spikes": 4.0}
    assert update._mean({"m": row}, ["m"], "spikes") == 4
    assert update._mean({"m": row | {"bulk_misfit": 0.2}}, ["m"], "spikes") != 4
    assert update._mean({"m": row | {"bulk_misfit": None}}, ["m"], "bulk_misfit") != 0
