"""`docs/paper.md`: claims are decided by intervals, and every number is that of the records."""

from __future__ import annotations

import base64
import dataclasses
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import study

from analysis.__main__ import main
from analysis.paper import arms, directions, norms, page
from analysis.paper.arms import between
from analysis.paper.command import OUT
from analysis.paper.reading import FAILS, HOLDS, UNSURE, above, below, both, of_every_two, within, written
from analysis.paper.sections import SECTIONS
from analysis.study import comparison
from analysis.study.kept import Place, kept, similarity
from analysis.study.records import RECORDS, Records, load
from analysis.study.statistics import Interval
from lorax_lab.errors import ConfigError
from lorax_lab.spectra import random_similarity_std, subspace_similarity

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


def test_two_seeds_have_no_interval() -> None:
    found = of_every_two([0.4], 2)
    assert written(found) == "0.400"
    assert above(found, 0.1) == UNSURE


def similar(phi: dict[tuple[str, str, str], float], noise: float = 0.01) -> Records:
    """Similarities of two layers, each pair of runs apart by a little; `phi` by pair, side and module, .2 elsewhere."""
    draw = np.random.default_rng(1)
    pairs = {directions.RANKS: 5, directions.SEEDS: PAIRS, directions.OF_FULL: PAIRS, "W and r=64": 5, "W and full": 5}
    rows = []
    for pair, count in pairs.items():
        for side in (directions.FACTOR, directions.START, directions.ROW, directions.COLUMN):
            for module in (directions.QUERY, directions.VALUE):
                for layer in (0, 1):
                    value = phi.get((pair, side, module), 0.2)
                    each = {
                        key: (value + noise * draw.standard_normal(count)).tolist()
                        for key in ("1,1", "8,8", "8,64", "40,4", "64,64")
                    }
                    place = {"condition": "sarcasm", "pair": pair, "side": side, "module": module, "layer": layer}
                    rows.append(place | {"d": D, "each": each})
    return dataclasses.replace(study(tasks=("sarcasm",)), rows={"similarities": rows})


def test_the_top_direction_is_told_by_type_of_matrix() -> None:
    of = {(directions.RANKS, directions.FACTOR, directions.QUERY): 0.8}
    query, value = directions.top_direction(similar(of))
    assert (query.subject, query.outcome) == ("query", HOLDS)
    assert "above 0.5 in 2 of 2 matrices" in query.found
    assert (value.subject, value.outcome) == ("value", FAILS)
    assert "chance 0.003" in value.beside
    (unsure, _) = directions.top_direction(similar({(directions.RANKS, "A", directions.QUERY): 0.5}))
    assert unsure.outcome == UNSURE


def test_other_directions_and_those_of_the_base() -> None:
    assert {r.outcome for r in directions.other_directions(similar({}))} == {HOLDS}
    more = similar({(directions.RANKS, directions.FACTOR, m): 0.4 for m in (directions.QUERY, directions.VALUE)})
    assert {r.outcome for r in directions.other_directions(more)} == {FAILS}
    low = {("W and r=64", side, directions.QUERY): 0.11 for side in (directions.ROW, directions.COLUMN)}
    rows, columns = directions.directions_of_the_base(similar(low))
    assert (rows.subject, rows.outcome, columns.outcome) == ("query, rows", HOLDS, HOLDS)
    assert "chance 0.104" in rows.beside


def test_the_query_is_held_against_the_value() -> None:
    of = {(directions.SEEDS, directions.FACTOR, directions.QUERY): 0.35}
    (reading,) = directions.more_of_the_query(similar(of))
    assert reading.outcome == HOLDS
    (other,) = directions.more_of_the_query(similar({(directions.SEEDS, "A", directions.VALUE): 0.35}))
    assert other.outcome == FAILS
    query, value = directions.more_than_chance(similar(of))
    assert query.outcome == HOLDS
    assert "chance = 0.18" in query.found
    assert value.outcome == HOLDS  # .2 is above chance, .167


def amplified(over_noise: float) -> Records:
    """Factors of three matrices and five seeds: W is twice as large in a Gaussian's directions as `over_noise` says."""
    rows = [
        {"condition": "sarcasm", "arm": arm, "seed": seed, "matrix": matrix, "r": r}
        | {"factor": over_noise * scale * 8 * (1 + 0.01 * seed), "gaussian_factor": 8.0 * scale}
        | {"random_factor": 8.0 * scale, "base_factor": 0.1 * scale}
        for arm, r, scale in (("LoRA r=4", 4, 1.0), ("LoRA r=64", 64, 0.1))
        for seed in SEEDS
        for matrix in ("one", "two", "three")
    ]
    return dataclasses.replace(study(tasks=("sarcasm",)), rows={"factors": rows})


