"""What docs/measures.md says of real updates is what the records say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.study import update
from analysis.study.comparison import seeds_of
from analysis.study.records import RECORDS, Records, load
from analysis.study.verdict import of_tasks

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "measures.md"
LAST = "5"
MEASURES = ("effective_rank", "stable_rank", "participation_ratio", "energy_rank_90")


@pytest.mark.parametrize(("study", "task"), [("rank_sweep", "sarcasm"), ("random_labels", "random labels")])
def test_the_spectra_of_random_labels_stand_beside_those_of_a_task(study: str, task: str) -> None:
    page, records = PAGE.read_text(encoding="utf-8"), load(RECORDS / study)
    shown = spectra(records, task, "module", "all", matrices=36)
    numbers = " | ".join(f"{e['mean']:.1f} [{e['low']:.1f}, {e['high']:.1f}]" for e in shown)
    assert f"| {task} | {numbers} | {norm(records, task):.4f} |".replace("| 0.", "| .") in page
    assert f"| iid noise | {' | '.join(str(round(entry['null'], 1)) for entry in shown)} | |" in page


@pytest.mark.parametrize(
    ("study", "task"),
    [
        *(("heads", name) for name in ("cloze with a kept head", "sarcasm with the pooler")),
        *(("memorised", f"{count} labels") for count in (250, 1000, 4000)),
    ],
)
def test_learned_labels_go_as_low_in_the_last_layer(study: str, task: str) -> None:
    effective_rank = spectra(load(RECORDS / study), task, "layer", LAST, matrices=6)[0]
    assert f"{effective_rank['mean']:.1f}" in PAGE.read_text(encoding="utf-8")


def test_each_estimate_of_a_planted_rank_is_that_of_its_study() -> None:
    """In one matrix of trained updates."""
    records = load(RECORDS / "planted_ranks")
    for ruling in of_tasks(records):
        if (rank := ruling.task.removeprefix("planted rank ")).isdecimal():
            rows = update.spectral(records, ruling.task)
            means = {name: update.entry(rows, name)["mean"] for name in MEASURES}
            stars = " | ".join(str((star and star.size) or "not found") for star in (ruling.k_star, ruling.r_star))
            spectral = f"{means['participation_ratio']:.1f} | {means['energy_rank_90']:.0f} | "
            spectral += f"{means['effective_rank']:.0f} | {means['stable_rank']:.1f}"
            assert f"| {rank} | {stars} | {spectral} |" in PAGE.read_text(encoding="utf-8")


def spectra(records: Records, task: str, by: str, group: str, matrices: int) -> list[dict[str, Any]]:
    """The entry of each of `MEASURES` in a group of matrices, of five seeds."""
    rows = update.spectral(records, task, by)
    entries = {row["measure"]: row for row in rows[rows["group"].astype(str) == group].to_dict("records")}
    assert {(row["matrices"], row["seeds"]) for row in entries.values()} == {(matrices, 5)}
    return [entries[name] for name in MEASURES]


def norm(records: Records, task: str) -> float:
    """Of the updates, over that of W: the mean over matrices and seeds."""
    lines = seeds_of(records, task, records.protocol.reference).values()
    return float(np.mean([row["relative_norm"] for line in lines for row in line["matrices"].values()]))
