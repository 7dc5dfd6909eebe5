"""The share of what fine-tuning brings, and the README's first screen, which is made of published records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.study.records import RECORDS, load
from analysis.study.shares import DOCS, MEAN, STUDY, SURE, contrast, interval, markdown, smallest_sizes, table

ROOT = Path(__file__).parents[2]


def arms(share: float, seeds: int = 5, examples: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of an arm that keeps the share, of full fine-tuning and of the head, with noise of seed and example."""
    draw = np.random.default_rng(0)
    common = draw.normal(0, 0.1, examples)
    head, full, arm = (
        mean + common + draw.normal(0, 0.05, (seeds, examples)) for mean in (0.5, 0.9, 0.5 + 0.4 * share)
    )
    return arm, full, head


@pytest.mark.parametrize("share", [0.3, 0.8, 1.1])
def test_the_ends_of_a_share_are_where_the_contrast_is_not_excluded(share: float) -> None:
    arm, full, head = arms(share)
    mean, low, high = interval(arm, full, head)
    assert low < share < high
    assert low < mean < high
    assert contrast(arm, full, head, low).low == pytest.approx(0, abs=1e-9)
    assert contrast(arm, full, head, high).high == pytest.approx(0, abs=1e-9)
    assert (contrast(arm, full, head, SURE).low > 0) == (low > SURE)


def test_scores_of_which_lower_is_better_have_the_same_shares() -> None:
    arm, full, head = arms(0.8)
    assert interval(-arm, -full, -head) == pytest.approx(interval(arm, full, head))


def test_the_smallest_size_is_one_from_which_on_every_size_passes() -> None:
    rows = pd.DataFrame({"size": [1, 2, 4, 8], "surely": [True, False, True, True], "share": [0.9, MEAN, 0.95, 0.89]})
    assert smallest_sizes(rows) == {"surely": 4, "mean": None}


def test_the_first_screen_is_made_of_the_published_records() -> None:
    found, written = table(load(RECORDS / STUDY)), pd.read_csv(DOCS / "answer.csv")
    pd.testing.assert_frame_equal(found, written, check_dtype=False, rtol=1e-4)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert markdown(found) in readme
    rows = found[found["side"] == "rank"]
    assert f"at least {rows[rows['size'] == 8]['share'].min():.0%} in the mean".replace("%", " %") in readme
    sure = found[(found["side"] == "k") & (found["size"] >= 32)]
    assert sure["surely"].all(), "the README says that 32 directions surely keep 80 %"