@pytest.mark.parametrize(
    ("over_noise", "outcome", "told"), [(0.5, HOLDS, HOLDS), (1.0, FAILS, FAILS), (2, FAILS, HOLDS)]
)
def test_amplification_stands_beside_a_gaussian_of_its_norm(over_noise: float, outcome: str, told: str) -> None:
    records = amplified(over_noise)
    few, many = norms.uses_directions_of_the_base(records)
    assert (few.subject, few.outcome, many.outcome) == ("LoRA, r = 4", outcome, outcome)
    assert few.found.startswith(f"{1 / (over_noise * 1.02):.2f}")
    assert few.beside.startswith("a Gaussian update: 1.00")
    assert [r.outcome for r in norms.more_than_size(records)] == [told, told]
    (falls,) = norms.less_at_a_higher_rank(records)
    assert (falls.outcome, falls.found[:5]) == (HOLDS, "10.00")
    assert {r.outcome for r in norms.not_the_top_ones(records)} == {HOLDS}


@pytest.fixture(scope="module")
def second() -> Records:
    return load(RECORDS / "rank_sweep_2.jsonl")


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
    classes = dataclasses.replace(second)
    monkeypatch.setattr(Records, "conditions", ["sarcasm", "cloze"])
    monkeypatch.setattr(arms, "LARGEST", 64)
    monkeypatch.setattr(arms, "SMALL", ("LoRA r=1",))
    sarcasm, cloze = arms.loss_falls_and_stops(classes)
    nats = comparison.loss_gains(second, "cloze")
    assert f"{nats['LoRA r=16'].mean - nats['LoRA r=1'].mean:.3f} [" in cloze.found
    assert sarcasm.outcome in (HOLDS, FAILS, UNSURE)
    alone = next(iter(arms.more_than_the_head(classes)))
    assert alone.outcome == HOLDS
    assert alone.found.startswith("0.132 [")  # as the study's page has it


def test_claims_of_the_other_studies_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read of a made study whose arms have its names: the first LoRA stands for all of them."""
    for section in SECTIONS:
        whole = importlib.import_module(f"experiments.{section.study}").plan("full")
        assert set(section.figures) <= set(whole.figures or page_figures()), section.title
        assert whole.protocol.margin == 0.02  # the rules name it
    known = {arm.name for arm in importlib.import_module("experiments.paper_which_matrices").plan("full").protocol.arms}
    assert set(arms.SINGLE) <= known
    records, gain = study(tasks=("sarcasm",)), interval(0.01, 0.03)
    monkeypatch.setattr(arms, "between", lambda *_: gain)
    monkeypatch.setattr(comparison, "gains", lambda *_: dict.fromkeys(["full", *known, *ALSO], gain))
    for read, outcome in (
        (arms.several_types("query and value r=4"), HOLDS),
        (arms.rank_one_is_enough, HOLDS),
        (arms.rank_one_of_the_query_is_not, HOLDS),
        (arms.better_with_few, HOLDS),
        (arms.no_worse_at_any_size, HOLDS),
    ):
        readings = list(read(records))
        assert readings
        assert {reading.outcome for reading in readings} == {outcome}


ALSO = ("query and value r=1", "query r=8", "LoRA r=1", "LoRA r=8", "LoRA r=64")


def page_figures() -> tuple[str, ...]:
    from analysis.study.figures import STANDARD

    return STANDARD


def test_the_page_names_what_has_not_run_and_what_is_incomplete() -> None:
    text = page.write([], {})
    assert text.count("has no records") == len(SECTIONS)
    assert "python -m experiments.paper_which_rank" in text
    whole = dataclasses.replace(study(tasks=("sarcasm",)), name="paper_rank_by_loss")
    lines = [line for line in whole.lines if line["config"]["measure"] == "trial" or line["seed"] != 0]
    text = page.write([dataclasses.replace(whole, lines=lines)], {"paper_rank_by_loss": "study/paper_rank_by_loss"})
    assert "`paper_rank_by_loss` is not complete, or breaks its protocol" in text
    assert "![" not in text
    assert "Predicted before the runs:" in text


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
            packed = base64.b64encode(vectors.T.astype("<f2").tobytes()).decode()
            place = {"condition": "sarcasm", "arm": arm, "seed": seed, "matrix": "layer.2.query", "side": side}
            rows.append(place | {"k": vectors.shape[1], "d": size, "vectors": packed})
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
        ({"i": 3}, "3 directions of LoRA r=2:0 are not possible: 2 were kept"),
        ({"j": 0}, "0 directions of LoRA r=8:1 are not possible: 8 were kept"),
        ({"one": "LoRA r=8:1"}, "LoRA r=8:1 twice"),
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


def test_factors_that_began_alike_are_refused() -> None:
    with pytest.raises(ConfigError, match="not drawn independently; compare runs of different seeds"):
        similarity(directions_kept(same_start=True), HERE, "LoRA r=2:0", "LoRA r=8:1", 2, 8)


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
