"""`docs/paper.md`: claims are decided by intervals, and every number is that of the records."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import study

from analysis.__main__ import main
from analysis.paper import arms, directions, norms, page
from analysis.paper.arms import between
from analysis.paper.command import OUT
from analysis.paper.reading import (
    CONTROLS,
    FAILS,
    HOLDS,
    UNSURE,
    above,
    below,
    both,
    is_task,
    of_every_two,
    within,
    written,
)
from analysis.paper.sections import SECTIONS
from analysis.study import comparison
from analysis.study.figures import FIGURES, STANDARD
from analysis.study.kept import Place, kept, similarity
from analysis.study.paper import FACTORS
from analysis.study.records import RECORDS, Records, load
from analysis.study.statistics import Interval
from lorax_lab.errors import ConfigError
from lorax_lab.spectra import random_similarity_std, subspace_similarity
from lorax_lab.study.published import read_lines, write_lines
from lorax_lab.study.rows import Afterwards, read_rows, write_rows

SEEDS = (0, 1, 2, 3, 4)
D = 384
PAIRS = 10


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 5)


@pytest.mark.parametrize(
    ("low", "high", "outcome"), [(0.6, 0.7, HOLDS), (0.1, 0.2, FAILS), (0.4, 0.6, UNSURE), (0.5, 0.6, UNSURE)]
)
def test_a_claim_is_decided_by_its_whole_interval(low: float, high: float, outcome: str) -> None:
    assert above(interval(low, high), 0.5) == outcome
    assert below(interval(-high, -low), -0.5) == outcome


def test_between_two_lines() -> None:
    assert within(interval(-0.04, 0.04), -0.05, 0.05) == HOLDS
    assert within(interval(0.06, 0.1), -0.05, 0.05) == FAILS
    assert within(interval(-0.2, -0.06), -0.05, 0.05) == FAILS
    assert within(interval(0.04, 0.06), -0.05, 0.05) == UNSURE
    nothing = Interval(float("nan"), float("nan"), float("nan"), 1)
    assert {above(nothing, 0), below(nothing, 0), within(nothing, -1, 1)} == {UNSURE}
    assert both(HOLDS, HOLDS) == HOLDS
    assert both(HOLDS, UNSURE) == UNSURE
    assert both(UNSURE, FAILS, HOLDS) == FAILS


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
        half = 2.262 * np.std(pairs, ddof=1) / np.sqrt(PAIRS)
        as_if_independent += abs(found.mean - truth) < half
    assert 0.92 < held / 600 < 0.985
    assert as_if_independent / 600 < 0.85


def test_a_zero_of_rounding_has_no_sign() -> None:
    assert written(Interval(-0.0002, -0.0004, 0.001, 5)) == "0.000 [0.000, 0.001]"
    assert written(Interval(-0.0002, -0.001, 0.0, 5)) == "0.000 [-0.001, 0.000]"
    assert "-0.000" not in OUT.read_text(encoding="utf-8")


def test_two_seeds_have_no_interval() -> None:
    found = of_every_two([0.4], 2)
    assert written(found) == "0.400, without an interval"
    assert above(found, 0.1) == UNSURE


def similar(phi: dict[tuple[str, str, str], float], at: dict[str, float] | None = None) -> Records:
    """Similarities of two layers, each pair of runs apart by a little; `phi` by pair, side and module, .2 elsewhere, or
    everywhere `at` (i, j)."""
    draw = np.random.default_rng(1)
    pairs = {
        directions.RANKS: 2 * PAIRS,
        directions.SEEDS: PAIRS,
        directions.OF_FULL: PAIRS,
        "W and r=4": 5,
        "W and r=8": 5,
        "W and r=64": 5,
        "W and full": 5,
    }
    rows = []
    for pair, count in pairs.items():
        for side in (directions.FACTOR, directions.START, directions.ROW, directions.COLUMN):
            for module in (directions.QUERY, directions.VALUE):
                for layer in (0, 1):
                    value = phi.get((pair, side, module), 0.2)
                    each = {
                        key: ((at or {}).get(key, value) + 0.005 * draw.standard_normal(count)).tolist()
                        for key in ("1,1", "8,8", "1,64", "8,64", "40,4", "40,8", "40,64", "64,64")
                    }
                    place = {"condition": "sarcasm", "pair": pair, "side": side, "module": module, "layer": layer}
                    rows.append(place | {"d": D, "each": each})
    return dataclasses.replace(study(tasks=("sarcasm",)), rows={"similarities": rows})


def test_the_top_direction_is_told_by_type_of_matrix() -> None:
    of = {(directions.RANKS, directions.FACTOR, directions.QUERY): 0.8}
    query, _, value, among, every, _ = directions.top_direction(similar(of))
    assert (every.subject, every.outcome) == ("query and value, top 1 in top 1", UNSURE)  # .8 and .2: a mean of .5
    assert (query.subject, query.outcome) == ("query, top 1 in top 1", HOLDS)
    assert "above 0.5 in 2 of 2 matrices" in query.number
    assert (value.subject, value.outcome) == ("value, top 1 in top 1", FAILS)
    assert "chance 0.003" in value.beside
    assert among.subject == "value, top 1 in top 64"  # another reading of a subspace of dimension 1
    assert among.number.startswith("φ(1, 64) = 0.2")
    assert "chance 0.167" in among.beside
    alone = list(directions.top_direction(similar({}, {"1,1": 0.2, "1,64": 0.8})))
    assert [reading.outcome for reading in alone] == 3 * [FAILS, HOLDS]
    unsure, *_ = directions.top_direction(similar({(directions.RANKS, "A", directions.QUERY): 0.5}))
    assert unsure.outcome == UNSURE


def test_the_other_directions_are_told_apart_from_the_top_one() -> None:
    """A top direction that is shared in full, with seven at chance, gives both claims of Figure 3 together."""
    chance = 64 / D
    top = similar({}, {"1,1": 0.95, "1,64": 1.0, "8,64": (1 + 7 * chance) / 8})
    assert {reading.outcome for reading in directions.top_direction(top)} == {HOLDS}
    assert {reading.outcome for reading in directions.other_directions(top)} == {HOLDS}
    more = similar({}, {"1,64": 0.3, "8,64": 0.4})
    assert {reading.outcome for reading in directions.other_directions(more)} == {FAILS}


def test_directions_of_the_base() -> None:
    low = {("W and r=64", side, directions.QUERY): 0.11 for side in (directions.ROW, directions.COLUMN)}
    rows, columns = directions.directions_of_the_base(similar(low))
    assert (rows.subject, rows.outcome, columns.outcome) == ("query, rows", HOLDS, HOLDS)
    assert "chance 0.104" in rows.beside
    high = {("W and r=64", side, directions.QUERY): 0.5 for side in (directions.ROW, directions.COLUMN)}
    assert {reading.outcome for reading in directions.directions_of_the_base(similar(high))} == {FAILS}


def test_matrices_of_other_types_make_all_of_them() -> None:
    records = similar({})
    rows = [*records.rows["similarities"], *(row | {"module": "key"} for row in records.rows["similarities"])]
    subjects = [r.subject for r in directions.top_direction(dataclasses.replace(records, rows={"similarities": rows}))]
    assert subjects == [
        f"{name}, top 1 in top {j}" for name in ("query", "value", "all matrices") for j in (1, directions.MANY)
    ]


@pytest.mark.parametrize(("many", "outcome"), [(0.3, HOLDS), (0.17, FAILS), (0.2, UNSURE)])
def test_a_larger_rank_has_more_of_the_base_or_less(many: float, outcome: str) -> None:
    """Of rank 4 a third of a direction beyond chance; of rank 64 40 times φ beyond 64 / 384, .167."""
    of = {("W and r=4", side, directions.QUERY): 0.188 for side in (directions.ROW, directions.COLUMN)}
    of |= {("W and r=64", side, directions.QUERY): many for side in (directions.ROW, directions.COLUMN)}
    rows, columns = directions.more_of_the_base_at_a_higher_rank(similar(of))
    assert (rows.subject, rows.outcome, columns.outcome) == ("query, rows", outcome, outcome)
    numbers = [float(text) for text in re.findall(r"^(-?[0-9.]+) − (-?[0-9.]+) = (-?[0-9.]+)", rows.number)[0]]
    assert numbers == pytest.approx([40 * (many - 64 / D), 4 * (0.188 - 40 / D), numbers[0] - numbers[1]], abs=0.2)
    assert re.fullmatch(r"r = 8: 0\.[78]\d", rows.beside)  # 8 · (.2 − 40 / 384)
    kept = [row for row in similar(of).rows["similarities"] if row["pair"] != "W and r=4"]
    none = dataclasses.replace(similar(of), rows={"similarities": kept})
    assert list(directions.more_of_the_base_at_a_higher_rank(none)) == []


@pytest.mark.parametrize(("query", "value", "outcome"), [(0.35, 0.2, HOLDS), (0.2, 0.35, FAILS), (0.2, 0.2, FAILS)])
def test_the_query_is_held_against_the_value(query: float, value: float, outcome: str) -> None:
    of = {(directions.SEEDS, "A", directions.QUERY): query, (directions.SEEDS, "A", directions.VALUE): value}
    found = list(directions.more_of_the_query(similar(of)))
    assert [r.outcome for r in found if "value, A" in r.subject] == [outcome, outcome]
    assert [r.outcome for r in found if "value, A" not in r.subject] == 8 * [FAILS]


@pytest.mark.parametrize("of_full", [False, True])
def test_the_query_is_held_against_the_value_on_each_side(of_full: bool) -> None:
    """The paper has A alone; by columns it may be otherwise. What is of full fine-tuning stands beside the claim."""
    pair, name = (directions.OF_FULL, "full fine-tuning") if of_full else (directions.SEEDS, "B A")
    found = list(directions.more_of_the_query(similar({(pair, directions.COLUMN, directions.QUERY): 0.35})))
    holds = [reading for reading in found if reading.outcome == HOLDS]
    assert [reading.subject for reading in holds] == [f"query − value, columns of {name}, top {k}" for k in (1, 8)]
    assert {reading.stands_beside for reading in holds} == {name}
    assert page._outcome(found).startswith(f"{FAILS} (sarcasm); ")
    assert f"{name}: {page.MIXED} (sarcasm)" in page._outcome(found)
    assert sum(reading.stands_beside == "" for reading in found) == 2  # of A, which decides


def test_what_two_seeds_share_is_more_than_a_little_above_chance() -> None:
    of = {(directions.SEEDS, side, directions.VALUE): 0.04 for side in ("A", directions.START)}
    found = list(directions.more_than_chance(similar(of | {(directions.SEEDS, "A", directions.QUERY): 0.35})))
    top, eight, *rest = found
    assert [reading.subject for reading in (top, eight, *rest[:2])] == [
        f"{name}, top {k}" for name in ("query", "value") for k in (1, 8)
    ]
    assert (top.outcome, eight.outcome, rest[0].outcome, rest[1].outcome) == (HOLDS, HOLDS, FAILS, FAILS)
    assert top.told == "holds, as of noise"  # .2 before training, as no real factors are
    assert "chance = 0.347" in top.number[:30] or "0.34" in top.number


def test_a_few_directions_that_two_seeds_share_are_found_where_64_hide_them() -> None:
    """Of 64 directions 3 are shared in full: φ(64, 64) is .04 above chance, φ(1, 1) is 1."""
    chance = 64 / D
    few = similar({}, {"1,1": 1.0, "8,8": 3 / 8, "64,64": chance + 3 / 64 * (1 - chance)})
    assert {reading.outcome for reading in directions.more_than_chance(few)} == {HOLDS}


def test_three_seeds_have_three_pairs_and_these_are_not_independent() -> None:
    pairs = [0.1, 0.2, 0.6]
    assert directions.Shared(np.array([pairs]), np.array([0.1]), 3).interval() == of_every_two(pairs, 3)
    assert directions.Shared(np.array([pairs]), np.array([0.1]), None).interval() != of_every_two(pairs, 3)


def test_a_pair_that_was_not_kept_gives_no_reading() -> None:
    records = similar({})
    older = [
        row | {"each": {key: value for key, value in row["each"].items() if key != "1,64"}}
        for row in records.rows["similarities"]
    ]
    records = dataclasses.replace(records, rows={"similarities": older})
    assert list(directions.other_directions(records)) == []
    assert len(list(directions.top_direction(records))) == 3


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
    few, many = norms.uses_directions_of_the_base(amplified(over_noise))
    assert (few.subject, few.outcome, many.outcome) == ("LoRA, r = 4", outcome, outcome)
    assert few.number.startswith(f"{1 / (over_noise * 1.002):.2f}")
    assert f"amplification {over_noise * 8.016:.2f}, Gaussian's 8.00" in few.beside


@pytest.mark.parametrize(("fall", "outcome"), [(10.0, HOLDS), (2.5, HOLDS), (1.5, FAILS)])
def test_noise_falls_with_r_too(fall: float, outcome: str) -> None:
    (falls,) = norms.less_at_a_higher_rank(amplified(0.5, fall))
    assert (falls.outcome, falls.number.split(" [")[0]) == (outcome, f"{fall:.2f}")
    assert falls.beside.startswith("a Gaussian update: 10.00")
    assert falls.told == ("holds, as of noise" if outcome == HOLDS else FAILS)


def test_the_rules_hold_of_the_papers_own_table_7() -> None:
    """Its random directions stand in the Gaussian's place. That W is larger in its own directions, and the fall to
    r = 64, are as of noise there too: the factor of random directions falls 32 times, and the update's 11 times."""
    rows = [
        {"condition": "sarcasm", "arm": f"LoRA r={r}", "seed": seed, "matrix": "query", "module": "query", "r": r}
        | {**FACTORS[r], "gaussian_factor": FACTORS[r]["random_factor"]}
        for r in (4, 64)
        for seed in SEEDS
    ]
    records = dataclasses.replace(study(tasks=("sarcasm",)), rows={"factors": rows})
    told = {
        claim.text: [reading.told for reading in claim.read(records)]
        for section in SECTIONS
        for claim in section.claims
        if section.study == "paper_amplification"
    }
    larger, own, fall = told.values()
    assert larger == [HOLDS] * 2
    assert own == ["holds, as of noise"] * 2
    assert fall == ["holds, as of noise"]


