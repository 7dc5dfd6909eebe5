"""Studies with degenerate runs: updates of zero, seeds with equal scores, collapsed runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from matplotlib.legend import Legend
from synthetic import peaked, publish, study

from analysis.__main__ import main
from analysis.study import comparison, update
from analysis.study.figures import FIGURES
from analysis.study.records import Records
from lorax_lab.record.result import UNDEFINED
from lorax_lab.spectra import NULLS

MEASURES = ("effective_rank", "stable_rank", "participation_ratio", "relative_norm", "bulk_misfit")
"""Those that are null in a line where the update, or its base, is zero."""


def drawn(records: Records, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """The exit code of the study's figures and pages, what was printed, and the page."""
    publish(folder / "made", records.lines, records.declared)
    out = folder / "out"
    places = ["--records", str(folder), "--out", str(out), "--verdict", str(folder / "VERDICT.md")]
    code = main(["study", "made", *places])
    return code, capsys.readouterr().out, (out / "made" / "VERDICT.md").read_text()


def changed(records: Records, change: Any) -> Records:
    return dataclasses.replace(records, lines=[change(line) for line in records.lines])


def zeroed(line: dict[str, Any]) -> dict[str, Any]:
    """The same run, every update of it zero."""
    if "matrices" not in line:
        return line
    nulls = (
        {name: dict.fromkeys(update.MEASURES) | {"above": 0.0} for name in NULLS} if line["method"] == "full" else {}
    )
    none = (
        dict.fromkeys(MEASURES) | {UNDEFINED: "ΔW is zero", "frobenius_norm": 0.0} | ({"nulls": nulls} if nulls else {})
    )
    rows = {name: row | none for name, row in line["matrices"].items()}
    return line | {"matrices": rows} | ({"gaussian": rows} if "gaussian" in line else {})


def test_updates_of_zero_are_drawn_and_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, page = drawn(changed(study(), zeroed), tmp_path, capsys)
    assert code == 0
    assert "| effective rank | — | 51.5 | — | — | — | — | — |" in page
    assert "Measures have no value where a matrix has none: ΔW is zero in 30 of 30." in page


@pytest.mark.parametrize("score", [1.0])
def test_runs_of_equal_scores_are_drawn(score: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = drawn(study(lambda cell: score if cell.stage == "final" else peaked(cell)), tmp_path, capsys)
    assert (code, "answer.png" in printed) == (0, True)


def test_collapsed_runs_are_counted_and_none_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = study()
    victims = [line["run_id"] for line in whole.lines if line["rank"] == 1 and line["seed"] in (0, 1)]
    flagged = changed(whole, lambda line: line | ({"collapsed": ["why"]} if line["run_id"] in victims else {}))
    code, _, page = drawn(flagged, tmp_path, capsys)
    assert code == 0
    assert "2 of 15 final runs collapsed; none is left out." in page
    table = comparison.table(flagged, "reviews").set_index("arm")
    assert table["collapsed"].to_dict() == {"full": 0, "LoRA r=1": 2, "LoRA r=8": 0}
    assert table["test"].equals(comparison.table(whole, "reviews").set_index("arm")["test"])
    assert comparison.every_seed(flagged)["collapsed"].sum() == 2


def crosses(figure: Any) -> list[int]:
    """How many points of each panel have a cross."""
    return [sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == "x") for axes in figure.axes]


def legends_of(figure: Any) -> list[Any]:
    return [text for legend in figure.findobj(Legend) for text in legend.get_texts()]


@pytest.mark.parametrize(
    ("name", "marks", "label"),
    [
        ("answer", [2, 0], "collapsed run, or full fine-tune of its seed"),
        ("trials", [2, 0], "a trial collapsed"),  # the panel, and its colours
        ("cost", [0, 0, 0, 1], "a run collapsed"),  # three costs, then the scores
    ],
)
def test_collapsed_runs_have_crosses_and_their_legend(name: str, marks: list[int], label: str) -> None:
    def is_victim(line: dict[str, Any]) -> bool:
        return line["rank"] == 1 and line["seed"] in (0, 1, 100) and line["config"]["train"]["learning_rate"] > 1e-3

    flagged = changed(study(), lambda line: line | ({"collapsed": ["why"]} if is_victim(line) else {}))
    figure = FIGURES[name].draw(FIGURES[name].table(flagged))
    assert crosses(figure) == marks
    assert label in [text.get_text().replace("\n", " ") for text in legends_of(figure)]
    without = FIGURES[name].draw(FIGURES[name].table(study()))
    assert not any(crosses(without))
    assert not any(label in text.get_text() for text in legends_of(without))


def test_a_collapsed_full_fine_tune_marks_all_that_is_compared_with_it() -> None:
    flagged = changed(
        study(),
        lambda line: line | ({"collapsed": ["why"]} if (line["method"], line["seed"]) == ("full", 2) else {}),
    )
    table = FIGURES["answer"].table(flagged)
    assert set(table[table["collapsed"]]["seed"]) == {2}
    assert table["collapsed"].sum() == (table["seed"] == 2).sum()
    assert all(crosses(FIGURES["answer"].draw(table)))
    scores = FIGURES["cost"].draw(FIGURES["cost"].table(flagged)).axes[3]
    assert scores.get_title("left").split("\n")[0] == "reviews; full: 1 of 5 collapsed"


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
