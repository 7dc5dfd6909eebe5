"""Other people's grids: which comparisons are called fair, with which reasons, and what a bad table is answered."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from grids import CURVE, RATES, SEEDS, published, rows_of, staged, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import study
from test_study_lost import lost

from analysis.__main__ import main
from analysis.grid import figure, page
from analysis.grid.arms import HIGHEST, LOWEST, OTHER_SEEDS, TRIALS, of_seeds
from analysis.grid.chance import expected_maximum
from analysis.grid.comparison import WIDTH, Comparison, Group, compare, star
from analysis.grid.of_study import table
from analysis.grid.table import Arm, Run, read
from analysis.study.comparison import enough
from analysis.study.records import RECORDS, load
from analysis.study.statistics import Interval, t_interval
from analysis.study.validator import LEAST_SEEDS

DOCS = Path(__file__).parents[2] / "docs" / "grids"
EXAMPLE = DOCS / "example.csv"
MARGIN = 0.02


def groups(rows: pd.DataFrame, folder: Path, higher: bool = True) -> list[Group]:
    grid = read(write(rows, folder))
    return [compare(name, runs, higher) for name, runs in grid.groups.items()]


def group(rows: pd.DataFrame, folder: Path, higher: bool = True) -> Group:
    (only,) = groups(rows, folder, higher)
    return only


def pair(of: Group, first: str, second: str = "full") -> Comparison:
    (found,) = [each for each in of.comparisons if each.name == f"{first} against {second}"]
    return found


def text(rows: pd.DataFrame, folder: Path, higher: bool = True) -> str:
    grid = read(write(rows, folder))
    found = [compare(name, runs, higher) for name, runs in grid.groups.items()]
    return page.write("grid.csv", grid, found, higher, MARGIN, None)


# ---- our own example


def test_the_example_is_what_the_study_recorded(tmp_path: Path) -> None:
    assert main(["grid-of-study", "rank_sweep_2", "sarcasm", str(tmp_path / "example.csv")]) == 0
    assert (tmp_path / "example.csv").read_text() == EXAMPLE.read_text()


def test_the_page_of_the_example_is_what_the_command_writes(written: Path) -> None:
    assert (written / "example.md").read_text() == (DOCS / "example.md").read_text()


@pytest.mark.parametrize("name", ["example_arms.csv", "example_comparisons.csv", "example_rates.csv"])
def test_the_tables_of_the_example_are_what_the_command_writes(name: str, written: Path) -> None:
    """To rounding, since the quantiles of Student's t differ in their last digits between processors."""
    pd.testing.assert_frame_equal(pd.read_csv(written / name), pd.read_csv(DOCS / name), rtol=1e-9)


def test_the_numbers_on_the_page_of_the_documents_are_the_example_s() -> None:
    rows, of = pd.read_csv(EXAMPLE), compare("", read(EXAMPLE).groups["minilm / sarcasm"], True)
    r_star = star(of, "lora", MARGIN)
    assert r_star is not None
    said = " ".join((DOCS.parent / "grids.md").read_text().split())
    assert f"all {len(of.comparisons)} comparisons fair and r\\* = {r_star.size}." in said
    for stage, count in rows["stage"].value_counts().items():
        assert f"{count} {'trials' if stage == 'trial' else 'final runs'}, scored on" in said
    assert rows["rank"].nunique() == 6
    assert f"{WIDTH} times as wide" in said


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("grid")
    assert main(["grid", str(EXAMPLE), "--higher", "--margin", str(MARGIN), "--out", str(out)]) == 0
    assert (out / "example_rates.png").stat().st_size > 10_000
    return out


def test_the_example_has_the_rates_and_the_answer_of_the_study() -> None:
    """The seeds' interval is not the study's, which covers the test examples too; r* is the same here."""
    records = load(RECORDS / "rank_sweep_2.jsonl")
    of = compare("", read(EXAMPLE).groups["minilm / sarcasm"], True)
    assert all(each.fair for each in of.comparisons)
    assert str(star(of, "lora", MARGIN)) == str(enough(records, "sarcasm"))
    trials = table(records, "sarcasm").query("stage == 'trial'")
    for arm in of.arms:
        rank = arm.arm.rank
        own = trials[trials["rank"].isna() if rank is None else trials["rank"] == rank]
        assert arm.best == own.groupby("learning_rate")["score"].mean().idxmax()


