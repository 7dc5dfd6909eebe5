"""The fair comparison: the choice of rates, what a study needs, and every breach of it refused by name."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from synthetic import PROTOCOL, line, lost, study

from analysis.study import comparison
from analysis.study.update import ALL
from analysis.study.validator import breaches, marked, selection_of
from analysis.study.verdict import NOT_SUPPORTED, rulings
from lorax_lab.study.protocol import Cell, select


def scores_of(best: dict[str, int], steps: range = range(-3, 8)) -> dict[tuple[str, int, int], float]:
    """Scores that fall with the distance from each arm's best step."""
    return {
        (arm.name, step, seed): 0.9 - 0.01 * abs(step - best[arm.name])
        for arm in PROTOCOL.arms
        for step in steps
        for seed in PROTOCOL.selection_seeds
    }


def lines_of(scores: dict[tuple[str, int, int], float]) -> Callable[[Cell], dict[str, Any] | None]:
    """The trials' lines of these scores; one of minus infinity diverged."""

    def line_of(cell: Cell) -> dict[str, Any] | None:
        score = scores.get((cell.arm, PROTOCOL.step(cell.arm, cell.rate), cell.seed))
        made = None if score is None else line(cell, score)
        return made and (made | {"status": "diverged"} if score == -math.inf else made)

    return line_of


def test_the_highest_mean_over_the_seeds_is_chosen() -> None:
    scores = scores_of({"full": 1, "LoRA r=1": 1, "LoRA r=8": 1})
    scores["full", 0, 100] = 0.95  # one lucky seed
    scores["full", 0, 101] = 0.80
    chosen = select(PROTOCOL, "t", lines_of(scores))
    assert {arm: c.step for arm, c in chosen.choices.items()} == {"full": 1, "LoRA r=1": 1, "LoRA r=8": 1}
    assert not any(c.edge for c in chosen.choices.values())
    assert chosen.choices["full"].score == pytest.approx(0.9)


@pytest.mark.parametrize(("best", "steps"), [(2, range(4)), (0, range(-1, 3))])
def test_a_best_rate_at_the_edge_extends_every_arms_grid_by_one(best: int, steps: range) -> None:
    scores = scores_of({"full": best, "LoRA r=1": 1, "LoRA r=8": 1}, range(3))
    waiting = select(PROTOCOL, "t", lines_of(scores))
    assert waiting.steps == steps
    assert {cell.arm for cell in waiting.missing} == {arm.name for arm in PROTOCOL.arms}
    assert len(waiting.missing) == 3 * 2


def test_both_sides_are_extended_and_an_edge_that_stays_is_marked() -> None:
    chosen = select(PROTOCOL, "t", lines_of(scores_of({"full": 5, "LoRA r=1": -1, "LoRA r=8": 1})))
    assert chosen.steps == range(-1, 4)
    assert {arm: c.edge for arm, c in chosen.choices.items()} == {"full": True, "LoRA r=1": True, "LoRA r=8": False}


def test_a_rate_that_ties_with_the_edge_extends_the_grid_where_it_is_declared() -> None:
    scores = scores_of({"full": 1, "LoRA r=1": 1, "LoRA r=8": 1}, range(3))
    scores |= {("full", 2, seed): scores["full", 1, seed] for seed in PROTOCOL.selection_seeds}
    assert not any(c.edge for c in select(PROTOCOL, "t", lines_of(scores)).choices.values())
    assert select(replace(PROTOCOL, ties_are_edges=True), "t", lines_of(scores)).steps == range(4)
    one, other = PROTOCOL.selection_seeds
    scores |= {("full", 1, one): 0.0, ("full", 1, other): 0.8}  # of one sum, but not in floats
    scores |= {("full", 2, one): 0.072, ("full", 2, other): 0.728, ("full", 0, one): 0.0, ("full", 0, other): 0.0}
    assert select(replace(PROTOCOL, ties_are_edges=True), "t", lines_of(scores)).steps.stop == 4


def test_rates_are_chosen_by_a_loss_where_it_is_declared() -> None:
    scores = scores_of({"full": 1, "LoRA r=1": 1, "LoRA r=8": 1}, range(3))

    def line_of(cell: Cell) -> dict[str, Any] | None:
        made, step = lines_of(scores)(cell), PROTOCOL.step(cell.arm, cell.rate)
        return made and made | {"metrics": made["metrics"] | {"validation/log_loss": 1.0 + (step != 0)}}

    chosen = select(replace(PROTOCOL, chosen_by_loss="log_loss", extensions=0), "t", line_of).choices["full"]
    assert (chosen.step, chosen.score, chosen.low, chosen.high) == (0, 1.0, True, False)


