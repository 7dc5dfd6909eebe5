"""What docs/studies.md says came out of the LoRA paper's studies is what their records say."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from analysis.paper.arms import across, between
from analysis.study import comparison
from analysis.study.records import RECORDS, Records, load
from analysis.study.statistics import Interval

PAGE = Path(__file__).parents[1] / "docs" / "studies.md"
TASK, USUAL = "sarcasm", "sarcasm with the usual head"


@cache
def records(name: str) -> Records:
    return load(RECORDS / f"{name}.jsonl")


def said_of(name: str) -> tuple[str, str]:
    """What came out as predicted, and what did not."""
    text = PAGE.read_text(encoding="utf-8").partition("## What was predicted")[2].partition("\n## ")[0]
    (row,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
    _, came, other = row.removeprefix("| ").removesuffix(" |").split(" | ")
    return came, other


def rounded(value: float, digits: int = 3) -> str:
    """As the pages have it: .022."""
    return f"{abs(value):.{digits}f}".lstrip("0")


def gain(one: str, other: str) -> Interval:
    return between(records("paper_baselines"), TASK, one, other)


def test_what_came_out_of_the_baselines() -> None:
    came, _ = said_of("paper_baselines")
    short, norms = gain("full", "head alone"), gain("LoRA r=1", "norms and biases alone")
    assert f"{round(100 * short.mean)} points short of full" in came
    assert 0.05 < short.low < short.high < 0.155
    assert (norms.mean > 0.02, norms.low > 0.02) == (True, False)
    assert f"short of LoRA of rank 1 ({rounded(norms.mean)}, not surely)" in came
    alone, whole = (across(records("paper_baselines"), arm, USUAL, TASK) for arm in ("head alone", "full"))
    assert alone.high < -0.04
    assert f"{-100 * alone.mean:.1f} points short of the linear one" in came
    assert (abs(whole.mean) < 0.01, whole.low < -0.01) == (True, True)
    assert f"where all is trained ({rounded(whole.mean)})" in came


def test_what_did_not_come_out_of_the_baselines() -> None:
    _, other = said_of("paper_baselines")
    gap = gain("full", "head alone").mean
    closed = {name: gain(f"{name} alone", "head alone").mean / gap for name in ("embeddings", "norms and biases")}
    assert closed["embeddings"] > 2 / 3
    assert f"embeddings alone close {rounded(closed['embeddings'], 2)} of that gap" in other
    assert f"norms and biases {rounded(closed['norms and biases'], 2)}, not as much or more (not told apart)" in other
    apart = gain("embeddings alone", "norms and biases alone")
    assert apart.low < 0 < apart.mean
    trained = comparison.table(records("paper_baselines"), TASK).set_index("arm")["trained_body"]
    assert f"{trained['norms and biases alone']:,.0f} parameters" in other


@pytest.mark.parametrize("task", [TASK, USUAL])
def test_the_refutations_of_the_baselines_did_not_occur(task: str) -> None:
    """Norms and biases that match LoRA of rank 1; a usual head alone above the linear one."""
    assert between(records("paper_baselines"), task, "norms and biases alone", "LoRA r=1").low < -0.02
    assert across(records("paper_baselines"), "head alone", USUAL, TASK).high < 0
