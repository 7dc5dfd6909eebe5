"""`docs/paper.md`: claims are decided by intervals, and every number is that of the records."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import directed, study

from analysis.__main__ import main
from analysis.paper import directions, page, readings
from analysis.paper.directions import of_every_two
from analysis.paper.readings import CONTROLS, FAILS, HOLDS, NOT_TOLD, Reading, above, between, is_task
from analysis.study.figures.directions import EVERY
from analysis.study.paper import theirs
from analysis.study.records import Records
from experiments.study import plan_of
from lorax_lab.errors import ConfigError
from lorax_lab.record.statistics import Interval

SEEDS, D, PAIRS = range(5), 384, 10
TABLE_5_AND_6 = [claim for claim in page.claims() if claim["table"] in ("Table 5", "Tables 6, 15")]


def outcome(read: str, records: Records) -> str:
    """What comes out of the claim that is read so, on sarcasm."""
    claim = next(claim for claim in page.claims() if claim["read"] == read)
    return page.outcome_of(claim, page.read(claim, records, "sarcasm"))


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
    assert above(of_every_two([0.4], 2), 0.1).outcome == NOT_TOLD  # two seeds have no interval


def similar(at: dict[str, float], task: str = "sarcasm") -> list[dict[str, Any]]:
    """Similarities of two layers, each pair of runs apart by a little: `at` (i, j), .2 elsewhere."""
    draw = np.random.default_rng(1)
    counts = {directions.RANKS: 2 * PAIRS, directions.SEEDS: PAIRS, directions.OF_FULL: PAIRS}
    rows = []
    for pair, count in (counts | dict.fromkeys(directions.BY_RANK.values(), 5)).items():
        for side in (directions.FACTOR, directions.START, directions.ROW, directions.COLUMN):
            for module, layer in ((module, layer) for module in directions.MODULES for layer in (0, 1)):
                each = {
                    key: (at.get(key, 0.2) + 0.005 * draw.standard_normal(count)).tolist()
                    for key in ("1,1", "8,8", "1,64", "8,64", "40,4", "40,64", "64,64")
                }
                place = {"condition": task, "pair": pair, "side": side, "module": module, "layer": layer}
                rows.append(place | {"d": D, "each": each})
    return rows


def with_similarities(at: dict[str, float]) -> Records:
    return dataclasses.replace(study(tasks=("sarcasm",)), rows={"similarities": similar(at)})


def test_the_other_directions_are_told_apart_from_the_top_one() -> None:
    """A top direction that is shared in full, with seven at chance, gives both claims of Figure 3 together."""
    chance = 64 / D
    top = with_similarities({"1,1": 0.95, "1,64": 1.0, "8,64": (1 + 7 * chance) / 8})
    assert {outcome(name, top) for name in ("top_is_shared", "others_are_not")} == {HOLDS}
    assert outcome("others_are_not", with_similarities({"1,64": 0.3, "8,64": 0.4})) == FAILS


def test_directions_of_the_base_are_counted_beyond_chance() -> None:
    """Of W's 40 the 64 of rank 64 have 40 · 64 / 384 by chance, and the 4 of rank 4 have 4 · 40 / 384."""
    assert outcome("base_by_rank", with_similarities({"40,4": 40 / D + 0.1, "40,64": 64 / D + 0.02})) == HOLDS
    assert outcome("base_by_rank", with_similarities({"40,4": 40 / D + 0.2, "40,64": 64 / D})) == FAILS
    assert outcome("base_is_not_repeated", with_similarities({"40,4": 0.4})) == FAILS


@pytest.mark.parametrize(("control", "says"), [(0.2, FAILS), (0.02, HOLDS), (0.1, NOT_TOLD)])
def test_a_control_that_has_more_than_half_leaves_no_sign_of_the_task(control: float, says: str) -> None:
    """The task shares .2 beyond chance."""
    rows: list[dict[str, Any]] = []
    for task, beyond in (("sarcasm", 0.2), ("random labels", control)):
        rows += similar({f"{k},{k}": k / D + beyond for k in (1, 64)}, task)
    records = dataclasses.replace(study(tasks=("sarcasm", "random labels")), rows={"similarities": rows})
    found = list(page.sides_of_seeds(records))
    assert [(row["side"], row["k"]) for row in found] == [(name, 1 if name == "A" else 64) for name in directions.SIDES]
    assert {row["sign"] for row in found} == {says}
    whole = directions.shared(records, "sarcasm", directions.SEEDS, directions.FACTOR, (1, 1), EVERY)
    assert found[0]["beyond"][0] == whole.beyond
    assert list(page.sides_of_seeds(study(tasks=("sarcasm",)))) == []