def test_a_run_of_a_study_that_diverged_is_a_row_without_a_score(tmp_path: Path) -> None:
    rows = table(lost(study()), "reviews")
    ((seed, metric),) = rows.loc[rows["score"].isna(), ["seed", "metric"]].to_numpy().tolist()
    assert (seed, metric) == (2, "accuracy")
    assert "lora r=1 falls short of full: its run with seed 2 failed." in text(rows, tmp_path)


# ---- a grid as others publish it


def test_a_published_grid_supports_nothing(tmp_path: Path) -> None:
    """LoRA alone, one log loss a cell, chosen on test, no seeds: each comparison is not fair, and says why."""
    found = groups(published(), tmp_path, higher=False)
    assert [of.name for of in found] == ["large", "small"]
    for of in found:
        assert len(of.comparisons) == 6
        for each in of.comparisons:
            assert {"one seed", "the rate is chosen by the test score that is reported"} <= set(each.reasons)
            assert ("no full arm" in each.reasons) == each.with_full
            assert each.gain is None
        assert star(of, "lora", MARGIN) is None
    said = text(published(), tmp_path, higher=False)
    assert "No column `seed`: each cell counts as one run." in said
    assert said.count(r"r\* of lora cannot be told: no full arm.") == 2
    assert "So it cannot be told that lora r=4 (2.0100) is worse than lora r=64 (1.9900)" not in said
    assert "So it cannot be told that lora r=4 (2.01) is worse than lora r=64 (1.99)." in said
    assert "**0 of 12 comparisons in 2 groups are fair.**" in said


def test_the_same_grid_with_seeds_is_read_by_the_seeds_left_out(tmp_path: Path) -> None:
    rows = rows_of({"full": 0.9, "lora 4": 0.88})
    of = group(rows, tmp_path)
    assert pair(of, "lora r=4").fair
    assert {arm.chosen_by for arm in of.arms} == {OTHER_SEEDS}
    assert "The examples choose the rates and score them too." in text(rows, tmp_path)


def test_a_seed_left_out_is_scored_at_the_rate_that_the_others_choose(tmp_path: Path) -> None:
    """By hand: seeds 1 and 2 choose .2 and seed 0 has .5 there; 0 and 2 choose .2 and 1 has .9; 0 and 1 choose .4."""
    scores = {0.1: (0.1, 0.1, 0.1), 0.2: (0.5, 0.9, 0.6), 0.4: (0.8, 0.7, 0.5), 0.8: (0.1, 0.1, 0.1)}
    rows = [
        {"method": "lora", "rank": 4, "learning_rate": rate, "seed": seed, "score": score}
        for rate, of_rate in scores.items()
        for seed, score in enumerate(of_rate)
    ]
    (arm,) = group(pd.DataFrame(rows), tmp_path).arms
    assert arm.scores == {0: 0.5, 1: 0.7, 2: 0.5}
    assert arm.best == 0.2  # tied with .4: the lowest of equal ones


# ---- each reason


def drop(rows: pd.DataFrame, **where: object) -> pd.DataFrame:
    """Without the rows that have all of these values."""
    match = pd.Series(True, index=rows.index)
    for column, value in where.items():
        match &= rows[column].isna() if value is None else rows[column] == value
    assert match.any()
    return rows[~match]


def change(rows: pd.DataFrame, score: object, **where: object) -> pd.DataFrame:
    """With this score in the rows that have all of these values."""
    rows = rows.astype({"score": object})
    rest = drop(rows, **where)
    hit = rows.loc[rows.index.difference(rest.index)]
    return pd.concat([rest, hit.assign(score=score)]).sort_index()