def test_lora_decides_a_claim_and_full_fine_tuning_stands_beside() -> None:
    records = amplified(0.9)
    full = [row | {"arm": "full", "factor": row["factor"] / 3} for row in records.rows["factors"]]
    every = dataclasses.replace(records, rows={"factors": [*records.rows["factors"], *full]})
    readings = list(norms.uses_directions_of_the_base(every))
    assert {reading.subject.split(",")[0]: reading.outcome for reading in readings} == {"LoRA": FAILS, "full": HOLDS}
    assert page._outcome(readings) == "does not hold (sarcasm); full fine-tuning: holds (sarcasm)"
    assert page._outcome([reading for reading in readings if not reading.stands_beside]) == "does not hold (sarcasm)"
    assert page._outcome([]) == page.NOT_MEASURED


@pytest.mark.parametrize(("over_noise", "outcome"), [(0.5, HOLDS), (0.02, FAILS)])
def test_the_top_directions_of_the_base(over_noise: float, outcome: str) -> None:
    """At .02 of a Gaussian's factor the update repeats them nearly: W is 1.6 times as large in its own."""
    assert next(iter(norms.not_the_top_ones(amplified(over_noise)))).outcome == outcome


def test_ratios_are_taken_matrix_by_matrix_and_the_query_alone_is_told() -> None:
    """Three matrices of unlike size: the ratio of their medians would be another."""
    records = amplified(0.5)
    unlike = {"one": (1.0, 4.0, "attention.self.query"), "two": (10.0, 20.0, "value"), "three": (100.0, 100.0, "value")}
    rows = [
        row | dict(zip(("factor", "gaussian_factor", "module"), unlike[row["matrix"]], strict=True))
        for row in records.rows["factors"]
    ]
    found = list(norms.uses_directions_of_the_base(dataclasses.replace(records, rows={"factors": rows})))
    told = {reading.subject: reading.number.split(" [")[0] for reading in found}
    assert (told["LoRA, r = 4"], told["LoRA, r = 4, query alone"]) == ("2.00", "4.00")