def amplified(over_noise: float, fall: float = 10.0) -> Records:
    """Factors of three matrices and five seeds, as shares of a Gaussian's, which falls tenfold from r = 4 to 64."""
    rows = [
        {"condition": "sarcasm", "arm": arm, "seed": seed, "matrix": matrix, "module": "value", "r": r}
        | {"factor": over_noise * 8 * (1 + 0.001 * seed) / (1 if r == 4 else fall), "gaussian_factor": 8.0 * scale}
        | {"base_factor": 0.1 * scale}
        for arm, r, scale in (("LoRA r=4", 4, 1.0), ("LoRA r=64", 64, 0.1))
        for seed in SEEDS
        for matrix in ("one", "two", "three")
    ]
    return dataclasses.replace(study(tasks=("sarcasm",)), rows={"factors": rows})


@pytest.mark.parametrize(("over_noise", "says"), [(0.5, HOLDS), (0.9, HOLDS), (1.0, FAILS), (2, FAILS)])
def test_amplification_stands_beside_a_gaussian_of_its_norm(over_noise: float, says: str) -> None:
    claim = next(claim for claim in page.claims() if claim["read"] == "larger_than_in_gaussian")
    parts = page.read(claim, amplified(over_noise), "sarcasm")
    assert {reading.outcome for reading in parts.values()} == {says}
    assert parts["r = 4"].value.mean == pytest.approx(1 / (over_noise * 1.002), rel=1e-5)
    assert outcome("factor_falls", amplified(over_noise)) == HOLDS
    assert outcome("factor_falls", amplified(over_noise, fall=1.5)) == FAILS