TWO = {"full": 0.9, "lora 4": 0.9, "lora 16": 0.9}
EDGE = RATES[-1]
REASONS = {
    "one final seed": (lambda: staged(TWO).query("stage == 'trial' or seed == 10"), "one seed"),
    "no full arm": (lambda: drop(staged(TWO), method="full"), "no full arm"),
    "unequal trials": (
        lambda: drop(staged(TWO), method="full", learning_rate=RATES[0], stage="trial"),
        "unequal numbers of trials, 5 rates of lora r=4 against 4 of full",
    ),
    "unequal training": (
        lambda: staged(TWO).assign(Epochs=lambda of: of["method"].map({"full": "1", "lora": "10"})),
        "unequal training: Epochs is 10 of lora r=4 and 1 of full",
    ),
    "training that is not told": (
        lambda: staged(TWO).assign(max_steps=lambda of: of["method"].map({"full": "", "lora": "10"})),
        "unequal training: max_steps is 10 of lora r=4 and not given of full",
    ),
    "unequal training in a stage": (
        lambda: staged(TWO).assign(
            epochs=lambda of: [
                {("full", "trial"): 10, ("full", "final"): 1, ("lora", "trial"): 1}.get(pair, 10)
                for pair in zip(of["method"], of["stage"], strict=True)
            ]
        ),
        "unequal training: epochs is 1 (trial), 10 (final) of lora r=4 and 1 (final), 10 (trial) of full",
    ),
    "unequal training in an arm": (
        lambda: staged(TWO).assign(epochs=lambda of: (of["learning_rate"] == RATES[0]) + 1),
        "unequal training: epochs is ",
    ),
    "unequal selection seeds": (
        lambda: drop(staged(TWO), method="full", seed=1, stage="trial"),
        "unequal numbers of seeds choose the rates, 2 of lora r=4 and 1 of full",
    ),
    "best at the edge": (
        lambda: staged(TWO, best={"lora 4": EDGE}),
        f"of lora r=4 the best rate is at the grid's edge, {HIGHEST}",
    ),
    "best at the lower edge": (
        lambda: staged(TWO, best={"lora 4": RATES[0]}),
        f"of lora r=4 the best rate is at the grid's edge, {LOWEST}",
    ),
    "one rate": (
        lambda: staged(TWO).query(f"learning_rate == {CURVE} or method != 'full'"),
        "of full only one rate was tried",
    ),
    "grids that share the best alone": (
        lambda: staged(TWO, best={"lora 4": EDGE, "full": RATES[0]}),
        "around each arm's best rate the grids have no other rate in common",
    ),
    "a coarser grid": (
        lambda: staged(TWO).assign(
            learning_rate=lambda of: of["learning_rate"].where(of["method"] != "full", of["learning_rate"] ** 2)
        ),
        "the grids are not equally fine: from the rate below the best to the one above, 4-fold for lora r=4",
    ),
    "seeds that chose": (
        lambda: staged(TWO).assign(seed=lambda of: of["seed"].replace({10: 0})),
        "seed 0 chose a rate and score it",
    ),
    "selection on test": (
        lambda: staged(TWO).assign(split="test"),
        "trials and final runs are both scored on test",
    ),
    "selection on test without stages": (
        lambda: rows_of(TWO).assign(split="test"),
        "runs that choose the rates and runs that score them are both scored on test",
    ),
    "final runs alone, on test": (
        lambda: rows_of(TWO).assign(split="test", stage="final"),
        "runs that choose the rates and runs that score them are both scored on test",
    ),
    "the same difference in each seed": (
        lambda: change(staged(TWO, noise=0.0), 0.85, method="full", stage="final"),
        "the difference is the same in each seed, so that nothing tells how much it varies",
    ),
    "other seeds": (
        lambda: drop(staged(TWO), method="full", seed=12),
        "lora r=4 and full are scored with different seeds",
    ),
    "no trials": (
        lambda: drop(staged(TWO), method="full", stage="trial"),
        "full has no trials, so that what chose its rate is not told",
    ),
    "no final run": (
        lambda: drop(staged(TWO), method="full", stage="final"),
        f"the trials of full choose {CURVE:g}, and its final runs are not there",
    ),
    "final runs at another rate": (
        lambda: staged(TWO).assign(
            learning_rate=lambda of: of["learning_rate"].mask((of["stage"] == "final") & (of["method"] == "full"), EDGE)
        ),
        f"the trials of full choose {CURVE:g}, and its final runs are at {EDGE:g}",
    ),
    "full failed": (
        lambda: change(staged(TWO), "nan", method="full", seed=11),
        "a run that scores full failed",
    ),
    "every rate failed": (
        lambda: change(staged(TWO), "", method="full", seed=0),
        "no rate of full has a score of every seed",
    ),
    "chosen by its own score": (
        lambda: rows_of(TWO).query("seed == 10").assign(split="test"),
        "the rate is chosen by the test score that is reported",
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_what_is_not_fair_is_told_why(name: str, tmp_path: Path) -> None:
    made, why = REASONS[name]
    each = pair(group(made(), tmp_path), "lora r=4")
    assert any(reason.startswith(why) or reason == why for reason in each.reasons), each.reasons
    assert not each.fair
    assert each.gain is None


OF_FULL = (
    *("unequal training", "training that is not told", "unequal training in a stage"),
    *("unequal trials", "unequal selection seeds", "one rate", "a coarser grid", "other seeds", "no trials"),
    *("no full arm", "no final run", "final runs at another rate", "full failed", "every rate failed"),
)
"""Faults of full alone, of which the ranks among themselves know nothing."""


@pytest.mark.parametrize("name", OF_FULL)
def test_the_ranks_are_compared_whatever_full_lacks(name: str, tmp_path: Path) -> None:
    made, _ = REASONS[name]
    assert pair(group(made(), tmp_path), "lora r=4", "lora r=16").fair


def test_r_star_is_refused_where_one_rank_is_not_fair(tmp_path: Path) -> None:
    rows = staged(TWO, best={"lora 4": EDGE})
    assert star(group(rows, tmp_path), "lora", MARGIN) is None
    assert r"r\* of lora cannot be told: 1 of 2 comparisons with full is not fair." in text(rows, tmp_path)


def test_a_fair_table_has_no_reasons(tmp_path: Path) -> None:
    found = group(staged(TWO), tmp_path)
    assert [each.reasons for each in found.comparisons] == [()] * 3
    assert {arm.chosen_by for arm in found.arms} == {TRIALS}


def test_another_method_is_compared_at_its_rank(tmp_path: Path) -> None:
    found = group(staged({"full": 0.9, "lora 4": 0.9, "lora 8": 0.9, "dora 4": 0.9, "head": 0.5}), tmp_path)
    names = {each.name for each in found.comparisons if not each.with_full}
    assert names == {"dora r=4 against lora r=4", "lora r=4 against lora r=8"}
    assert pair(found, "head").fair


def test_equal_training_is_no_reason(tmp_path: Path) -> None:
    """However its numbers are written."""
    rows = staged(TWO).assign(epochs=lambda of: of["method"].map({"full": "10.0", "lora": "10"}))
    assert all(each.fair for each in group(rows, tmp_path).comparisons)
    assert "epochs" not in text(rows, tmp_path)


def test_rates_that_differ_in_their_last_digit_are_one(tmp_path: Path) -> None:
    rows = rows_of(TWO)
    moved = rows.assign(learning_rate=rows["learning_rate"] * (1 + 3e-16 * (rows["seed"] == SEEDS[0])))
    assert (moved["learning_rate"] != rows["learning_rate"]).any()
    assert text(moved, tmp_path) == text(rows, tmp_path)


# ---- what chose the rates, and how much the seeds vary

ON_TEST = "are both scored on test"


def test_one_rate_an_arm_chooses_nothing_on_test(tmp_path: Path) -> None:
    rows = rows_of(TWO).query(f"learning_rate == {CURVE}").assign(split="test")
    reasons = pair(group(rows, tmp_path), "lora r=4").reasons
    assert "of full only one rate was tried" in reasons
    assert not any(ON_TEST in reason for reason in reasons)


@pytest.mark.parametrize("stage", ["trial", "final"])
@pytest.mark.parametrize("seeds", [SEEDS, SEEDS[:1]])
def test_a_stage_that_all_rows_have_is_said(stage: str, seeds: tuple[int, ...], tmp_path: Path) -> None:
    rows = rows_of(TWO, seeds=seeds).assign(split="validation", stage=stage)
    assert f"Every row has the stage `{stage}`, so that trials are not told from final runs." in text(rows, tmp_path)
    assert not any(ON_TEST in why for each in group(rows, tmp_path).comparisons for why in each.reasons)


@pytest.mark.parametrize("seeds", [2, 5])
def test_nothing_is_sure_where_all_seeds_differ_by_the_same(seeds: int, tmp_path: Path) -> None:
    """Also where the scores themselves vary, and their differences are equal to rounding alone."""
    rows = rows_of(TWO, noise=0.0, seeds=range(seeds)).round({"score": 3})
    rows["score"] += 0.0123 * rows["seed"] - 0.03 * (rows["method"] == "lora") - 0.001 * rows["rank"].fillna(0)
    said = text(rows, tmp_path)
    assert "**0 of 3 comparisons are fair.**" in said
    assert r"r\* of lora cannot be told" in said
    assert "Surely" not in said
    rows["score"] += 1e-4 * (rows["seed"] == 1) * (rows["method"] == "full")
    assert pair(group(rows, tmp_path), "lora r=4").fair


@pytest.mark.parametrize("count", [2, LEAST_SEEDS - 1, LEAST_SEEDS])
def test_fewer_seeds_than_a_study_of_ours_needs_are_said(count: int, tmp_path: Path) -> None:
    said = text(rows_of(TWO, seeds=SEEDS[:count]), tmp_path)
    assert "**3 of 3 comparisons are fair.**" in said
    few = f"{count} seeds, fewer than the {LEAST_SEEDS} of our own studies: the interval is wider."
    assert (few in said) == (count < LEAST_SEEDS)
    assert f"A study of ours needs {LEAST_SEEDS} seeds." in (DOCS.parent / "grids.md").read_text()


# ---- failures


@pytest.mark.parametrize("score", ["", "nan", "NaN", "inf", "-inf", "diverged"])
def test_a_rate_at_which_a_run_failed_is_not_chosen_and_is_said(score: str, tmp_path: Path) -> None:
    rows = change(staged(TWO), score, method="lora", rank=4, learning_rate=CURVE, seed=0)
    (arm,) = [arm for arm in group(rows, tmp_path).arms if str(arm.arm) == "lora r=4"]
    assert arm.best != CURVE
    assert arm.failures == (f"{CURVE:g} with seed 0 has no score",)
    assert f"- lora r=4: {CURVE:g} with seed 0 has no score" in text(rows, tmp_path)


def test_a_row_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    rows = drop(rows_of(TWO), method="lora", rank=4, learning_rate=CURVE, seed=11)
    (arm,) = [arm for arm in group(rows, tmp_path).arms if str(arm.arm) == "lora r=4"]
    assert arm.failures == (f"{CURVE:g} with seed 11 has no row",)
    assert arm.best != CURVE


def with_one_seed(rows: pd.DataFrame, *rates: float) -> pd.DataFrame:
    """Without the rows of full at these rates, but for those of the first seed."""
    return rows[~((rows["method"] == "full") & rows["learning_rate"].isin(rates) & (rows["seed"] != SEEDS[0]))]


def test_a_rate_that_lacks_rows_does_not_count_as_tried(tmp_path: Path) -> None:
    """Full has one rate of every seed, and a better score of one seed beside it."""
    others = [rate for rate in RATES if rate != CURVE]
    rows = change(with_one_seed(rows_of(TWO), *others), 0.99, method="full", learning_rate=RATES[3])
    found = group(rows, tmp_path)
    each = pair(found, "lora r=4")
    assert "of full only one rate has a row of every seed" in each.reasons
    assert any(
        why.startswith("unequal numbers of trials, 5 rates of lora r=4 against 1 of full") for why in each.reasons
    )
    assert (found.arms[0].rates, found.arms[0].uncounted) == ((CURVE,), tuple(others))
    said = "- full: 0.001, 0.002, 0.008 and 0.016 do not count as tried, for want of a row of every seed"
    assert said in text(rows, tmp_path)


def test_the_edge_is_that_of_the_rates_that_count(tmp_path: Path) -> None:
    rows = with_one_seed(rows_of(TWO), *RATES[3:])
    assert f"of full the best rate is at the grid's edge, {HIGHEST}" in pair(group(rows, tmp_path), "lora r=4").reasons


def test_a_rate_with_a_failed_run_counts_as_tried(tmp_path: Path) -> None:
    rows = change(rows_of(TWO), "nan", method="full", learning_rate=RATES[0], seed=SEEDS[1])
    found = group(rows, tmp_path)
    assert found.arms[0].rates == RATES
    assert pair(found, "lora r=4").fair


def test_no_mean_is_drawn_of_a_rate_that_lacks_rows(tmp_path: Path) -> None:
    found = group(with_one_seed(rows_of(TWO), RATES[0]), tmp_path)
    line = figure.draw(figure.table([found], "score", True, "")).axes[0].lines[0]
    assert [rate for rate, mean in zip(RATES, line.get_ydata(), strict=True) if math.isnan(mean)] == [RATES[0]]


@pytest.mark.parametrize("first", [4, 16])
def test_an_arm_whose_final_run_failed_falls_short(first: int, tmp_path: Path) -> None:
    """Also against a higher rank, on whichever side of the comparison it stands."""
    rows = change(staged(TWO), "diverged", method="lora", rank=first, stage="final", seed=11)
    found = group(rows, tmp_path)
    gain = pair(found, "lora r=4", "lora r=16").gain
    assert gain is not None
    assert gain.mean == (-math.inf if first == 4 else math.inf)
    assert [math.isnan(arm.shown) for arm in found.arms] == [False, first == 4, first == 16]
    least = {4: 16, 16: None}[first]
    r_star = star(found, "lora", MARGIN)
    assert r_star is not None
    assert r_star.size == least
    assert f"lora r={first} falls short of full: its run with seed 11 failed." in text(rows, tmp_path)


# ---- chance


def test_the_best_of_more_trials_is_ahead_by_chance() -> None:
    """The words' number, against a simulation of two equal arms whose rates are all equally good."""
    draw = random.Random(0)
    seven, four = ([max(draw.gauss(0, 1) for _ in range(n)) for _ in range(20_000)] for n in (7, 4))
    assert sum(seven) / len(seven) == pytest.approx(expected_maximum(7), abs=0.02)
    assert sum(four) / len(four) == pytest.approx(expected_maximum(4), abs=0.02)
    wins = sum(one > other for one, other in zip(seven, four, strict=True))
    assert wins / len(four) == pytest.approx(7 / 11, abs=0.015)


def test_the_chance_is_computed_from_seeds_alone(tmp_path: Path) -> None:
    fewer = {"method": "full", "learning_rate": RATES[0], "stage": "trial"}
    (why,) = [why for why in pair(group(drop(staged(TWO), **fewer), tmp_path), "lora r=4").reasons if "unequal" in why]
    assert "in 56% of cases, and on average by" in why
    alone = drop(rows_of(TWO), method="full", learning_rate=RATES[0]).query("seed == 10")
    (why,) = [why for why in pair(group(alone, tmp_path), "lora r=4").reasons if "unequal" in why]
    assert why.endswith("by how much is not computed, since no rate has two seeds")


@pytest.mark.parametrize(("seeds", "rates"), [(2, 4), (3, 7), (5, 4), (5, 7)])
def test_the_interval_of_seeds_left_out_covers_the_truth(seeds: int, rates: int) -> None:
    """Two equal arms whose rates are all equally good, where Student's interval alone is too narrow."""
    draw, covered, plain, count = random.Random(1), 0, 0, 600
    for _ in range(count):
        runs = [
            Run(("", ""), arm, 2.0**rate, seed, draw.gauss(0, 1), "", "", 0)
            for arm in (Arm("full", None), Arm("lora", 4))
            for rate in range(rates)
            for seed in range(seeds)
        ]
        full, lora = compare("", tuple(runs), True).arms
        differences = [(lora.scores[seed] or 0.0) - (full.scores[seed] or 0.0) for seed in range(seeds)]
        covered += abs(math.fsum(differences)) / seeds <= half(of_seeds(differences, OTHER_SEEDS))
        plain += abs(math.fsum(differences)) / seeds <= half(t_interval(differences))
    assert covered / count >= 0.925
    assert covered > plain
    assert seeds < 5 or plain / count < 0.9


def half(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


# ---- what is made fair with a known answer is answered

RANKS = (1, 2, 4, 8, 16)
QUIET = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUIET
@given(st.sampled_from([*RANKS, None]), st.floats(0.001, 10), st.booleans(), st.booleans(), st.integers(0, 999))
def test_a_known_r_star_is_found(
    tmp_path: Path, known: int | None, margin: float, higher: bool, in_stages: bool, seed: int
) -> None:
    """Ranks below it lose twice the margin, the others nothing; runs of one seed share most of their luck."""
    sign = 1 if higher else -1
    lost = {rank: 2 * margin if known is None or rank < known else 0.0 for rank in RANKS}
    levels = {"full": 5.0} | {f"lora {rank}": 5.0 - sign * lost[rank] for rank in RANKS}
    make = staged if in_stages else rows_of
    rows = make(levels, noise=margin / 100, steep=-sign * margin, seed=seed)
    found = star(group(rows, tmp_path, higher), "lora", margin)
    assert found is not None
    below = [rank for rank in RANKS if known is not None and rank < known]
    assert (found.size, found.low) == (known, max(below) + 1 if below else known)


def test_the_gain_is_students_over_paired_seeds(tmp_path: Path) -> None:
    rows = staged({"full": 0.9, "lora 4": 0.88}, noise=0.01)
    finals = rows[rows["stage"] == "final"].pivot_table(index="seed", columns="method", values="score")
    gain = pair(group(rows, tmp_path), "lora r=4").gain
    assert gain == t_interval((finals["lora"] - finals["full"]).tolist())
    assert gain.count == len(SEEDS)
    alone = pair(group(rows_of({"full": 0.9, "lora 4": 0.88}, noise=0.01), tmp_path), "lora r=4")
    assert alone.gain is not None
    assert alone.gain.high - alone.gain.low == pytest.approx(1.5 * (gain.high - gain.low), rel=1e-6)


@QUIET
@given(st.randoms(use_true_random=False), st.sampled_from([staged(TWO), rows_of(TWO), published()]))
def test_the_order_of_rows_never_matters(tmp_path: Path, draw: random.Random, rows: pd.DataFrame) -> None:
    order = list(rows.index)
    draw.shuffle(order)
    assert text(rows.loc[order], tmp_path) == text(rows, tmp_path)


@QUIET
@given(st.sampled_from([staged(TWO), rows_of(TWO), published().query("model == 'small'")]), st.sampled_from("az"))
def test_another_model_changes_no_statement_of_the_first(tmp_path: Path, rows: pd.DataFrame, name: str) -> None:
    one, other = rows.assign(model="m"), rows.assign(model=name)
    alone, both = text(one, tmp_path), text(pd.concat([one, other]), tmp_path)
    section = alone[alone.index("## m") :]
    assert section.strip() in both
    assert section.replace("## m", f"## {name}", 1).strip() in both


@pytest.mark.parametrize("make", [staged, rows_of])
def test_an_arm_with_the_scores_of_another_is_no_arm(make: Any, tmp_path: Path) -> None:
    """Scores of few digits may agree by chance."""
    rows = make({"full": 0.9, "lora 4": 0.9}, noise=0.01).round({"score": 5})
    rows.loc[rows["method"] == "lora", "score"] = rows.loc[rows["method"] == "full", "score"].to_numpy()
    why = "lora r=4 and full have the same score in each seed to the last digit"
    assert why in pair(group(rows, tmp_path), "lora r=4").reasons
    assert r"r\* of lora cannot be told" in text(rows, tmp_path)
    assert why not in pair(group(rows.round({"score": 2}), tmp_path), "lora r=4").reasons
    one = rows.index[rows["method"] == "lora"][rows.loc[rows["method"] == "lora", "learning_rate"] == CURVE][-1]
    other = rows.assign(score=rows["score"].mask(rows.index == one, rows["score"] + 1e-5))
    assert why not in pair(group(other, tmp_path), "lora r=4").reasons


def test_scores_that_seem_equal_are_not_called_worse(tmp_path: Path) -> None:
    rows = rows_of({"full": 0.5, "lora 4": 0.5}, noise=0.0, steep=0.0, seeds=[0])
    said = text(rows, tmp_path)
    assert "So it cannot be told that lora r=4 (0.5) differs from full (0.5)." in said


def test_seeds_that_agree_to_the_last_digit_are_no_seeds(tmp_path: Path) -> None:
    rows = staged({"full": 0.9, "lora 4": 0.9}, noise=0.01)
    copied = rows.copy()
    copied.loc[(rows["stage"] == "final") & (rows["method"] == "lora"), "score"] = 0.8123
    (each,) = group(copied, tmp_path, True).comparisons
    assert "the seeds of lora r=4 have one score to the last digit" in each.reasons
    rounded = copied.assign(score=copied["score"].round(2))
    for honest in (rows, rounded):
        (each,) = group(honest, tmp_path, True).comparisons
        assert not any("last digit" in reason for reason in each.reasons)