@pytest.mark.parametrize("factor", [0.0, float("inf"), float("nan")])
def test_a_factor_that_is_no_number_decides_nothing(factor: float) -> None:
    records = amplified(0.5)
    broken = [row | {"factor": factor} if row["seed"] == 1 else row for row in records.rows["factors"]]
    readings = list(norms.uses_directions_of_the_base(dataclasses.replace(records, rows={"factors": broken})))
    assert {reading.outcome for reading in readings} == {UNSURE}
    assert "no number, since a run or a matrix has none" in readings[0].number


@pytest.fixture(scope="module")
def second() -> Records:
    return load(RECORDS / "rank_sweep_2")


def test_two_arms_are_compared_as_each_is_with_the_reference(second: Records) -> None:
    full, gains = second.protocol.reference, comparison.gains(second, "cloze")
    assert between(second, "cloze", "LoRA r=4", full) == gains["LoRA r=4"]
    one, other = (between(second, "cloze", *pair) for pair in (("LoRA r=64", "LoRA r=1"), ("LoRA r=1", "LoRA r=64")))
    assert one.mean == pytest.approx(gains["LoRA r=64"].mean - gains["LoRA r=1"].mean)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert between(second, "cloze", "LoRA r=64", "LoRA r=1", 4).low < one.low
    scores = [np.mean([line["metrics"]["test/accuracy"] for line in comparison.seeds_of(second, "cloze", arm).values()])
              for arm in ("LoRA r=64", "LoRA r=1")]  # fmt: skip
    assert one.mean == pytest.approx(scores[0] - scores[1], abs=1e-6)


