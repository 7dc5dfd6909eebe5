"""An arm of which a final run diverged, whose other runs do not stand for it; and what a declaration changed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import PROTOCOL, again, study

from analysis.study import comparison, margin, page, verdict
from analysis.study.command import latex
from analysis.study.figures import FIGURES
from analysis.study.records import Records
from analysis.study.statistics import holm
from lorax_lab.study.protocol import Arm

TASK = "reviews"
KEPT = ("format", "status", "method", "rank", "seed", "code", "git", "versions", "hardware", "written", "config")
"""What the line of a run that diverged has, beside its name."""


def lost(records: Records, rank: int | None = 1, seed: int = 2) -> Records:
    """The study, one final run of it diverged."""

    def change(line: dict[str, Any]) -> dict[str, Any]:
        if (line["rank"], line["seed"]) != (rank, seed):
            return line
        return {key: line[key] for key in (*KEPT, "inputs")} | {"status": "diverged", "reason": "the loss is NaN"}

    return again(records, [change(line) for line in records.lines])


def row_of(text: str, arm: str) -> list[str]:
    (row,) = [row for row in text.splitlines() if row.startswith(f"| {arm} | ")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_a_page_shows_no_survivors_difference_as_the_arms() -> None:
    text = page.write(lost(study()))
    score, difference, p, matches, power = row_of(text, "LoRA r=1")[2:7]
    assert (score, difference, p, matches, power) == ("—", "—", "—", "no", "—")
    assert row_of(text, "LoRA r=1")[-1] == "1"  # diverged
    assert "nan" not in text
    assert "inf" not in text.replace("information", "")
    assert row_of(page.write(study()), "LoRA r=1")[3] == "-0.0300 [-0.0300, -0.0300]"
    assert row_of(text, "LoRA r=8")[2:] == row_of(page.write(study()), "LoRA r=8")[2:]


def test_the_lost_arm_has_no_number_in_the_table_and_counts_in_the_correction() -> None:
    scores = {"full": 0.8, "LoRA r=1": 0.78, "LoRA r=8": 0.79}
    records = study(lambda cell: scores[cell.arm] + 0.001 * (cell.seed % 3) * (cell.arm == "LoRA r=8"))
    table = comparison.table(lost(records), TASK).set_index("arm")
    row = table.loc["LoRA r=1"]
    assert all(math.isnan(row[key]) for key in ("test", "test_low", "difference", "difference_low", "p_holm"))
    assert not row["matches"]
    assert (row["seeds"], row["diverged"]) == (4, 1)
    p = comparison.compared(records, TASK)["LoRA r=8"].p()
    assert table.loc["LoRA r=8", "p_holm"] == holm({"LoRA r=1": 1.0, "LoRA r=8": p})["LoRA r=8"] == min(1.0, 2 * p)
    assert set(margin.powers(lost(records), TASK)) == {"LoRA r=8"}
    assert "surely short of it: LoRA r=1" in verdict.arms_line(lost(records))


def test_the_answers_figure_has_no_mean_of_the_lost_arm_and_says_why() -> None:
    figure = FIGURES["answer"].draw(table := FIGURES["answer"].table(lost(study())))
    of_rank = table[(table["side"] == "rank") & (table["size"] == 1)]
    assert of_rank[["mean", "low", "high"]].isna().all(axis=None)
    assert np.isfinite(of_rank["difference"]).sum() == 4  # the dots, each its own seed's
    assert "a run diverged, so no mean: rank 1" in figure.axes[0].get_title(loc="left")
    assert "diverged" not in figure.axes[1].get_title(loc="left")
    assert "LoRA against full fine-tuning (test, 95 % intervals over seeds and test examples)" in " ".join(
        figure.get_suptitle().split()
    )
    whole = FIGURES["answer"].draw(FIGURES["answer"].table(study()))
    assert "diverged" not in whole.axes[0].get_title(loc="left")
    assert "inf" not in str(latex("answer", table))


def test_the_cost_figure_has_no_score_of_the_lost_arm() -> None:
    figure = FIGURES["cost"].draw(FIGURES["cost"].table(lost(study())))
    costs, scores = figure.axes[:3], figure.axes[3]
    assert scores.get_title("left").split("\n")[0] == "reviews; rank 1: a run diverged"
    points = scores.containers[0].lines[0].get_ydata()
    assert [math.isnan(y) for y in points] == [True, False]
    assert all(np.isfinite(axes.lines[0].get_ydata()).all() for axes in costs)


def test_an_arm_of_the_head_alone_that_diverged_is_no_measure_of_the_margin() -> None:
    arms = (*PROTOCOL.arms, Arm("head", ("method=lora", "rank=2"), 1e-3))
    records = study(lambda cell: 0.7 if cell.arm == "head" else 0.8, replace(PROTOCOL, arms=arms, extensions=0))

    def body_less(line: dict[str, Any]) -> dict[str, Any]:
        own = line.get("parameters")
        return line | ({"parameters": own | {"adapter": 0, "trainable": 100}} if own and line["rank"] == 2 else {})

    alone = replace(records, lines=[body_less(line) for line in records.lines])
    assert margin.head_arm(alone, TASK) == "head"
    assert margin.head_arm(lost(alone, rank=2), TASK) is None


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"changed": {"cost": {"was": "None.", "is": "A minute."}}}, "- 2026-11-26: cost: was None., is A minute."),
        (
            {"changed": {"figures": {"was": None, "is": ["answer", "cost"]}}},
            "- 2026-11-26: figures: was none, is answer and cost",
        ),
        ({"added": {"final_seeds": [5]}}, "- 2026-11-26: final_seeds: 5"),
    ],
)
def test_what_a_declaration_added_or_changed_is_on_the_page(entry: dict[str, Any], said: str) -> None:
    declared = replace(study().declared, history=({"date": "2026-11-26"} | entry,))
    text = page.write(replace(study(), declared=declared))
    assert said in text
    assert [title in text for title in ("Added after the first", "Changed after the first")] == [
        "added" in entry,
        "changed" in entry,
    ]


def test_a_study_without_a_history_tells_of_none(tmp_path: Path) -> None:
    assert "after the first declaration" not in page.write(study())
