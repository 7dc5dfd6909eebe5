"""What pages say of noise: directions that seeds share stand in the table, spikes only where they are told."""

from __future__ import annotations

from functools import cache

import pytest

from analysis.study import findings, page, update
from analysis.study.command import load_all
from analysis.study.records import RECORDS, Records
from analysis.study.verdict import rulings

MAIN = "rank_sweep"


@cache
def records(name: str) -> Records:
    return next(study for study in load_all(RECORDS) if study.name == name)


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


def test_the_table_has_them_where_a_study_has_them_and_no_count_of_spikes() -> None:
    with_shared, without = page.rulings_table(rulings(records(MAIN))), page.rulings_table(rulings(records("planted")))
    k, column, row = update.common(records(MAIN), "sarcasm") or (0, 0.0, 0.0)
    line = next(line for line in with_shared.splitlines() if line.startswith("| sarcasm | all matrices"))
    assert line.endswith(f"| {column:.1f} and {row:.1f} of {k} |")
    assert page.COMMON in with_shared.splitlines()[0]
    assert page.COMMON not in without
    assert update.common(records("planted"), records("planted").conditions[0]) is None
    assert "noise edge" not in with_shared + without


@pytest.mark.parametrize("study", [MAIN, "planted", "random_labels"])
def test_no_study_counts_directions_above_a_bulk_that_is_no_iid_noise(study: str) -> None:
    for task in records(study).conditions:
        assert update.entry(update.spectral(records(study), task), "spikes")["mean"] != pytest.approx(116, abs=50)
    text = page.write(records(study))
    assert "How many stand above noise is not told" in text
    assert "stand above the edge" not in text


def test_spikes_are_said_where_they_are_told() -> None:
    assert findings._above_noise(5.0, 0.006).startswith("Above the edge of the noise fitted to the bulk stand 5;")
    assert "not told" in findings._above_noise(float("nan"), 0.1)
    row = {"shape": [64, 64], "noise_std": 1.0, "bulk_misfit": 0.03, "spikes": 4.0}
    assert update._mean({"m": row}, ["m"], "spikes") == 4
    assert update._mean({"m": row | {"bulk_misfit": 0.2}}, ["m"], "spikes") != 4
    assert update._mean({"m": row | {"bulk_misfit": None}}, ["m"], "bulk_misfit") != 0