def test_an_arm_whose_run_diverged_loses(second: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "is_lost", lambda records, task, arm: arm == "LoRA r=1")
    won, lost = (between(second, "cloze", *pair) for pair in (("LoRA r=8", "LoRA r=1"), ("LoRA r=1", "LoRA r=8")))
    assert above(won, 0.0) == HOLDS
    assert above(lost, 0.0) == FAILS
    assert "diverged" in written(lost)
    assert above(between(second, "cloze", "LoRA r=1", "LoRA r=1"), 0.0) == UNSURE


def test_losses_and_the_head_alone_are_read_from_published_runs(
    second: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Records, "conditions", ["sarcasm", "cloze"])
    monkeypatch.setattr(arms, "LARGEST", 64)
    monkeypatch.setattr(arms, "SMALL", ("LoRA r=1",))
    _, cloze = arms.loss_falls_and_stops(second)
    nats = comparison.loss_gains(second, "cloze")
    assert f"from r = 1 to 16 by {nats['LoRA r=16'].mean - nats['LoRA r=1'].mean:.3f} [" in cloze.number
    assert f"to 64 by {nats['LoRA r=64'].mean - nats['LoRA r=16'].mean:.3f} [" in cloze.number
    lora, full = itertools.islice(arms.more_than_the_head(second), 2)
    assert (lora.outcome, full.outcome, lora.stands_beside, full.stands_beside) == (HOLDS, HOLDS, "", "")
    assert full.number.startswith("0.132 [")  # as the study's page has it
    assert lora.subject == "LoRA r=1 − head alone"
    monkeypatch.setattr(comparison, "is_lost", lambda records, task, arm: arm == "LoRA r=1")
    _, cloze = arms.loss_falls_and_stops(second)
    assert "from r = 1 to 16 by no score, since a final run diverged" in cloze.number


def plan(name: str) -> Any:
    return importlib.import_module(f"experiments.{name}").plan("full")