def test_an_edge_is_said() -> None:
    def rising(cell: Cell) -> float:
        return 0.5 + 0.02 * PROTOCOL.step(cell.arm, cell.rate)

    records = study(rising)
    assert len(selection_of(records, "reviews").steps) == 4
    assert len(marked(records)) == 3
    (breach,) = breaches(records)
    assert "the best learning rate of full, 0.0008, is at the edge of what was tried" in breach


Spoil = Callable[[list[dict[str, Any]]], object]


def trials(lines: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [x for x in lines if x["config"]["measure"] == "trial" and all(x[k] == v for k, v in wanted.items())]


def final(lines: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    found = [x for x in lines if x["config"]["measure"] != "trial" and all(x[k] == v for k, v in wanted.items())]
    return found[0]


BREACHES: dict[str, Spoil] = {
    "LoRA r=8 8": lambda lines: lines.extend(
        line(Cell("trial", "reviews", "LoRA r=8", 1.5e-3, seed), 0.7) for seed in (100, 101)
    ),
    "trials are missing: 1 of LoRA r=8": lambda lines: lines.remove(trials(lines, rank=8)[0]),
    "LoRA r=8: final runs are missing: seeds 3": lambda lines: lines.remove(final(lines, rank=8, seed=3)),
    "read the test split": lambda lines: trials(lines)[4]["metrics"].update({"test/accuracy": 0.8}),
    "another learning rate": lambda lines: final(lines, rank=8)["config"]["train"].update(learning_rate=5e-3),
    "not declared: 7": lambda lines: final(lines, rank=8, seed=3).update(seed=7),
    "more than once": lambda lines: lines.append(copy.deepcopy(final(lines, rank=8)) | {"run_id": "again"}),
    "data or splits": lambda lines: final(lines, rank=8)["inputs"].update(data_sha256="e"),
    "splits differ": lambda lines: final(lines, rank=8)["inputs"].update(examples={"train": 1}),
    "model differ": lambda lines: final(lines, rank=8)["inputs"].update(model_sha256="n"),
    "training budget": lambda lines: trials(lines, rank=8)[0]["time"].update(steps=38),
    "numeric settings": lambda lines: final(lines, rank=8)["hardware"].update(threads=8),
    "seed 0": lambda lines: final(lines, rank=8)["inputs"].update(head_sha256="another"),
    "task.split_seed": lambda lines: final(lines, rank=8)["config"]["task"].update(split_seed=1),
    "train.epochs": lambda lines: final(lines, rank=8)["config"]["train"].update(epochs=2),
    "train.precision": lambda lines: final(lines, rank=8)["config"]["train"].update(precision="bf16"),
    "rank is 3": lambda lines: final(lines, rank=8)["config"].update(rank=3),
}
"""What the breach names, and how a study comes to it."""


@pytest.mark.parametrize("named", BREACHES)
def test_every_breach_is_refused_by_name(named: str) -> None:
    records = study()
    lines = copy.deepcopy(records.lines)
    BREACHES[named](lines)
    found = breaches(replace(records, lines=lines))
    assert any(named in breach for breach in found), found


def test_what_was_declared_can_break_the_protocol_too() -> None:
    def declared(**changes: Any) -> list[str]:
        return breaches(study(protocol=replace(PROTOCOL, **changes)))

    assert any("3 final seeds" in breach for breach in declared(final_seeds=(0, 1, 2)))
    assert any("final seeds must be fresh" in breach for breach in declared(final_seeds=(100, 1, 2, 3, 4)))
    assert any(
        "no extension is declared" in breach
        for breach in breaches(study(lambda cell: cell.rate, replace(PROTOCOL, extensions=0)))
    )


@pytest.mark.parametrize("seeds", [(2,), (1, 3)])
def test_an_arm_of_which_a_run_diverged_matches_nothing(seeds: tuple[int, ...]) -> None:
    complete, records = study(), lost(study(), seeds, method="lora")
    assert breaches(records) == []
    assert comparison.table(complete, "reviews")["matches"].tolist()[1:] == [False, True]
    assert comparison.table(records, "reviews")["matches"].tolist()[1:] == [False, False]
    enough = comparison.enough(records, "reviews")
    assert enough.size is None
    assert {ruling.verdict for ruling in rulings(records) if ruling.module == ALL} == {NOT_SUPPORTED}


def test_a_reference_that_diverged_is_nothing_to_compare_with() -> None:
    (breach,) = breaches(lost(study(), method="full"))
    assert breach == "reviews: full: final runs diverged, seeds 2: the reference has no score to match"
