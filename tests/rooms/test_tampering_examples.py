"""What lines of regressions and language models keep of each test example, copied or made up: refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from analysis.study.copies import of_split, of_study
from analysis.study.examples import of_cuts, of_scores
from mutations import moved
from tampered import Lines, in_nats, packed

from analysis.study.records import RECORDS, Records, load
from analysis.study.validator import breaches
from lorax_lab.study.answers import cut_pseudo_values, pseudo_values

TASK, METRIC = "scores", "test/pearson"
Change = Callable[[Lines], None]
COPIED = ("correct", "metrics", "log_losses", "functional", "functional_correct", "matrices", "sigma", "gaussian")
"""What a run's line keeps of what came out."""


@cache
def published() -> Records:
    return load(RECORDS / "rank_sweep_2.jsonl")


def lines() -> Lines:
    return copy.deepcopy(published().of(TASK, "final"))


def of_rank(found: Lines, rank: int | None) -> Lines:
    """The final runs of an arm."""
    finals = (line for line in found if line["config"]["measure"] != "trial")
    return [line for line in finals if line["rank"] == rank and line["method"] in ("full", "lora")][:5]


def test_the_published_ones_are_no_copies() -> None:
    assert list(of_split(published(), TASK, lines())) == []
    assert [fault for line in lines() for fault in of_scores(line)] == []


@pytest.mark.parametrize("rank", [None, 4])
def test_one_seeds_pseudo_values_in_another_are_refused(rank: int | None) -> None:
    found = lines()
    one, other = of_rank(found, rank)[:2]
    other |= {"pseudo_values": one["pseudo_values"], "metrics": one["metrics"]}
    assert [text.partition(":")[0] for text in of_split(published(), TASK, found)] == [
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
    (text,) = of_split(published(), TASK, found)
    assert text.startswith("runs with identical pseudo-values when they are cut:")


def shifted(line: dict[str, Any], source: dict[str, Any], by: float) -> None:
    """The pseudo-values of another run, shifted, with the score that they give."""
    values = pseudo_values(source) + by  # type: ignore[operator]
    key = f"test/{line['metric']}"
    line |= {"pseudo_values": packed(values), "metrics": line["metrics"] | {key: float(f"{values.mean():.6g}")}}


def seeds_shifted(found: Lines) -> None:
    first, *others = of_rank(found, 8)
    for line in others:
        shifted(line, first, 0.0005 * line["seed"])


def reference_shifted(found: Lines) -> None:
    full = {line["seed"]: line for line in found if line["method"] == "full" and "pseudo_values" in line}
    for line in of_rank(found, 1):
        shifted(line, full[line["seed"]], 0.004)


def cuts_that_lose_nothing(found: Lines) -> None:
    """Each cut has the whole update's pseudo-values, with some noise."""
    for line in found:
        if "functional_pseudo_values" in line:
            own, draw = cut_pseudo_values(line, "cut"), np.random.default_rng(line["seed"])
            noisy = {f"cut/{k}": packed(own[max(own)] + 0.01 * draw.standard_normal(len(own[k]))) for k in own if k}
            whole = {key: line["functional_pseudo_values"][key] for key in ("cut/0", f"cut/{max(own)}")}
            line["functional_pseudo_values"] = noisy | whole


def a_cut_better_on_validation(found: Lines) -> None:
    for line in found:
        if "functional_pseudo_values" in line:
            step = 0.05 if line.get("higher_is_better", True) else -0.05
            line["functional"] = moved(line["functional"], "cut", 4, step)


ALL_BUT, OTHER = "runs with all but identical pseudo-values", "a cut changes the score on test by other than on"
CHANGES = [
    (seeds_shifted, ALL_BUT),
    (reference_shifted, ALL_BUT),
    (cuts_that_lose_nothing, OTHER),
    (a_cut_better_on_validation, OTHER),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_pseudo_values_of_a_regression_that_were_changed_a_little_are_refused(change: Change, said: str) -> None:
    found = lines()
    change(found)
    assert any(said in text for text in (*of_split(published(), TASK, found), *of_cuts_of(found)))


def of_cuts_of(found: Lines) -> list[str]:
    ranks = {line["run_id"]: {k for part, k, module, _ in line.get("functional", ()) if part == "cut" and not module}
             for line in found}  # fmt: skip
    return [fault for line in found if "functional" in line for fault in of_cuts(line, ranks[line["run_id"]])]


def test_what_cuts_change_of_the_published_pseudo_values_agrees_with_validation() -> None:
    assert of_cuts_of(lines()) == []


def a_score_below_zero(found: Lines) -> None:
    line = of_rank(found, 8)[0]
    shifted(line, line, -1.5)


def a_cut_below_zero(found: Lines) -> None:
    line = of_rank(found, None)[0]
    line["functional"] = moved(line["functional"], "random", 4, -3.0)


def a_trial_below_zero(found: Lines) -> None:
    found[0]["metrics"] = {"validation/nats": -found[0]["metrics"]["validation/nats"]}


def a_cut_below_zero_on_test(found: Lines) -> None:
    line = of_rank(found, None)[0]
    values = cut_pseudo_values(line, "cut")[4] - 3.0
    line["functional_pseudo_values"] = line["functional_pseudo_values"] | {"cut/4": packed(values)}


OF_NATS = [
    *CHANGES,
    (a_score_below_zero, "no nats can be what it scores"),
    (a_trial_below_zero, "no nats can be what it scores"),
    (a_cut_below_zero, "no nats can be what a cut scores"),
    (a_cut_below_zero_on_test, "no nats can be what a cut scores"),
]


@pytest.mark.parametrize(("change", "said"), OF_NATS)
def test_nats_that_were_changed_are_refused(change: Change, said: str) -> None:
    found = copy.deepcopy(in_nats().lines)
    change(found)
    assert any(said in breach for breach in breaches(replace(in_nats(), lines=found)))


def test_a_study_in_nats_is_fair() -> None:
    assert breaches(in_nats()) == []


def test_one_samples_runs_in_another_samples_are_refused() -> None:
    """Two conditions that share the test split."""
    found = copy.deepcopy(published().lines)
    records = replace(published(), lines=found)
    one, other = (records.of(name, "final") for name in ("sarcasm", "sarcasm (sample 2)"))
    source = {(records.arm_of(line), line["seed"]): line for line in one}
    for line in other:
        of_first = source[records.arm_of(line), line["seed"]]
        line |= {key: of_first[key] for key in COPIED if key in of_first}
    found_breaches = [text.partition(": runs")[0] for text in of_study(records)]
    assert found_breaches.count("sarcasm, sarcasm (sample 2)") >= len(other)


@pytest.mark.parametrize(("which", "score"), [(0, 2.5), (1, None), (2, "gone")])
def test_the_model_before_training_has_one_score_in_all_runs(which: int, score: Any) -> None:
    records = in_nats()
    finals = {line["run_id"] for name in records.conditions for line in records.of(name, "final")}
    scored = [
        line | ({"baselines": {"untrained/nats": 4.2}} if line["run_id"] in finals else {}) for line in records.lines
    ]
    assert breaches(replace(records, lines=scored)) == []
    changed = next(line for line in scored[which:] if "baselines" in line)
    changed["baselines"] = {} if score == "gone" else {"untrained/nats": score}
    assert any(
        f"the model before training has another score on {records.conditions[0]}" in breach
        and changed["run_id"] in breach
        for breach in breaches(replace(records, lines=scored))
    )
