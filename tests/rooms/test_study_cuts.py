"""The present set of cuts and controls: the validator asks for all of it, and pages say what each part is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from synthetic import CUT_RANKS, EXAMPLES, MODULES, NAMES, SIDE, again, study
from tampered import whole

from analysis.study import content, findings, page, update
from analysis.study.figures import FIGURES
from analysis.study.records import Records
from analysis.study.validator import breaches
from lorax_lab.measure.truncation import Decomposition, controls, cuts
from lorax_lab.study.answers import CUT_ANSWERS, correct_answers

TASK = "reviews"
FOURS = (1, 4, 16)
"""The powers of four below 64."""
Rows = list[list[Any]]


def renewed(line: dict[str, Any], shrunk: dict[int, float] | None = None, of_all: float = 0.05) -> dict[str, Any]:
    """The line as the present program makes it: cuts keep the score from k = 4 on, on validation and on test. The cut
    of all matrices together loses `of_all` at k = 1, where that of each loses 0.2; and what is shrunk gains so much."""
    if "functional" not in line:
        return line
    score, gained = line["metrics"]["validation/accuracy"], shrunk or {50: -0.1, 70: -0.03, 80: 0.0, 90: 0.01}
    jitter = 0.001 * (line["seed"] - 2)
    rows: Rows = [row for row in line["functional"] if row[0] in ("cut", "remainder", "gaussian") and row[2] is None]
    rows += [["random_at_norm", k, None, score - 0.2 * (k < 16)] for k in FOURS]
    rows += [["bottom_at_norm", k, None, score - 0.3] for k in FOURS]
    rows += [["scaled", k, None, score - 0.2 * (k < 16)] for k in FOURS]
    rows += [["global", k, None, score - of_all * (k < 4)] for k in FOURS]
    rows += [["shrunk", k, None, score + gain + jitter] for k, gain in gained.items()]
    rows += [["cut", k, module, score - 0.1 * (k < 4)] for module in MODULES for k in (0, *FOURS)]
    right = correct_answers(line)
    lost = right & (np.cumsum(right) > 0.2 * EXAMPLES["test"])
    answers = {f"cut/{k}": np.packbits(right if k >= 4 else lost).tobytes().hex() for k in CUT_RANKS}
    return line | {"functional": rows, CUT_ANSWERS: answers}


def present(records: Records | None = None, **how: Any) -> Records:
    """The study as the present program would make it."""
    records = records or study()
    return again(records, [renewed(line, **how) for line in records.lines])


def test_the_present_cuts_and_controls_are_those_that_the_program_scores() -> None:
    """Made by `measure.truncation` for matrices of the synthetic shapes."""
    decomposed = {
        name: Decomposition(*torch.linalg.svd(torch.randn(SIDE, SIDE, dtype=torch.float64))) for name in NAMES
    }
    changes = [*cuts(decomposed), *controls(decomposed, torch.Generator(), {})]
    scored = {(change.part, change.k, change.module) for change in changes}
    line = next(line for line in present().lines if "functional" in line)
    assert content._editions(line)[1] == scored
    assert {(part, k, module) for part, k, module, _ in line["functional"]} == scored


def test_both_editions_are_fair() -> None:
    assert breaches(whole()) == []
    assert breaches(present(whole())) == []


def without(part: str) -> Callable[[Rows], Rows]:
    return lambda rows: [row for row in rows if row[0] != part]


PARTS = ("cut", "remainder", "random_at_norm", "bottom_at_norm", "scaled", "global", "shrunk", "gaussian")
CHANGES: dict[str, Callable[[Rows], Rows]] = {part: without(part) for part in PARTS} | {
    "one rank": lambda rows: [row for row in rows if row[:2] != ["random_at_norm", 16]],
    "one share": lambda rows: [row for row in rows if row[:2] != ["shrunk", 80]],
    "a type": lambda rows: [row for row in rows if row[2] != MODULES[0]],
    "k = 0 of a type": lambda rows: [row for row in rows if row[1:3] != [0, MODULES[0]]],
    "a part of the other edition": lambda rows: [*rows, ["random", 4, None, 0.5]],
    "twice": lambda rows: [*rows, rows[-1]],
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_set_that_is_not_complete_is_refused(name: str) -> None:
    records = present(whole())
    lines = [
        line | ({"functional": CHANGES[name](line["functional"])} if "functional" in line else {})
        for line in records.lines
    ]
    assert any("cuts of the full update are missing" in breach for breach in breaches(again(records, lines)))


def answers_after(change: Callable[[Any], Any], line: dict[str, Any]) -> dict[str, Any]:
    """The answers of the cuts after a change, where the line has any and the change leaves some."""
    changed = change(line[CUT_ANSWERS]) if CUT_ANSWERS in line else {}
    return {CUT_ANSWERS: changed} if changed else {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda of: {}, "the answers of the full update's cuts are gone"),
        (lambda of: {k: v for k, v in of.items() if k != "cut/2"}, "cuts are not those of its cuts"),
        (lambda of: of | {"cut/64": of["cut/0"]}, "the uncut update does not have the run's answers"),
    ],
)
def test_answers_of_cuts_that_contradict_the_line_are_refused(change: Callable[[Any], Any], said: str) -> None:
    records = present(whole())
    lines = [
        {key: value for key, value in line.items() if key != CUT_ANSWERS} | answers_after(change, line)
        for line in records.lines
    ]
    assert any(said in breach for breach in breaches(again(records, lines)))


def test_the_page_says_what_each_control_is() -> None:
    text = page.write(present())
    for stated in (
        "At that k, k directions drawn at random, at the cut's norm, score -0.2000 [-0.2000, -0.2000]",
        "At that k, the last k directions, at the cut's norm, score -0.3000 [-0.3000, -0.3000]",
        "At that k, all directions, shrunk to the cut's norm, score -0.2000",
    ):
        assert stated in text
    assert "k directions drawn at random score" not in text
    # k* is decided on test, where only the cuts were scored
    assert "without the top k* = 4 directions loses 0.2000 [0.1980, 0.2020], on validation." in text
    assert "without the top k* = 4 directions loses 0.2000 [0.1980, 0.2020]. " in page.write(study())
    assert "k directions drawn at random score" in page.write(study())


def test_a_control_without_the_ks_own_rank_is_read_at_the_next_one() -> None:
    """k* = 2 where the cut to 2 keeps the score too, and the controls have 1, 4 and 16."""

    def earlier(line: dict[str, Any]) -> dict[str, Any]:
        if CUT_ANSWERS not in line:
            return line
        return line | {CUT_ANSWERS: line[CUT_ANSWERS] | {"cut/2": line["correct"]}}

    records = present()
    moved = again(records, [earlier(line) for line in records.lines])
    assert update.functional_rank(moved, TASK).size == 2
    assert "At k = 4, k directions drawn at random, at the cut's norm, score -0.2000" in "\n".join(findings.cuts(moved))


@pytest.mark.parametrize(
    ("of_all", "words"),
    [
        (0.05, "the model loses 0.2000 [0.1980, 0.2020] with the top k directions of each matrix, and loses 0.0500 "),
        (0.05, "the largest over all matrices; by the second choice it gains 0.1500 [0.1480, 0.1520]."),
        (0.3, "by the second choice it loses 0.1000 [0.0980, 0.1020]."),
    ],
)
def test_directions_of_all_matrices_stand_beside_those_of_each(of_all: float, words: str) -> None:
    """At k* = 1 by a wide margin: the cut of each matrix loses .2 there, within ±.001 · √2.5 · t / √5 = .00196."""
    made = present(of_all=of_all)
    assert words in findings._of_all_matrices(made, TASK, 1)
    assert findings._of_all_matrices(study(), TASK, 1) == ""


def test_the_best_share_of_the_update_gains_only_where_it_surely_does() -> None:
    """Of the seeds' ±.001 and ±.002 the mean has a standard error of .000707, of which Student's half width of four
    intervals at once is t(1 − .05 / 8; 4) = 4.315 times."""
    text = findings._smaller(present(), TASK)
    assert text.startswith(
        "Of 50, 70, 80 and 90 % of the update in every matrix, 90 % is best: the model gains 0.0100 [0.0069, 0.0131] "
        "against 100 %, on validation, where it is chosen too (the interval holds for all 4 at once)."
    )
    near = present(shrunk={50: -0.1, 70: 0.0025, 80: -0.01, 90: -0.02})
    assert update.gains(near, TASK, "shrunk")[70].low > 0  # a gain, had no other share been tried
    assert "70 % is best: the model keeps its score (0.0025 [-0.0006, 0.0056]) against" in findings._smaller(near, TASK)
    worse = present(shrunk=dict.fromkeys((50, 70, 80, 90), -0.05))
    assert "the model loses 0.0500 [0.0469, 0.0531] against 100 %" in findings._smaller(worse, TASK)
    assert findings._smaller(study(), TASK) == ""


@pytest.mark.parametrize(
    ("records", "labels"),
    [
        (study, {"top k directions", "all but the top k", "k random directions", "whole update at the cut's norm"}),
        (
            present,
            {
                "top k directions",
                "all but the top k",
                "k random directions at the cut's norm",
                "last k directions at the cut's norm",
                "whole update at the cut's norm",
            },
        ),
    ],
    ids=["first", "present"],
)
def test_the_figure_draws_the_parts_that_there_are(records: Callable[[], Records], labels: set[str]) -> None:
    table = FIGURES["functional"].table(records())
    figure = FIGURES["functional"].draw(table)
    shown = [line.get_label() for line in figure.axes[0].lines]
    assert set(shown) == labels | {"Gaussian noise of its norm", "a guess among the classes"}
    assert len({line.get_color() for line in figure.axes[0].lines}) == len(shown)
    assert not {"global", "shrunk"} & set(table["part"])


def test_a_score_of_two_fifteenths_is_the_runs_own_though_the_line_rounds_it() -> None:
    """A line keeps metrics to six digits and the scores of cuts as they are."""
    line = next(line for line in present().lines if "functional" in line)
    examples = line["inputs"] | {"examples": line["inputs"]["examples"] | {"validation": 60}}
    rows = [[part, k, module, 8 / 60] for part, k, module, _ in line["functional"]]
    own = line | {"functional": rows, "inputs": examples}

    def said(score: float) -> list[str]:
        return list(content._cuts(own | {"metrics": line["metrics"] | {"validation/accuracy": score}}))

    assert said(0.133333) == []
    assert said(0.15) == ["the uncut update does not have the run's validation score"]