def test_claims_name_arms_pairs_and_figures_that_the_studies_have() -> None:
    for section in SECTIONS:
        whole = plan(section.study)
        assert set(section.figures) <= set(whole.figures or STANDARD), section.title
        assert whole.protocol.margin == 0.02  # the rules name it
        assert whole.afterwards or not section.measured
        assert section.measured or section.title.startswith("Table") or section.study == "paper_baselines"
    names = {study: {arm.name for arm in plan(study).protocol.arms} for study in {s.study for s in SECTIONS}}
    assert {*arms.SINGLE, "query and value r=4", "attention r=2"} <= names["paper_which_matrices"]
    of_ranks = {f"{name} r={rank}" for name in ("query", "query and value") for rank in (1, *arms.OTHERS)}
    assert of_ranks <= names["paper_which_rank"]
    assert {"LoRA r=1", "LoRA r=8", "LoRA r=64"} <= names["paper_data_sizes"]
    assert arms.FEW in plan("paper_data_sizes").conditions
    assert {f"LoRA r={rank}" for rank in (1, arms.STOPS, arms.LARGEST)} <= names["paper_rank_by_loss"]
    assert {arms.ALONE, *arms.SMALL} <= names["paper_baselines"]
    conditions = {name for section in SECTIONS for name in plan(section.study).conditions}
    tasks = {name for name in conditions if is_task(name) and not name.endswith(" examples")}
    assert tasks <= set(page.TASKS)
    assert set(CONTROLS) <= conditions
    of_all, of_two = (importlib.import_module(f"experiments.paper_{name}") for name in ("subspaces", "which_rank"))
    both = {directions.RANKS, directions.SEEDS, directions.OF_FULL, directions.BASE, directions.BASE_AND_FULL}
    assert both <= of_all.PAIRS.keys()
    assert both | set(directions.BY_RANK.values()) <= of_two.PAIRS.keys()
    of_base = {pair for pair, _ in FIGURES["base_shares"].SHOWN}
    assert of_base == {*directions.BY_RANK.values(), directions.BASE_AND_FULL}
    compared = {arm for ends in of_two.PAIRS.values() for arm in ends} - {"W"}
    assert compared | of_two.OF_ARM.keys() <= names["paper_which_rank"]
    assert {arm for arm in compared if arm != "full"} == {f"query and value r={rank}" for rank in (4, 8, 64)}
    kept_at = {(1, 1), (1, 64), (8, 64), (64, 64), *((directions.TOP_OF_W, r) for r in directions.BY_RANK)}
    assert kept_at <= set(importlib.import_module("lorax_lab.afterwards.similarities").EACH)


def test_a_task_again_with_the_usual_head_is_no_task_of_its_own() -> None:
    """The baselines are to grow by movie_reviews, and by its usual head."""
    heads = importlib.import_module("experiments.paper_baselines").plan("full").conditions
    assert {name for name in heads if not is_task(name)} == {f"{name} with the usual head" for name in heads} & {*heads}
    assert not is_task("movie_reviews with the usual head")


def ranked(score: dict[str, float]) -> Any:
    """A `between` of arms that score so, with an interval of half a point, a whole one if there are several."""

    def gain(records: Records, task: str, one: str, other: str, of: int = 1) -> Interval:
        mean, half = score.get(one, 0.8) - score.get(other, 0.8), 0.005 if of == 1 else 0.01
        return Interval(mean, mean - half, mean + half, 5)

    return gain


