"""What docs/measures.md says of real updates is what the records say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.study import update
from analysis.study.comparison import seeds_of
from analysis.study.records import RECORDS, Records, load

PAGE = Path(__file__).parents[1] / "docs" / "measures.md"
MEASURES = ("effective_rank", "stable_rank", "participation_ratio", "energy_rank_90")


@pytest.fixture(scope="module")
def records() -> Records:
    return load(RECORDS / "paper_subspaces.jsonl")


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("task", ["sarcasm", "random labels"])
def test_the_spectrum_of_random_labels_stands_beside_that_of_a_task(records: Records, page: str, task: str) -> None:
    spectra = update.spectral(records, task)
    entries = [update.entry(spectra, measure) for measure in MEASURES]
    assert {(entry["matrices"], entry["seeds"]) for entry in entries} == {(36, 5)}
    numbers = [f"{entry['mean']:.1f} [{entry['low']:.1f}, {entry['high']:.1f}]" for entry in entries]
    lines = seeds_of(records, task, records.protocol.reference).values()
    norm = np.mean([row["relative_norm"] for line in lines for row in line["matrices"].values()])
    assert f"| {task} | {' | '.join(numbers)} | {norm:.4f} |".replace("| 0.", "| .") in page
    assert f"| iid noise | {' | '.join(str(round(entry['null'], 1)) for entry in entries)} | |" in page


def test_most_of_what_sets_an_update_apart_from_noise_is_there_without_a_task(records: Records, page: str) -> None:
    """Of each measure: how far random labels' update is from noise, as a share of how far the task's is."""
    shares = []
    for measure in MEASURES:
        real, drawn = (update.entry(update.spectral(records, task), measure) for task in ("sarcasm", "random labels"))
        shares.append((drawn["null"] - drawn["mean"]) / (real["null"] - real["mean"]))
    low, high = (f"{share:.2f}" for share in (min(shares), max(shares)))
    assert f"by these four, {low.lstrip('0')} to {high} is there without a task" in page
