"""Published runs trained again: how two runs are compared, and which are trained before a study grows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from synthetic import PROTOCOL, line, study

from experiments import replay
from lorax_lab.study.protocol import Cell

ROOT = Path(__file__).parents[2]
CELL = Cell("final", "reviews", "LoRA r=8", 2e-3, 0)


@pytest.mark.parametrize(("score", "has_moved"), [(0.8, False), (0.800001, False), (0.801, True), (None, True)])
def test_scores_move_beyond_rounding(score: float | None, has_moved: bool) -> None:
    run = line(CELL, 0.8)
    assert bool(replay.moved(run, run | {"metrics": run["metrics"] | {"test/accuracy": score}})) is has_moved


@pytest.mark.parametrize("code", ["c" * 64, "another"])
def test_one_run_of_each_arm_is_checked_where_the_code_is_another(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorax_lab.record.provenance.code_sha256", lambda: code)
    monkeypatch.setattr("lorax_lab.record.provenance.versions", lambda of_method: {"torch": "2"})
    monkeypatch.setattr("lorax_lab.record.provenance.hardware", lambda: {"device": "cpu", "threads": 8})
    records = study()
    of_cell = {cell: found for found in records.lines if (cell := records.cell(found))}
    plan: Any = SimpleNamespace(protocol=PROTOCOL)
    checked = [cell for cell, _ in replay.to_check(plan, of_cell)]
    assert [cell.arm for cell in checked] == ([] if code == "c" * 64 else [arm.name for arm in PROTOCOL.arms])
    assert {cell.stage for cell in checked} <= {"trial"}


def test_the_page_of_studies_shows_the_last_outcome() -> None:
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    for row in pd.read_csv(replay.OUTCOME).to_dict("records"):
        assert f"| `{row['run']}` | {row['published']:g} | {row['now']:g} |" in text
