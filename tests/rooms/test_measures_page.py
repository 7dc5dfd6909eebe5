"""What docs/measures.md says of real updates is what the records say."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

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


@pytest.mark.parametrize(
    ("study", "task", "layer"),
    [
        ("rank_sweep", "sarcasm", None),
        ("random_labels", "random labels", None),
        *(("heads", name, LAST) for name in ("cloze with a kept head", "sarcasm with the pooler")),
        *(("memorised", f"{count} labels", LAST) for count in (250, 1000, 4000)),
    ],
)
def test_the_spectra_of_random_labels_stand_beside_those_of_tasks(study: str, task: str, layer: str | None) -> None:
    """Of labels that are not learned over all matrices; of labels that are learned in the last layer."""
    page, records = PAGE.read_text(encoding="utf-8"), load(RECORDS / study)
    rows = update.spectral(records, task, "layer" if layer else "module")
    entries = {row["measure"]: row for row in rows[rows["group"].astype(str) == (layer or "all")].to_dict("records")}
    assert {(row["matrices"], row["seeds"]) for row in entries.values()} == {(6 if layer else 36, 5)}
    shown = [entries[name] for name in MEASURES]
    numbers = [f"{e['mean']:.1f} [{e['low']:.1f}, {e['high']:.1f}]" for e in shown]
    size, name = norm(records, task, {int(layer)} if layer else range(12)), task.partition(" with ")[0]
    assert f"| {name} | {' | '.join(numbers)} | {size:.4f} |".replace("| 0.", "| .") in page
    if not layer:
        assert f"| iid noise | {' | '.join(str(round(entry['null'], 1)) for entry in shown)} | |" in page


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


def norm(records: Records, task: str, layers: Container[int]) -> float:
    """Of the updates, over that of W: the mean over the matrices of the layers and over seeds."""
    lines = seeds_of(records, task, records.protocol.reference).values()
    rows = [row for line in lines for row in line["matrices"].values() if row["layer"] in layers]
    return float(np.mean([row["relative_norm"] for row in rows]))
