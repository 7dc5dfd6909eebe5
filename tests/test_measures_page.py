"""What docs/measures.md says of real updates is what the records say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.study import update
from analysis.study.comparison import seeds_of
from analysis.study.records import RECORDS, Records, load, rate_of

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
    norm = np.mean([row["relative_norm"] for line in finals(records, task) for row in line["matrices"].values()])
    assert f"| {task} | {' | '.join(numbers)} | {norm:.4f} |".replace("| 0.", "| .") in page
    assert f"| iid noise | {' | '.join(str(round(entry['null'], 1)) for entry in entries)} | |" in page


def test_most_of_what_sets_an_update_apart_from_noise_is_there_without_a_task(records: Records, page: str) -> None:
    """Of each measure: how far random labels' update is from noise, as a share of how far the task's is."""
    shares = []
    for measure in MEASURES:
        real, drawn = (update.entry(update.spectral(records, task), measure) for task in ("sarcasm", "random labels"))
        shares.append((drawn["null"] - drawn["mean"]) / (real["null"] - real["mean"]))
        of_seeds = [
            [np.mean([row[measure] for row in line["matrices"].values()]) for line in finals(records, task)]
            for task in ("sarcasm", "random labels")
        ]
        assert (max(of_seeds[0]) < min(of_seeds[1])) == (measure != "stable_rank")
    low, high = (f"{share:.2f}" for share in (min(shares), max(shares)))
    assert "by all but the stable rank every seed of the task lies lower" in " ".join(page.split())
    assert f"by these four, {low.lstrip('0')} to {high} is there without a task" in page


def test_the_random_labels_were_not_learned_and_their_rate_is_a_quarter(records: Records, page: str) -> None:
    losses = [line["metrics"]["train/loss"] for line in finals(records, "random labels")]
    assert losses == pytest.approx([np.log(2)] * 5, abs=0.011)
    real, drawn = ({rate_of(line) for line in finals(records, task)} for task in ("sarcasm", "random labels"))
    assert (real, drawn) == ({4 * 7e-5}, {7e-5})
    assert "their learning rate, 7e-5, is a quarter of the task's, as is the norm" in " ".join(page.split())


def finals(records: Records, task: str) -> list[Any]:
    """The final runs of full fine-tuning."""
    return list(seeds_of(records, task, records.protocol.reference).values())