def outcomes(monkeypatch: pytest.MonkeyPatch, score: dict[str, float], half: float = 0.005) -> list[str]:
    """What comes out of Tables 5 and 6 of arms that score so, .8 where nothing is said, with intervals of this half,
    twice it if there are several."""

    def gain(records: Records, task: str, arm: str, rival: str, chosen: int = 1) -> Interval:
        mean, width = score.get(arm, 0.8) - score.get(rival, 0.8), half if chosen == 1 else 2 * half
        return Interval(mean, mean - width, mean + width, 5)

    monkeypatch.setattr(readings, "between", gain)
    return [page.outcome_of(claim, page.read(claim, study(), "sarcasm")) for claim in TABLE_5_AND_6]


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        ({}, [NOT_TOLD, NOT_TOLD, NOT_TOLD, HOLDS, FAILS]),
        ({"query and value r=4": 0.85}, [NOT_TOLD, HOLDS, NOT_TOLD, FAILS, FAILS]),
        ({"query and value r=4": 0.85, "attention r=2": 0.84}, [NOT_TOLD, HOLDS, HOLDS, FAILS, FAILS]),
        ({"query r=8": 0.7, "key r=8": 0.7}, [HOLDS, NOT_TOLD, NOT_TOLD, HOLDS, FAILS]),
        ({"key r=8": 0.85}, [FAILS, FAILS, FAILS, HOLDS, FAILS]),
        ({"query and value r=1": 0.7, "query r=1": 0.7}, [NOT_TOLD, NOT_TOLD, NOT_TOLD, FAILS, HOLDS]),
        ({"query and value r=8": 0.819, "query r=64": 0.819}, [NOT_TOLD, NOT_TOLD, NOT_TOLD, NOT_TOLD, NOT_TOLD]),
    ],
)
def test_claims_of_scores_are_decided_by_every_comparison(
    score: dict[str, float], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outcomes(monkeypatch, score) == expected


def test_the_rules_of_scores_hold_of_the_papers_own_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """WikiSQL, with intervals of a tenth of a point: what the paper claims is what the rules read off its tables, but
    that its best arm is not alone."""
    table_5, table_6 = (theirs(name)["GPT-3, WikiSQL"] for name in ("paper_which_matrices", "paper_which_rank"))
    scores = {arm: score / 100 for arm, score in (table_6 | table_5).items()}
    assert outcomes(monkeypatch, scores, half=0.0005) == [HOLDS, NOT_TOLD, HOLDS, HOLDS, HOLDS]
    assert table_5["query and value r=4"] == table_5["attention r=2"] == max(table_5.values())


def test_the_gain_of_an_arm_over_another_is_above_0_where_it_is_better(higher: bool) -> None:
    gain = between(directed(study(), higher), "reviews", "LoRA r=8", "LoRA r=1")
    assert 0 < gain.low <= gain.mean == pytest.approx(0.03)


@pytest.mark.parametrize(("highs", "is_worse"), [((-0.01, -0.001), True), ((-0.01, 0.001), False), ((-0.01, 0), False)])
def test_a_task_is_surely_worse_where_every_interval_lies_below_0(
    highs: tuple[float, float], is_worse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every mean is below 0. The other task is better."""
    monkeypatch.setattr(page, "between", lambda *given: Interval(-0.02, -0.03, -0.01, 5))
    claim = next(claim for claim in page.claims() if claim["read"] == "scores")
    pairs = [f"{claim['with']['better'][0]} over {rival}" for rival in ("one", "two")]

    def parts(mean: float, highs: tuple[float, float]) -> readings.Readings:
        intervals = [Interval(mean, -0.05, high, 5) for high in highs]
        return {pair: Reading(interval, NOT_TOLD) for pair, interval in zip(pairs, intervals, strict=True)}

    by_task = {"sarcasm": parts(0.02, (0.05, 0.05)), "1000 examples": parts(-0.02, highs)}
    assert page._of_scores(claim, study(), by_task)["worse"] == (["1,000 examples"] if is_worse else [])


def test_claims_name_arms_and_conditions_that_the_studies_have() -> None:
    plans = {name: plan_of(name) for name in page.studies_of_paper()}
    for claim in page.claims():
        plan = plans[claim["study"]]
        assert {*claim["only"], *claim["but"]} <= set(plan.conditions), claim["says"]
        if claim["read"] == "scores":
            named = {*claim["with"]["better"], *claim["with"]["than"]}
            assert named <= {arm.name for arm in plan.protocol.arms}, claim["says"]
        else:
            assert plan.afterwards or claim["read"] == "loss_stops", claim["says"]
        assert plan.protocol.margin == 0.02  # two rules take it
    conditions = {name for plan in plans.values() for name in plan.conditions}
    assert set(CONTROLS) <= conditions
    presets = {"sarcasm", "movie_reviews"}
    assert {name for name in conditions if is_task(name) and not name.endswith("examples")} <= presets


ASKED = re.compile(r"(ranks?|r =|top|at|to|from|with) \d[\d,]*|^0, since|update 1\b", re.IGNORECASE)
"""What sentences may name beside the numbers of the records: ranks, sizes and tops that were asked for, and noise's."""


@pytest.mark.parametrize("claim", page.claims(), ids=lambda claim: str(claim["place"]))
def test_no_number_of_ours_is_typed_by_hand(claim: dict[str, Any]) -> None:
    for text in (claim["number"], claim["control"], *claim["why"].values()):
        words = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", text, flags=re.DOTALL)
        assert not re.search(r"\d", ASKED.sub("", words)), words


def test_the_page_is_refused_where_a_study_is_not_whole() -> None:
    records = dataclasses.replace(study(tasks=("sarcasm",)), name="paper_rank_by_loss")
    lines = [line for line in records.lines if line["config"]["measure"] == "trial" or line["seed"] != 0]
    incomplete = dataclasses.replace(records, lines=lines)
    with pytest.raises(ConfigError) as refused:
        page.fair([incomplete])
    reasons = str(refused.value)
    assert "paper_rank_by_loss cannot be shown: sarcasm: full: final runs are missing: seeds 0; " in reasons
    assert "paper_which_rank cannot be shown: it has no published records" in reasons


@pytest.mark.slow
def test_the_committed_pages_are_what_the_records_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a copy beside the figures, so that its links are the same."""
    copy, limits = page.OUT.with_name("paper-of-a-test.md"), tmp_path / "limits.md"
    try:
        assert main(["paper", "--out", str(copy), "--limits", str(limits)]) == 0
        assert limits.read_text(encoding="utf-8") == page.LIMITS.read_text(encoding="utf-8")
        assert copy.read_text(encoding="utf-8") == page.OUT.read_text(encoding="utf-8"), (
            "type: python -m analysis paper"
        )
    finally:
        copy.unlink(missing_ok=True)
    assert str(copy) in capsys.readouterr().out
