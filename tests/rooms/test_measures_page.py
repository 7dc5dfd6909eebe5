"""What docs/measures.md says of real updates is what the records say."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.study import update
from analysis.study.comparison import seeds_of
from analysis.study.records import RECORDS, Records, load

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "measures.md"
LAST = "5"
MEASURES = ("effective_rank", "stable_rank", "participation_ratio", "energy_rank_90")


OF_TASK, OF_DRAWN = ("rank_sweep", "sarcasm"), ("random_labels", "random labels")


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def of(study: str) -> Records:
    return load(RECORDS / study)


@pytest.mark.parametrize(("study", "task"), [OF_TASK, OF_DRAWN])
def test_the_spectrum_of_random_labels_stands_beside_that_of_a_task(page: str, study: str, task: str) -> None:
    records = of(study)
    spectra = update.spectral(records, task)
    entries = [update.entry(spectra, measure) for measure in MEASURES]
    assert {(entry["matrices"], entry["seeds"]) for entry in entries} == {(36, 5)}
    numbers = [f"{entry['mean']:.1f} [{entry['low']:.1f}, {entry['high']:.1f}]" for entry in entries]
    assert f"| {task} | {' | '.join(numbers)} | {norm(records, task):.4f} |".replace("| 0.", "| .") in page
    assert f"| iid noise | {' | '.join(str(round(entry['null'], 1)) for entry in entries)} | |" in page


@pytest.mark.parametrize(
    ("study", "task"),
    [
        *(("heads", name) for name in ("cloze with a kept head", "sarcasm with the pooler")),
        *(("memorised", f"{count} labels") for count in (250, 1000, 4000)),
    ],
)
def test_random_labels_that_are_learned_stand_beside_a_task(page: str, study: str, task: str) -> None:
    records = of(study)
    rows = update.spectral(records, task, "layer")
    entries = {row["measure"]: row for row in rows[rows["group"].astype(str) == LAST].to_dict("records")}
    assert {(row["matrices"], row["seeds"]) for row in entries.values()} == {(6, 5)}
    numbers = [f"{e['mean']:.1f} [{e['low']:.1f}, {e['high']:.1f}]" for e in (entries[name] for name in MEASURES)]
    size = norm(records, task, {int(LAST)})
    name = task.partition(" with ")[0]
    assert f"| {name} | {' | '.join(numbers)} | {size:.4f} |".replace("| 0.", "| .") in page


def norm(records: Records, task: str, layers: Container[int] = range(12)) -> float:
    """Of the updates, over that of W: the mean over the matrices of the layers and over seeds."""
    rows = [row for line in finals(records, task) for row in line["matrices"].values() if row["layer"] in layers]
    return float(np.mean([row["relative_norm"] for row in rows]))


def finals(records: Records, task: str) -> list[Any]:
    """The final runs of full fine-tuning."""
    return list(seeds_of(records, task, records.protocol.reference).values())