@pytest.mark.parametrize(
    ("score", "single", "enough", "query"),
    [
        ({}, UNSURE, HOLDS, UNSURE),
        ({"query and value r=4": 0.85}, HOLDS, FAILS, UNSURE),
        ({"key r=8": 0.85}, FAILS, HOLDS, UNSURE),
        ({"query r=1": 0.85}, UNSURE, HOLDS, FAILS),
        ({"query and value r=1": 0.7, "query r=1": 0.7}, UNSURE, FAILS, HOLDS),
        ({"query and value r=8": 0.82, "query r=64": 0.82}, UNSURE, UNSURE, HOLDS),
    ],
)
def test_claims_of_scores_are_decided_by_every_comparison(
    score: dict[str, float], single: str, enough: str, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, gain = study(tasks=("sarcasm",)), ranked(score)
    monkeypatch.setattr(arms, "between", gain)
    every = [*arms.SINGLE, "query and value r=4", "query and value r=1", "query r=1"]
    monkeypatch.setattr(comparison, "gains", lambda *_: {arm: gain(records, "", arm, "full") for arm in every})
    monkeypatch.setattr(arms, "_rates", lambda *_: "")
    monkeypatch.setattr(arms, "trained_by", lambda *_: "")
    assert [r.outcome for r in arms.several_types("query and value r=4")(records)] == [single]
    assert [r.outcome for r in arms.rank_one("query and value", True)(records)] == [enough]
    assert [r.outcome for r in arms.rank_one("query", False)(records)] == [query]


OF_TABLE_5 = {"query r=8": 0.704, "key r=8": 0.700, "value r=8": 0.730, "attention's output r=8": 0.732}
OF_TABLE_5 |= {"query and value r=4": 0.737, "attention r=2": 0.737}
OF_TABLE_6 = {
    f"query r={r}": score for r, score in zip((1, 2, 4, 8, 64), (0.688, 0.696, 0.705, 0.704, 0.700), strict=True)
}
OF_TABLE_6 |= {
    f"query and value r={r}": x for r, x in zip((1, 2, 4, 8, 64), (0.734, 0.733, 0.737, 0.738, 0.735), strict=True)
}


def test_the_rules_of_scores_hold_of_the_papers_own_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """WikiSQL, with intervals of a tenth of a point: what the paper claims is what the rules read off its tables."""

    def gain(records: Records, task: str, one: str, other: str, of: int = 1) -> Interval:
        scores = {"full": 0.738} | OF_TABLE_5 | OF_TABLE_6
        return interval(scores[one] - scores[other] - 0.001, scores[one] - scores[other] + 0.001)

    records = study(tasks=("sarcasm",))
    monkeypatch.setattr(arms, "between", gain)
    every = [*OF_TABLE_5, *OF_TABLE_6]
    monkeypatch.setattr(arms, "_rates", lambda *_: "")
    monkeypatch.setattr(comparison, "gains", lambda *_: {arm: gain(records, "", arm, "full") for arm in every})
    monkeypatch.setattr(arms, "trained_by", lambda *_: "")
    read = [*map(arms.several_types, ("query and value r=4", "attention r=2"))]
    read += [arms.rank_one("query and value", True), arms.rank_one("query", False)]
    assert [reading.outcome for of_claim in read for reading in of_claim(records)] == [HOLDS] * 4


@pytest.mark.parametrize(
    ("gain", "better", "no_worse"), [(0.02, HOLDS, HOLDS), (-0.01, FAILS, HOLDS), (-0.04, FAILS, FAILS)]
)
def test_claims_of_few_and_many_examples(
    gain: float, better: str, no_worse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = study(tasks=(arms.FEW, "300 examples"))
    monkeypatch.setattr(arms, "_rates", lambda *_: "")
    monkeypatch.setattr(arms, "between", lambda *_: interval(gain - 0.003, gain + 0.003))
    assert [r.outcome for r in arms.better_with_few(records)] == [better]
    (reading,) = arms.no_worse_with_more(records)
    assert (reading.task, reading.outcome) == ("300 examples", no_worse)
    assert reading.beside.startswith("surely below full; ") == (gain < 0)


@pytest.mark.parametrize(
    ("alone", "at_once", "other", "outcome"),
    [
        (0.006, 0.0055, -0.1, HOLDS),
        (0.006, 0.004, -0.1, UNSURE),
        (-0.1, -0.2, 0.006, UNSURE),
        (-0.1, -0.2, -0.1, FAILS),
    ],
)
def test_one_of_two_ranks_does_better_with_few_examples(
    alone: float, at_once: float, other: float, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As declared: rank 8 or rank 64, so that two chances are taken, by an interval that is wide enough for both."""

    def gain(records: Records, task: str, one: str, full: str, of: int = 1) -> Interval:
        low = {"LoRA r=8": at_once if of == 2 else alone, "LoRA r=64": other - 0.005 * (of == 2)}.get(one, -0.5)
        return interval(low, low + 0.01 * of)

    monkeypatch.setattr(arms, "_rates", lambda *_: "")
    monkeypatch.setattr(arms, "between", gain)
    (reading,) = arms.better_with_few(study(tasks=(arms.FEW,)))
    assert (reading.outcome, reading.subject) == (outcome, "LoRA r=8 or LoRA r=64")
    best = "LoRA r=8" if alone >= other else "LoRA r=64"
    assert f"of {best}, the better of the two" in reading.number
    assert "LoRA r=1: -0.495 [" in reading.beside


def test_a_page_with_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a made study with a control: what the query and the value say differs, and the control is no task."""
    of = {(directions.RANKS, directions.FACTOR, directions.QUERY): 0.8}
    rows = similar(of).rows["similarities"]
    rows = [row | {"condition": task} for task in ("sarcasm", "random labels") for row in rows]
    records = study(tasks=("sarcasm", "random labels", "tweets"))
    records = dataclasses.replace(records, name="paper_subspaces", rows={"similarities": rows})
    monkeypatch.setattr(page, "breaches", lambda study: [])
    text = page.write([records], {"paper_subspaces": "study/paper_subspaces"})
    top = next(line for line in text.splitlines() if "The top direction of A" in line and line.startswith("|"))
    assert top.endswith(f"| {page.MIXED} (sarcasm) |")
    assert "| random labels (control) | query, top 1 in top 1 | φ(1, 1) = 0." in text
    assert "On sarcasm and tweets: `paper_subspaces`." in text
    assert f"So far there are {len(records.lines)} runs. Their times" in text
    again = dataclasses.replace(records, lines=[line | {"written": "later"} for line in records.lines])
    assert page._cost([records, records]) == page._cost([records])
    assert f"trained them again: {len(records.lines)} times." in page._cost([records, again])
    assert "Not measured: tweets; `python -m experiments.paper_subspaces`" in text
    title = "the directions that rank 8 and rank 64 share (Figures 3 and 6 of the LoRA paper)"
    assert f"![{title}](study/paper_subspaces/ranks_share.png)\n\n*T{title[1:]}.*" in text
    assert "From " in text
    assert "Predicted before the runs of `paper_" in text
    assert "| Figure 3 | What A of rank 8 and 64 share is of the task | random labels | sarcasm |" in text


def test_the_page_names_what_has_not_run_and_what_is_incomplete() -> None:
    text = page.write([], {}, {"paper_baselines": "its declaration is gone"})
    assert text.count("has no published records") == len(SECTIONS) - 1
    assert "**Not shown.** `paper_baselines` cannot be read: its declaration is gone." in text
    assert "python -m experiments.paper_which_rank" in text
    whole = dataclasses.replace(study(tasks=("sarcasm",)), name="paper_rank_by_loss")
    lines = [line for line in whole.lines if line["config"]["measure"] == "trial" or line["seed"] != 0]
    text = page.write([dataclasses.replace(whole, lines=lines)], {"paper_rank_by_loss": "study/paper_rank_by_loss"})
    assert "`paper_rank_by_loss` is not complete, or breaks its protocol" in text
    assert "![" not in text
    assert "Predicted before the runs of `paper_" in text


@pytest.mark.parametrize("tasks", [("sarcasm",), ("sarcasm", "movie_reviews")])
def test_a_task_that_the_prediction_names_and_that_has_no_runs_is_said_to_be_open(tasks: tuple[str, ...]) -> None:
    made = study(tasks=tasks)
    texts = made.declared.texts | {"prediction": "On sarcasm it falls, on movie_reviews it does not."}
    declared = dataclasses.replace(made.declared, texts=texts)
    text = page.write([dataclasses.replace(made, name="paper_rank_by_loss", declared=declared)], {})
    assert ("no runs on movie_reviews" in text) == (len(tasks) == 1)
    assert "no runs on sarcasm" not in text


def test_the_committed_page_is_what_the_records_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a copy beside the figures, so that its links are the same."""
    made = OUT.with_name("paper-of-a-test.md")
    try:
        assert main(["paper", "--out", str(made)]) == 0
        assert made.read_text(encoding="utf-8") == OUT.read_text(encoding="utf-8"), "type: python -m analysis paper"
    finally:
        made.unlink(missing_ok=True)
    assert str(made) in capsys.readouterr().out


def directions_kept(same_start: bool = False) -> Records:
    """Directions of two LoRA runs and a full one; the second LoRA's top two rows are the first's."""
    draw, size = np.random.default_rng(2), 32
    one, other, full, start = (np.linalg.qr(draw.standard_normal((size, k))).Q for k in (2, 8, 6, 8))
    other = np.linalg.qr(np.hstack([one, other[:, :6]])).Q
    before = start[:, :2] if same_start else np.linalg.qr(draw.standard_normal((size, 2))).Q
    sides = {
        ("LoRA r=2", 0): {"A": one, "A at the start": before, "row": one},
        ("LoRA r=8", 1): {"A": other, "A at the start": start, "row": other},
        ("full", 1): {"row": full},
    }
    rows = []
    for (arm, seed), of_run in sides.items():
        for side, vectors in of_run.items():
            place = {"condition": "sarcasm", "arm": arm, "seed": seed, "matrix": "layer.2.query", "side": side}
            rows.append(place | {"k": vectors.shape[1], "d": size, "vectors": vectors.T.astype(np.float16).ravel()})
    return dataclasses.replace(study(tasks=("sarcasm",)), rows={"directions": rows})


HERE = Place("sarcasm", "query", "A")


def test_kept_directions_are_compared_without_a_store() -> None:
    records = directions_kept()
    found, chance = similarity(records, HERE, "LoRA r=2:0", "LoRA r=8:1", 2, 2)
    assert (found, chance) == (pytest.approx(1.0, abs=1e-3), 2 / 32)
    rows = Place("sarcasm", "query", "row")
    found, _ = similarity(records, rows, "LoRA r=2:0", "full:1", 1, 6)
    vectors = kept(records, rows, "LoRA r=2:0", 1), kept(records, rows, "full:1")
    assert found == pytest.approx(float(np.square(vectors[0].T @ vectors[1]).sum()))
    assert vectors[1].T @ vectors[1] == pytest.approx(np.eye(6))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"one": "LoRA r=2:7"}, "the run LoRA r=2:7: its directions were not kept"),
        ({"i": 3}, "-i 3: 2 directions of LoRA r=2:0 were saved, and no more; allowed is 1 to 2; type -i 2"),
        ({"j": 0}, "-j 0: LoRA r=8:1 has rank 8; allowed is 1 to 8; type -j 8"),
        (
            {"other": "full:1", "j": 7, "place": Place("sarcasm", "query", "row")},
            "-j 7: 6 directions of full:1 were saved, and no more; allowed is 1 to 6; type -j 6",
        ),
        ({"one": "LoRA r=8:1"}, "LoRA r=8:1 twice"),
        ({"one": "full:1", "place": Place("sarcasm", "query", "row")}, "have the seed 1 in common"),
        ({"other": "full:1"}, "--side A: its directions were not kept"),
        (
            {"place": Place("sarcasm", "value", "A")},
            "--matrix value is 0 of the kept matrices, not one of: layer.2",
        ),
        ({"place": Place("reviews", "query", "A")}, "--task reviews: its directions were not kept"),
    ],
)
def test_directions_that_were_not_kept_are_refused(changed: dict[str, Any], message: str) -> None:
    asked = {"place": HERE, "one": "LoRA r=2:0", "other": "LoRA r=8:1", "i": 2, "j": 8} | changed
    with pytest.raises(ConfigError) as error:
        similarity(directions_kept(), **asked)
    assert message in str(error.value)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_directions_that_are_not_orthonormal_are_refused(value: float) -> None:
    records = directions_kept()
    bad = np.full(2 * 32, value, np.float16)
    rows = [row | {"vectors": bad} if row["arm"] == "LoRA r=2" else row for row in records.rows["directions"]]
    with pytest.raises(ConfigError, match=r"of LoRA r=2:0 in layer\.2\.query are damaged: they are not orthonormal"):
        similarity(dataclasses.replace(records, rows={"directions": rows}), HERE, "LoRA r=2:0", "LoRA r=8:1", 1, 1)


def test_a_wrong_name_of_a_study_is_answered_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["similarity", "paper_subspace", "a", "b"]) == 2
    assert "did you mean 'paper_subspaces'" in capsys.readouterr().err


def test_what_the_page_of_claims_lacks_is_said_where_it_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study_folder = shutil.copytree(RECORDS / "paper_amplification", tmp_path / "paper_amplification")
    write_lines(study_folder, read_lines(study_folder)[:-1])
    assert main(["paper", "--records", str(tmp_path), "--out", str(tmp_path / "p.md")]) == 1
    said = capsys.readouterr().out
    assert "Table 7: not shown. `paper_amplification` is not complete, or breaks its protocol" in said
    assert "Table 5: not run yet." in said
    assert "which were drawn from the published records; type --figures FOLDER" in said


def test_directions_of_two_bases_are_refused() -> None:
    """The other run's matrix is as wide as another base's: no φ is made of the two."""
    records = directions_kept()
    wide = np.linalg.qr(np.random.default_rng(3).standard_normal((48, 6))).Q
    row = next(row for row in records.rows["directions"] if row["arm"] == "full")
    other = row | {"d": 48, "vectors": wide.T.astype(np.float16).ravel()}
    rows = [other if old is row else old for old in records.rows["directions"]]
    records = dataclasses.replace(records, rows={"directions": rows})
    with pytest.raises(ConfigError, match="of 32 numbers and full:1 of 48; compare runs of one base"):
        similarity(records, Place("sarcasm", "query", "row"), "LoRA r=2:0", "full:1", 1, 6)


def test_rows_of_other_runs_than_the_published_ones_are_named_and_not_read(tmp_path: Path) -> None:
    study_folder = shutil.copytree(RECORDS / "paper_amplification", tmp_path / "paper_amplification")
    assert load(study_folder).rows["factors"]
    sarcasm = read_rows(study_folder, "factors")["sarcasm"]
    write_rows(study_folder, "factors", {"sarcasm": Afterwards([*sarcasm.runs[1:], "another-run"], sarcasm.rows)})
    records = load(study_folder)
    assert records.rows["factors"] == []
    assert any("sarcasm was measured of other runs" in damage for damage in records.damages)


def test_rows_of_a_condition_that_the_study_does_not_have_are_named(tmp_path: Path) -> None:
    study_folder = shutil.copytree(RECORDS / "paper_amplification", tmp_path / "paper_amplification")
    measured = read_rows(study_folder, "factors")
    write_rows(study_folder, "factors", measured | {"irony": measured["sarcasm"]})
    records = load(study_folder)
    assert any("irony is no condition of the study" in damage for damage in records.damages)
    assert {row["condition"] for row in records.rows["factors"]} == set(records.conditions)


def test_a_study_without_directions_and_one_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["similarity", "rank_sweep_2", "full:0", "full:1"]) == 2
    assert "rank_sweep_2 has kept no directions" in capsys.readouterr().err
    assert main(["similarity", "nothing", "full:0", "full:1"]) == 2
    assert "there are no records of a study" in capsys.readouterr().err


def test_chance_has_the_spread_of_random_subspaces() -> None:
    import torch

    stream = torch.Generator().manual_seed(0)

    def drawn(k: int) -> torch.Tensor:
        return torch.linalg.qr(torch.randn(48, k, generator=stream, dtype=torch.float64)).Q

    for i, j in ((1, 1), (2, 8), (8, 16)):
        values = [subspace_similarity(drawn(i), drawn(j)) for _ in range(400)]
        assert np.std(values) == pytest.approx(random_similarity_std(i, j, 48), rel=0.2)
