"""`docs/paper.md`: claims are decided by intervals, and every number is that of the records."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import study
from test_pages import check

from analysis.__main__ import main
from analysis.paper import controls, page, readings
from analysis.paper.readings import CONTROLS, FAILS, HOLDS, UNSURE, above, is_task, of_every_two
from analysis.study import comparison
from analysis.study.figures import FIGURES, STANDARD
from analysis.study.paper import theirs
from analysis.study.records import Records
from analysis.study.statistics import Interval

SEEDS, D, PAIRS = range(5), 384, 10
CLAIMS = {claim["read"]: claim["with"] for section in page.sections() for claim in section["claims"]}


def read(name: str, records: Records) -> list[readings.Reading]:
    """What a claim's reading gives, by the numbers of its rule."""
    return list(getattr(readings, name)(records, **CLAIMS[name]))


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 5)


def test_what_every_two_seeds_share_has_an_interval_over_seeds() -> None:
    """Of 600 studies of five seeds whose pairs share what each seed brings, about 95 in 100 intervals hold the truth;
    Student's over the ten pairs, as if they were independent, holds it far less often."""
    draw, truth = np.random.default_rng(0), 0.3
    held = as_if_independent = 0
    for _ in range(600):
        own = draw.normal(0, 0.1, 5)
        pairs = [truth + own[a] + own[b] + draw.normal(0, 0.02) for a in range(5) for b in range(a + 1, 5)]
        found = of_every_two(pairs, 5)
        assert found.mean == pytest.approx(np.mean(pairs))
        held += found.low < truth < found.high
        as_if_independent += abs(found.mean - truth) < 2.262 * np.std(pairs, ddof=1) / np.sqrt(PAIRS)
    assert 0.92 < held / 600 < 0.985
    assert as_if_independent / 600 < 0.85
    assert above(of_every_two([0.4], 2), 0.1) == UNSURE  # two seeds have no interval


# ---- which directions updates share


def similar(at: dict[str, float]) -> Records:
    """Similarities of two layers, each pair of runs apart by a little: `at` (i, j), .2 elsewhere."""
    draw = np.random.default_rng(1)
    counts = {readings.RANKS: 2 * PAIRS, readings.SEEDS: PAIRS, readings.OF_FULL: PAIRS, readings.BASE_AND_FULL: 5}
    rows = []
    for pair, count in (counts | dict.fromkeys(readings.BY_RANK.values(), 5)).items():
        for side in (readings.FACTOR, readings.START, readings.ROW, readings.COLUMN):
            for module, layer in ((module, layer) for module in (readings.QUERY, readings.VALUE) for layer in (0, 1)):
                each = {
                    key: (at.get(key, 0.2) + 0.005 * draw.standard_normal(count)).tolist()
                    for key in ("1,1", "8,8", "1,64", "8,64", "40,4", "40,8", "40,64", "64,64")
                }
                place = {"condition": "sarcasm", "pair": pair, "side": side, "module": module, "layer": layer}
                rows.append(place | {"d": D, "each": each})
    return dataclasses.replace(study(tasks=("sarcasm",)), rows={"similarities": rows})


def test_the_other_directions_are_told_apart_from_the_top_one() -> None:
    """A top direction that is shared in full, with seven at chance, gives both claims of Figure 3 together."""
    chance = 64 / D
    top = similar({"1,1": 0.95, "1,64": 1.0, "8,64": (1 + 7 * chance) / 8})
    assert {reading.outcome for name in ("top_direction", "other_directions") for reading in read(name, top)} == {HOLDS}
    more = similar({"1,64": 0.3, "8,64": 0.4})
    assert {reading.outcome for reading in read("other_directions", more)} == {FAILS}


# ---- amplification


def amplified(over_noise: float, fall: float = 10.0) -> Records:
    """Factors of three matrices and five seeds, as shares of a Gaussian's, which falls tenfold from r = 4 to 64."""
    rows = [
        {"condition": "sarcasm", "arm": arm, "seed": seed, "matrix": matrix, "module": "value", "r": r}
        | {"factor": over_noise * 8 * (1 + 0.001 * seed) / (1 if r == 4 else fall), "gaussian_factor": 8.0 * scale}
        | {"random_factor": 8.0 * scale, "base_factor": 0.1 * scale}
        for arm, r, scale in (("LoRA r=4", 4, 1.0), ("LoRA r=64", 64, 0.1))
        for seed in SEEDS
        for matrix in ("one", "two", "three")
    ]
    return dataclasses.replace(study(tasks=("sarcasm",)), rows={"factors": rows})


@pytest.mark.parametrize(("over_noise", "outcome"), [(0.5, HOLDS), (0.9, FAILS), (1.0, FAILS), (2, FAILS)])
def test_amplification_stands_beside_a_gaussian_of_its_norm(over_noise: float, outcome: str) -> None:
    few, many = read("uses_directions_of_the_base", amplified(over_noise))
    assert (few.outcome, many.outcome) == (outcome, outcome)
    assert few.says["larger"].mean == pytest.approx(1 / (over_noise * 1.002), rel=1e-5)
    assert (few.says["factor"], few.says["gaussian"]) == pytest.approx((over_noise * 8.016, 8.0), rel=1e-5)


# ---- arms against each other


