"""What a published regression's lines keep of each test example, copied or made up: it is refused by name."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
from tampered import Lines, packed

from analysis.study.copies import of_condition
from analysis.study.examples import of_scores
from analysis.study.records import RECORDS, Records, load
from lorax_lab.store.answers import cut_pseudo_values, pseudo_values

TASK, METRIC = "scores", "test/pearson"


@cache
def published() -> Records:
    return load(RECORDS / "rank_sweep_2.jsonl")


def lines() -> Lines:
    return copy.deepcopy(published().of(TASK, "final"))


def of_rank(found: Lines, rank: int | None) -> Lines:
    return [line for line in found if line["rank"] == rank and line["method"] in ("full", "lora")][:5]


def test_the_published_ones_are_no_copies() -> None:
    assert list(of_condition(published(), TASK, lines())) == []
    assert [fault for line in lines() for fault in of_scores(line)] == []


@pytest.mark.parametrize("rank", [None, 4])
def test_one_seeds_pseudo_values_in_another_are_refused(rank: int | None) -> None:
    found = lines()
    one, other = of_rank(found, rank)[:2]
    other |= {"pseudo_values": one["pseudo_values"], "metrics": one["metrics"]}
    assert [text.partition(":")[0] for text in of_condition(published(), TASK, found)] == [
        "runs with identical pseudo-values"
    ]


def test_pseudo_values_that_are_all_the_same_are_refused() -> None:
    line: dict[str, Any] = of_rank(lines(), 8)[0]
    values = np.full(len(pseudo_values(line)), 0.75)  # type: ignore[arg-type]
    line |= {"pseudo_values": packed(values), "metrics": line["metrics"] | {METRIC: 0.75}}
    assert list(of_scores(line)) == ["its pseudo-values are all the same"]


def test_one_seeds_pseudo_values_when_cut_in_another_are_refused() -> None:
    found = lines()
    one, other = [line for line in found if cut_pseudo_values(line, "cut")][:2]
    other["functional_pseudo_values"] = dict(other["functional_pseudo_values"])
    other["functional_pseudo_values"]["cut/8"] = one["functional_pseudo_values"]["cut/8"]
    (text,) = of_condition(published(), TASK, found)
    assert text.startswith("runs with identical pseudo-values when they are cut:")
