"""Which rank to take: each rule by hand, its regret over made cells, and the page that the published records give."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from synthetic import PROTOCOL, changed, directed, study

from analysis import which_rank
from analysis.study.command import load_all
from analysis.study.records import RECORDS, Records
from lorax_lab.errors import ConfigError
from lorax_lab.study.protocol import Arm

HEAD = {"metric": "accuracy", "metrics": {"test/accuracy": 0.6}}
MINILM = np.array([(384, 384)] * 24 + [(1536, 384), (384, 1536)] * 6)


def cell(task: str, scores: dict[int, float], gap: float = 0.0, **changes: Any) -> which_rank.Cell:
    """A made cell of 3,000 examples of two classes, whose runs have every signal."""
    parameters = {rank: int(rank * MINILM.sum()) for rank in scores}
    place = {"study": "made", "condition": task, "task": task, "kind": "classification", "unit": "", "classes": 2}
    signals = dict.fromkeys(which_rank.SIGNALS, math.nan) | {which_rank.GAP: gap}
    made = {"examples": 3000, "alpha": 16.0, "scores": scores, "adaptive": {}, "parameters": parameters, "seconds": {}}
    return which_rank.Cell(**place | made | {"shapes": MINILM, "signals": signals} | changes)


BY_HAND = {
    (3000, 2): [16, 1, 1, math.sqrt(3000), 1],
    (2400, 24): [16, 1, 1, math.sqrt(2400), 2],  # 2 · 41,472 − 36 · 4 > 1.35 · 24 · 2,400
    (200_000, 24): [64, 5, 12, math.sqrt(200_000), 187],
    (999, 0): [8, None, None, math.sqrt(999), None],  # texts, whose tokens no record counts
}


@pytest.mark.parametrize(("examples", "classes"), BY_HAND)
def test_each_rule_names_the_rank_that_is_worked_out_by_hand(examples: int, classes: int) -> None:
    of_task = cell("made", {8: 0.8}, examples=examples, classes=classes)
    names = ["axolotl's proposal", "Tinker's", "2 bits a parameter", "√N", "1.35·K·N"]
    assert [which_rank.RULES[name](of_task, []) for name in names] == BY_HAND[examples, classes]


def test_regret_is_the_best_score_less_that_of_the_rule_and_tasks_count_alike() -> None:
    grid = {1: 0.70, 8: 0.80, 16: 0.805, 64: 0.79}
    of_cells = [cell("one", grid), cell("one", grid | {1: 0.78}), cell("two", {1: 0.905, 8: 0.90})]
    rows = which_rank.table(of_cells)
    assert [c.needed for c in of_cells] == [8, 8, 1]
    assert not (rows["rule"] == "rank 4").any()  # 8 is a factor of 2 away
    first = which_rank.standing(rows, "rank 1")
    assert first["regret"].mean == pytest.approx(((0.105 + 0.025) / 2 + 0) / 2)
    assert first["left_out"] == pytest.approx([0, 0.065])
    assert first["more"].mean == pytest.approx(((0.1 + 0.02) / 2 - 0.005) / 2)
    assert (first["cells"], first["short"], first["worst"]) == (3, 2, pytest.approx(0.105))
    assert first["times_needed"].mean == pytest.approx((1 / 8) ** 0.5)  # of 1/8 and 1
    assert which_rank.standing(rows, "AdaLoRA, ends at rank 8") == {"name": "AdaLoRA, ends at rank 8", "cells": 0}


def test_a_cell_has_the_same_regrets_whichever_scores_are_better(higher: bool) -> None:
    """On validation, where one seed tells what rank 8 gains over rank 1, that is .2."""

    def change(line: dict[str, Any]) -> dict[str, Any]:
        return line | {"metrics": line["metrics"] | {"validation/accuracy": 0.5 + 0.2 * (line["rank"] == 8)}}

    of_study, _ = which_rank._cell(directed(changed(study(), change), higher), "reviews")
    assert of_study.signals[which_rank.GAP] == pytest.approx(0.2)
    assert (of_study.needed, of_study.regret(8), of_study.regret(1)) == (8, 0, pytest.approx(0.03))
    assert of_study.scores[8] == pytest.approx(0.801 if higher else -0.199, abs=1e-3)


def test_a_task_that_only_a_control_or_a_study_of_several_bases_has_is_no_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_tasks(*tasks: str) -> Records:
        return replace(study(tasks=tasks), heads=dict.fromkeys(tasks, HEAD))

    def on_made_base(line: dict[str, Any]) -> dict[str, Any]:
        is_of_tweets = line["config"]["task"]["name"] == "tweets"
        return line | {"config": line["config"] | {"model": "made"}} if is_of_tweets else line

    several = changed(of_tasks("reviews", "spotted", "tweets"), on_made_base)
    monkeypatch.setattr(which_rank, "breaches", lambda records: [])
    control = of_tasks("labels")
    control = replace(control, declared=replace(control.declared, control_of="made"))
    of_cells = which_rank.cells([of_tasks("reviews", "tweets"), several, control])
    assert [c.task for c in of_cells] == ["reviews", "tweets"]


def test_a_study_that_did_not_try_rank_1_and_another_has_no_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(which_rank, "breaches", lambda records: [])
    counts: list[int] = []
    for ranks in ((1, 8), (2, 8), (1,)):
        arms = [Arm(f"LoRA r={rank}", ("method=lora", f"rank={rank}"), 1e-3) for rank in ranks]
        protocol = replace(PROTOCOL, arms=(PROTOCOL.arms[0], *arms))
        made = replace(study(lambda cell: 0.8, protocol), heads={"reviews": HEAD})
        counts.append(len(which_rank.cells([made])))
    assert counts == [1, 0, 0]


def test_a_control_with_a_part_of_the_runs_is_no_cell_and_gives_what_chooses_its_own_ranks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(which_rank, "breaches", lambda records: [])
    adalora = Arm("AdaLoRA r=8", ("method=peft/adalora", "rank=8"), 1e-3)
    more = Arm("LoRA r=64", ("method=lora", "rank=64"), 1e-2)
    made = [
        replace(study(lambda cell: 0.9 if cell.arm == adalora.name else 0.8, protocol), heads={"reviews": HEAD})
        for arm in (more, adalora)
        for protocol in [replace(PROTOCOL, arms=(*PROTOCOL.arms, arm))]
    ]
    of_cells = which_rank.cells(made)
    assert [list(c.scores) for c in of_cells] == [[1, 8, 64]]
    (score, parameters) = of_cells[0].adaptive["AdaLoRA, ends at rank 8"]
    assert (score, parameters) == (pytest.approx(0.9), of_cells[0].parameters[8])


def test_a_method_of_its_own_ranks_has_the_regret_of_its_score() -> None:
    rows = which_rank.table([cell("one", {8: 0.8}, adaptive={"ours": (0.82, 100)})])
    row = rows.set_index("rule").loc["ours"]
    assert (row["rank"], row["regret"], row["more"]) == (which_rank.USUAL, pytest.approx(-0.02), pytest.approx(-0.02))


def test_a_forecast_is_fitted_to_other_tasks_alone() -> None:
    grid = {1: 0.0, 2: 0.0, 4: 0.0, 8: 0.0, 16: 0.0, 32: 0.0}
    of_cells = [cell(f"task {i}", grid | {2**i: 0.5}, gap=i / 10) for i in range(6)]
    rows = which_rank.table(of_cells)
    named = rows[rows["rule"] == f"forecast from the {which_rank.GAP}"]
    assert named["rank"].tolist() == named["needed"].tolist() == [1, 2, 4, 8, 16, 32]
    rows = which_rank.table([*of_cells, cell("task 0", grid | {32: 0.5}, gap=0.0)])  # a repeat that needs another rank
    of_task = rows[(rows["rule"] == f"forecast from the {which_rank.GAP}") & (rows["task"] == "task 0")]
    assert of_task["rank"].tolist() == [1, 1]
    others = [replace(c, signals=c.signals | {which_rank.GAP: 0.3}) for c in of_cells]
    assert which_rank.forecast(which_rank.GAP)(of_cells[0], others) is None  # nothing varies


def test_the_cells_most_like_a_task_come_first() -> None:
    of_cells = [
        cell("sarcasm", {1: 0.8}),
        cell("cloze", {1: 0.4}, classes=24),
        cell("rating", {1: 0.7}, kind="regression"),
    ]
    assert which_rank.most_like(of_cells, ["cloze"])["condition"].tolist() == ["cloze", "sarcasm", "rating"]
    assert which_rank.most_like(of_cells, ["classification", "3", "100"])["condition"].tolist()[0] == "sarcasm"
    with pytest.raises(ConfigError, match="did you mean 'sarcasm'"):
        which_rank.most_like(of_cells, ["sarcas"])


def test_the_advice_is_the_smallest_rank_that_nearly_all_tried_and_that_is_close_to_the_best_on_average() -> None:
    steep = cell("sarcasm", {1: 0.7, 4: 0.795, 8: 0.8, 64: 0.8})
    flat = cell("cloze", {1: 0.8, 8: 0.8, 64: 0.785})
    of_all = which_rank.most_like([steep, flat], ["sarcasm"])
    said = which_rank.advice(of_all, "these")
    assert "take rank 8, because over these it scores 0.0000 less" in said
    assert "in 0 of 2" in said
    assert "take rank 4, because over these it scores 0.0050 less" in which_rank.advice(of_all[:1], "these")
    of_two = which_rank.most_like([cell("a", {1: 0.7, 4: 0.8}), cell("b", {1: 0.8, 4: 0.7})], ["a"])
    assert which_rank.advice(of_two, "these").startswith("advice: none")


@pytest.mark.slow
def test_the_table_and_the_page_are_what_the_records_give() -> None:
    of_cells = which_rank.cells(load_all(RECORDS))
    rows = which_rank.table(of_cells)
    assert all(
        (score < 0) == bool(c.unit) for c in of_cells for score in c.scores.values()
    )  # nats: the lower, the better
    assert rows.to_csv(index=False) == (which_rank.DOCS / "which_rank.csv").read_text(encoding="utf-8")
    assert which_rank.page(of_cells, rows) == (which_rank.DOCS / "which_rank.md").read_text(encoding="utf-8")
