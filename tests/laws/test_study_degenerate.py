"""Studies with degenerate runs: updates of zero, seeds with equal scores, collapsed runs."""

import math
from pathlib import Path
from typing import Any

import pytest
from synthetic import changed, publish, study

from analysis.study import comparison, page, update
from analysis.study.command import figures_of
from analysis.study.figures import FIGURES
from analysis.study.records import load
from lorax_lab.record.result import UNDEFINED
from lorax_lab.spectra import NULLS

MEASURES = ("effective_rank", "stable_rank", "participation_ratio", "relative_norm", "bulk_misfit")
"""Those that are null in a line where the update, or its base, is zero."""


def zeroed(line: dict[str, Any]) -> dict[str, Any]:
    """The same run, every update of it zero."""
    if "matrices" not in line:
        return line
    none: dict[str, Any] = dict.fromkeys(MEASURES) | {UNDEFINED: "ΔW is zero", "frobenius_norm": 0.0}
    if line["method"] == "full":
        none["nulls"] = {name: dict.fromkeys(update.MEASURES) | {"above": 0.0} for name in NULLS}
    rows = {name: row | none for name, row in line["matrices"].items()}
    return line | {"matrices": rows} | ({"gaussian": rows} if "gaussian" in line else {})


def test_updates_of_zero_are_drawn_and_have_no_rank(tmp_path: Path) -> None:
    made = changed(study(), zeroed)
    publish(tmp_path / "made", made.lines, made.declared)
    records = load(tmp_path / "made")
    tables = {name: FIGURES[name].table(records) for name in figures_of(records)}
    assert [name for name, table in tables.items() if table is not None and FIGURES[name].draw(table)]
    row = page.tables(records)["spectra"].set_index(["group", "measure"]).loc["all", "effective_rank"]
    assert (math.isnan(row["mean"]), row["null"]) == (True, pytest.approx(51.5, abs=0.1))


def test_collapsed_runs_are_counted_and_none_is_left_out() -> None:
    whole = study()
    victims = [line["run_id"] for line in whole.lines if line["rank"] == 1 and line["seed"] in (0, 1)]
    flagged = changed(whole, lambda line: line | ({"collapsed": ["why"]} if line["run_id"] in victims else {}))
    assert "2 of 15 final runs collapsed" in page.write(flagged)
    table = comparison.table(flagged, "reviews").set_index("arm")
    assert table["collapsed"].to_dict() == {"full": 0, "LoRA r=1": 2, "LoRA r=8": 0}
    assert table["test"].equals(comparison.table(whole, "reviews").set_index("arm")["test"])


def test_a_mean_over_matrices_overlooks_none_without_a_value() -> None:
    def one(line: dict[str, Any]) -> dict[str, Any]:
        whole = zeroed(line)
        if "matrices" in line:
            first, *others = line["matrices"]
            whole["matrices"] = {first: whole["matrices"][first]} | {name: line["matrices"][name] for name in others}
        return whole

    rows = update.spectral(changed(study(), one), "reviews").set_index(["group", "measure"])["mean"]
    assert rows["all", "effective_rank"] != rows["all", "effective_rank"]
    assert rows["intermediate.dense", "effective_rank"] == pytest.approx(20.2)