def of_scores(monkeypatch: pytest.MonkeyPatch, score: dict[str, float], half: float = 0.005) -> Records:
    """A study whose arms score so, .8 where nothing is said, with intervals of this half, twice it if there are
    several."""

    def gain(records: Records, task: str, one: str, other: str, of: int = 1) -> Interval:
        mean, width = score.get(one, 0.8) - score.get(other, 0.8), half if of == 1 else 2 * half
        return Interval(mean, mean - width, mean + width, 5)

    arms = [*readings.SINGLE, "query and value r=4", "attention r=2", "query and value r=1", "query r=1"]
    monkeypatch.setattr(readings, "between", gain)
    monkeypatch.setattr(comparison, "gains", lambda *_: {arm: gain(study(), "", arm, "full") for arm in arms})
    monkeypatch.setattr(readings, "rates", lambda *_: "")
    monkeypatch.setattr(readings, "trained", lambda *_: "")
    return study(tasks=("sarcasm",))


OF_SCORES = (
    ("several_types", {"arm": "query and value r=4"}),
    ("rank_one", {"arm": "query and value", "is_enough": True}),
    ("rank_one", {"arm": "query", "is_enough": False}),
)


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        ({}, [UNSURE, HOLDS, UNSURE]),
        ({"query and value r=4": 0.85}, [HOLDS, FAILS, UNSURE]),
        ({"key r=8": 0.85}, [FAILS, HOLDS, UNSURE]),
        ({"query r=1": 0.85}, [UNSURE, HOLDS, FAILS]),
        ({"query and value r=1": 0.7, "query r=1": 0.7}, [UNSURE, FAILS, HOLDS]),
        ({"query and value r=8": 0.82, "query r=64": 0.82}, [UNSURE, UNSURE, HOLDS]),
    ],
)
def test_claims_of_scores_are_decided_by_every_comparison(
    score: dict[str, float], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = of_scores(monkeypatch, score)
    found = [next(getattr(readings, name)(records, **given)).outcome for name, given in OF_SCORES]
    assert found == expected


def test_the_rules_of_scores_hold_of_the_papers_own_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """WikiSQL, with intervals of a tenth of a point: what the paper claims is what the rules read off its tables."""
    table_5, table_6 = (theirs(name)["GPT-3, WikiSQL"] for name in ("paper_which_matrices", "paper_which_rank"))
    scores = {arm: score / 100 for arm, score in (table_6 | table_5).items()}
    records = of_scores(monkeypatch, scores, half=0.0005)
    asked = [*OF_SCORES, ("several_types", {"arm": "attention r=2"})]
    assert {next(getattr(readings, name)(records, **given)).outcome for name, given in asked} == {HOLDS}


# ---- controls and notes


@pytest.mark.parametrize(("control", "said"), [(0.2, controls.REFUTED), (0.02, controls.STANDS), (0.1, controls.OPEN)])
def test_a_control_refutes_what_it_has_more_than_half_of(control: float, said: str) -> None:
    """The task shares .2 beyond chance. Random labels are held against the task of their own texts alone."""
    rows: list[dict[str, Any]] = []
    for task, beyond in (("sarcasm", 0.2), ("random labels", control), ("tweets", 0.2)):
        at = {f"{k},{k}": k / D + beyond for k in (1, 64)}
        rows += [row | {"condition": task} for row in similar(at).rows["similarities"]]
    records = study(tasks=("sarcasm", "random labels", "tweets"))
    found = controls.rows_of({"paper_subspaces": dataclasses.replace(records, rows={"similarities": rows})})
    seeds = [row for row in found if row["asks"] == "seeds"]
    assert [row["words"] for row in seeds] == list(readings.SIDES_OF_SEEDS)
    assert [row["k"] for row in seeds] == [1, 64, 64, 64, 64]  # of A the first direction, else all 64
    assert {row["outcome"] for row in seeds} == {said}
    held = [(row["control"], row["task"]) for row in found]
    assert held.count(("before training", "tweets")) == held.count(("before training", "sarcasm")) == 1
    assert ("random labels", "tweets") not in held
    assert controls.rows_of({"paper_subspaces": study(tasks=("sarcasm",))}) == []


# ---- the claims and the page


def test_claims_name_arms_pairs_and_figures_that_the_studies_have() -> None:
    plans = {name: importlib.import_module(f"experiments.{name}").plan() for name in page.studies_of_paper()}
    for section in page.sections():
        plan = plans[section["study"]]
        assert set(section["figures"]) <= set(plan.figures or STANDARD) & set(FIGURES), section["title"]
        assert plan.protocol.margin == 0.02  # the rules name it
        assert plan.afterwards or not section["measured"]
    conditions = {name for plan in plans.values() for name in plan.conditions}
    assert {name for name in conditions if is_task(name) and not name.endswith(" examples")} <= set(page.TASKS)
    assert set(CONTROLS) <= conditions
    names = {arm.name for arm in plans["paper_baselines"].protocol.arms}
    assert {readings.ALONE, readings.RANK_1, *readings.SMALL} <= names


def test_the_page_of_what_is_not_there_is_the_golden_one() -> None:
    records = dataclasses.replace(study(tasks=("sarcasm",)), name="paper_rank_by_loss")
    lines = [line for line in records.lines if line["config"]["measure"] == "trial" or line["seed"] != 0]
    incomplete = dataclasses.replace(records, lines=lines)
    check("paper", page.write([incomplete], {}, {"paper_baselines": "its declaration is gone"}))


@pytest.mark.slow
def test_the_committed_page_is_what_the_records_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a copy beside the figures, so that its links are the same."""
    copy = page.OUT.with_name("paper-of-a-test.md")
    try:
        assert main(["paper", "--out", str(copy)]) == 0
        assert copy.read_text(encoding="utf-8") == page.OUT.read_text(encoding="utf-8"), (
            "type: python -m analysis paper"
        )
    finally:
        copy.unlink(missing_ok=True)
    assert str(copy) in capsys.readouterr().out
