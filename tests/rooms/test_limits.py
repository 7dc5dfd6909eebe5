"""`docs/limits.md`: a claim of others is decided by intervals, and its numbers are those of the records."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t
from synthetic import changed, lost, mirrored, study, with_head
from test_which_rank import cell

from analysis import limits
from analysis.limits import VERDICTS, at_equal_parameters
from analysis.study.figures.forgetting import AS_TRAINED, AT_FULLS, FULL_AT
from analysis.study.records import RECORDS, Records, load
from lorax_lab.record.statistics import Interval
from lorax_lab.study.protocol import Arm, Cell, Protocol
from lorax_lab.study.published import read_lines

TASKS = ("one", "two")
CELLS = [cell(task, {4: 0.8, 64: 0.8}) for task in TASKS]


def protocol(r4: float, r64: float) -> Protocol:
    """Ranks whose grids begin so many times above full fine-tuning's: rank 1 between the others, rank 4 and rank 64."""
    starts = {1: (r4 * r64) ** 0.5, 4: r4, 64: r64}
    ranks = [Arm(f"LoRA r={rank}", ("method=lora", f"rank={rank}"), 1e-4 * start) for rank, start in starts.items()]
    return Protocol((Arm("full", ("method=full",), 1e-4), *ranks), extensions=0)


def studies(r4: float, r64: float, apart: int = 0, gains: tuple[float, float] = (0, 0)) -> dict[str, Records]:
    """A study whose arms are best in the middle of their grids, but rank 64 so many steps further on the second task.
    Rank 64 gains so much over full fine-tuning on each task."""
    grids = protocol(r4, r64)

    def truth(of_cell: Cell) -> float:
        largest, second = of_cell.arm == "LoRA r=64", of_cell.condition == "two"
        best = 1 + apart * (largest and second)
        return 0.8 - 0.02 * abs(grids.step(of_cell.arm, of_cell.rate) - best) + largest * gains[second]

    return {"made": study(truth, grids, TASKS)}


@pytest.mark.parametrize(
    ("grids", "apart", "ratio", "drift"),
    [
        ((10, 10), 0, "borne out", "borne out"),
        ((30, 30), 0, "refuted", "borne out"),
        ((4, 16), 0, "borne out", "refuted"),
        ((10, 10), 1, "open", "open"),  # two tasks of which one moves
    ],
)
def test_rates_are_decided_by_the_mean_over_tasks(
    grids: tuple[float, float], apart: int, ratio: str, drift: str
) -> None:
    rates = limits.rates(studies(*grids, apart), CELLS)
    assert [VERDICTS[rates[name].outcome] for name in ("ratio", "drift")] == [ratio, drift]


def test_the_ratio_is_over_all_ranks_and_the_drift_from_rank_4_to_the_largest() -> None:
    rates = limits.rates(studies(4, 16), CELLS)
    assert (rates["ratio"].value.mean, rates["median"], rates["drift"].value.mean) == pytest.approx((8, 8, 4))
    assert rates["moved"] == pytest.approx([4, 4])


def test_rates_at_an_end_of_their_grid_are_counted() -> None:
    """Of the reference and of every rank, on two tasks; not of the head."""
    grids = protocol(10, 10)
    grids = replace(grids, arms=(*grids.arms, Arm("head", ("method=head",), 1e-3)))
    highest_are_best = study(lambda cell: 0.8 + 0.02 * grids.step(cell.arm, cell.rate), grids, TASKS)
    assert limits.rates({"made": highest_are_best}, CELLS)["edges"] == 2 * 4


@pytest.mark.parametrize(
    ("gains", "verdict", "less", "more"),
    [((-0.03, -0.03), "borne out", 2, 0), ((0.03, 0.03), "refuted", 0, 2), ((-0.03, 0.03), "open", 1, 1)],
)
def test_learning_less_is_decided_by_the_mean_over_tasks_and_settings_are_counted(
    gains: tuple[float, float], verdict: str, less: int, more: int
) -> None:
    learned = limits.learned(studies(10, 10, gains=gains), CELLS)
    assert VERDICTS[learned["less"].outcome] == verdict
    assert learned["surely"] == {"less": less, "more": more}
    assert learned["each"] == pytest.approx([-gain for gain in gains], abs=0.01)


def test_feed_forward_is_better_with_fewer_parameters_or_worse_with_more() -> None:
    above, maybe_above, maybe_below, below = (
        Interval(mean, mean - 0.01, mean + 0.01, 5) for mean in (0.02, 0.005, -0.005, -0.02)
    )
    pairs = ((above, above), (maybe_above, above), (maybe_below, maybe_below), (below, maybe_above), (below, below))
    outcomes = [VERDICTS[at_equal_parameters(fewer, more).outcome] for fewer, more in pairs]
    assert outcomes == ["borne out", "open", "open", "open", "refuted"]


@pytest.mark.parametrize(("lower", "outcome"), [(0.1, "borne out"), (0.0, "open"), (-0.1, "refuted")])
def test_at_equal_parameters_a_language_models_loss_is_lower_higher_or_not_told(lower: float, outcome: str) -> None:
    names = ("feed-forward r=20", "attention r=33")
    arms = [Arm(name, ("method=lora", f"rank={name.partition('=')[2]}"), 1e-3) for name in names]
    grids = Protocol((Arm("full", ("method=full",), 1e-4), *arms), extensions=0)
    made = study(lambda cell: 0.5 + (lower if cell.arm == names[0] else 0.0), grids)
    found = limits.parts(mirrored(made, "error", 1.0))
    assert VERDICTS[found["below"].outcome] == outcome
    assert found["below"].value.mean == pytest.approx(lower)


def of_batches(by_rank: dict[int, float], of_seeds: float = 0.0) -> Records:
    """A study whose large batch lets full fine-tuning lead LoRA of each rank by so much more than at the small one,
    where it leads by .01. The lead grows a third as much with few steps. It varies over seeds."""
    places, grids = {"few steps": (16, 5), "large": (256, None), "small": (16, None)}, protocol(10, 10)
    times = {"few steps": 1 / 3, "large": 1, "small": 0}

    def truth(of_cell: Cell) -> float:
        rank = grids.arm(of_cell.arm).rank
        lead = 0.01 + times[of_cell.condition] * (by_rank[rank] + of_seeds * (of_cell.seed - 2)) if rank else 0
        return 0.8 - lead

    def placed(line: dict[str, Any]) -> dict[str, Any]:
        train = dict(zip(("batch_size", "max_steps"), places[line["config"]["task"]["name"]], strict=True))
        return line | {"config": line["config"] | {"train": line["config"]["train"] | train}}

    return replace(changed(study(truth, grids, tuple(places)), placed), name=limits.STUDY_OF_BATCHES)


@pytest.mark.parametrize(
    ("by_rank", "of_seeds", "verdict"),
    [
        ({1: 0.03, 4: 0.006, 64: 0.06}, 0.0, "borne out"),
        ({1: 0.03, 4: 0.03, 64: 0.0}, 0.0, "open"),
        ({1: 0.006, 4: 0.0, 64: -0.03}, 0.0, "refuted"),
        ({1: 0.0, 4: 0.0, 64: 0.0}, 0.01, "open"),
    ],
)
def test_large_batches_are_decided_by_how_much_the_lead_of_full_grows_at_each_rank(
    by_rank: dict[int, float], of_seeds: float, verdict: str
) -> None:
    made = limits.batches(of_batches(by_rank, of_seeds))
    assert VERDICTS[made["outcome"]] == verdict
    assert {rank: grown.mean for rank, grown in made["grows"].items()} == pytest.approx(by_rank, abs=2e-3)
    assert {rank: lead.mean for rank, lead in made["leads"].items()} == pytest.approx(
        dict.fromkeys(by_rank, 0.01), abs=2e-3
    )
    few_steps = {rank: grown.mean for rank, grown in made["few_steps"].items()}
    assert few_steps == pytest.approx({rank: grown / 3 for rank, grown in by_rank.items()}, abs=2e-3)


def test_batches_are_not_compared_while_a_run_is_missing_or_diverged() -> None:
    whole = of_batches({1: 0.0, 4: 0.0, 64: 0.0})
    of_large = [line for line in whole.lines if line["config"]["task"]["name"] != "large"]
    assert limits.batches(replace(whole, lines=of_large)) is None
    assert limits.batches(lost(whole, rank=64)) is None


def forgotten(arm: str, text: str, series: str, lows: tuple[float, ...], highs: tuple[float, ...]) -> pd.DataFrame:
    """Rows of the figure, one for each task."""
    means = np.add(lows, highs) / 2
    ends = {"full_more": means, "full_more_low": lows, "full_more_high": highs, "seeds": 4, "examples": 40}
    return pd.DataFrame({"task": TASKS, "text": text, "series": series, "arm": arm, "factor": 1.5} | ends)


@pytest.mark.parametrize(
    ("lows", "highs", "verdict"),
    [((0.1, 0.2), (0.3, 0.4), "borne out"), ((-0.3, -0.2), (-0.2, -0.1), "refuted"), ((0.1, -0.2), (0.3, 0.4), "open")],
)
def test_forgetting_is_decided_by_every_task_on_wikipedia_at_the_small_rank(
    lows: tuple[float, ...], highs: tuple[float, ...], verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [
        ("LoRA r=1", "wikipedia", AS_TRAINED),
        ("LoRA r=8", "one", AS_TRAINED),
        ("LoRA r=8", "wikipedia", FULL_AT),
    ]
    at_fulls = forgotten("LoRA r=8", "wikipedia", AT_FULLS, (1.0, 2.0), (3.0, 4.0))
    parts = [forgotten(*place, (-9.0, 5.0), (9.0, 6.0)) for place in others]
    table = pd.concat([forgotten("LoRA r=8", "wikipedia", AS_TRAINED, lows, highs), at_fulls, *parts])
    table.loc[table["series"] == FULL_AT, "factor"] = [0.5, 1.5]
    with_a_third = limits.forgets(table, (*TASKS, "three"))
    assert (VERDICTS[with_a_third["outcome"]], with_a_third["missing"]) == ("open", ["three"])
    made = limits.forgets(table, TASKS)
    assert VERDICTS[made["outcome"]] == verdict
    assert [(more.low, more.high) for more in made["as_trained"].values()] == list(zip(lows, highs, strict=True))
    monkeypatch.setattr(limits.forgetting, "table", lambda records: table)
    monkeypatch.setattr(limits, "FORGETS_ON", TASKS)
    page = limits.write([replace(study(tasks=(*TASKS, "three")), name=limits.STUDY_OF_LANGUAGE)])
    row = next(line for line in page.splitlines() if line.startswith("| LoRA forgets"))
    assert f"**{verdict}**" in row


def test_repeats_of_a_task_count_once() -> None:
    of_cells = [cell(task, {64: 0.8}) for task in ("one", "one", "two", "two")]
    mean = limits.over_tasks(of_cells, [1.0, 3.0, 8.0, 8.0])
    assert (mean.mean, mean.count) == (5.0, 2)
    assert mean.high == pytest.approx(5 + 12.706 * 3, abs=1e-2)  # Student's of 2 and 8


def test_settings_in_other_units_or_without_rank_64_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = [cell("one", {64: 0.8}, unit="nats"), cell("one", {4: 0.8})]
    monkeypatch.setattr(limits, "cells", lambda studies: [*CELLS, *left_out])
    assert "Measured in 2 settings of 2 tasks: LoRA is" in limits.write(list(studies(10, 10).values()))


def test_without_its_records_every_claim_is_open(tmp_path: Path) -> None:
    page = limits.write([study()], tmp_path / "none.csv")
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 6
    assert all("**open** | — |" in row for row in rows)
    assert "## Problems" not in page


def test_the_feed_forwards_gain_is_that_of_the_raw_answers() -> None:
    """By another way: the lines of the table, sums of squares, and each variance with its own quantile."""
    answers: dict[str, list[np.ndarray]] = {}
    ranks = (1, 2, 4, 8, 64)
    for line in sorted(read_lines(RECORDS / limits.STUDY_OF_MATRICES), key=lambda line: line["seed"]):
        targets = line["config"]["method"].get("target_modules") or []
        if line["config"]["measure"] != "trial" and line["rank"] in ranks:
            kind = "attention" if "key" in targets else "feed-forward" if "intermediate.dense" in targets else ""
            answers.setdefault(f"{kind} {line['rank']}", []).append(line["correct"].astype(float))
    pairs = ((1, 2), (2, 4), (4, 8))
    gains = sum(np.array(answers[f"feed-forward {f}"]) - np.array(answers[f"attention {a}"]) for f, a in pairs) / 3
    seeds, examples = gains.shape
    mean = float(gains.mean())
    between_seeds = examples * float(((gains.mean(1) - mean) ** 2).sum()) / (seeds - 1)
    between_examples = seeds * float(((gains.mean(0) - mean) ** 2).sum()) / (examples - 1)
    unexplained = float(((gains - mean) ** 2).sum())
    unexplained -= between_seeds * (seeds - 1) + between_examples * (examples - 1)
    residual = unexplained / ((seeds - 1) * (examples - 1))
    parts = [(seeds, between_seeds), (examples, between_examples - residual)]
    half = np.sqrt(sum(t.ppf(0.975, n - 1) ** 2 * part / gains.size for n, part in parts))
    made = limits.matrices(load(RECORDS / limits.STUDY_OF_MATRICES))
    assert seeds == 5
    assert made["best"]["at_once"].high > made["best"]["alone"].high
    gain = made["fewer"].value
    assert (gain.mean, gain.low, gain.high) == pytest.approx((mean, mean - half, mean + half), abs=1e-9)
    assert made["sizes"] == [23_040 / 36_864, 23_040 / 18_432]
    at_ranks = {r: float(np.mean(answers[f"feed-forward {r}"]) - np.mean(answers[f"attention {r}"])) for r in ranks}
    for end, mean in (("best", max(at_ranks.values())), ("worst", min(at_ranks.values()))):
        assert at_ranks[made[end]["rank"]] == pytest.approx(mean) == made[end]["alone"].mean


def test_rank_8_ends_where_it_surely_keeps_less_than_nine_tenths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 1 of the made study lacks .001, of which full fine-tuning brings .1 or .002."""
    monkeypatch.setattr(limits, "breaches", lambda study: [])  # the scores are made up
    monkeypatch.setattr(limits, "SMALL_RANK", 1)
    monkeypatch.setattr(limits, "LARGEST_RANK", 8)
    studies = {name: replace(with_head(of_head), name=name) for name, of_head in (("far", 0.7), ("near", 0.798))}
    cells = [cell(name, {1: 0.799, 8: 0.8}, study=name, condition="reviews") for name in studies]
    rows = limits.shares_of_small_rank(studies, cells)
    assert [(row["task"], round(row["share"].mean, 2)) for row in rows] == [("near", 0.5), ("far", 0.99)]
    assert rows[0]["share"].high < 0.9 < rows[1]["share"].low
    monkeypatch.setattr(limits, "cells", lambda studies: cells[:1])
    assert "None of 1 settings" in limits.write(list(studies.values()))
    monkeypatch.setattr(limits, "OTHER_BASES", {"near": "with three layers"})
    rows = limits.shares_of_small_rank(studies, cells[:1])
    assert [row["task"] for row in rows] == ["reviews with three layers", "far"]


def test_a_generator_teaches_by_nats_below_the_form_or_by_exact_answers() -> None:
    rows = [("sorts", 3.0, 2.5, 0.1, 0.0), ("adds", 2.0, 1.9, 0.5, 0.2), ("counts", 1.0, 0.75, 0.3, 0.2)]
    made = limits.searched(pd.DataFrame(rows, columns=["name", "form", "trained", "exact", "exact_form"]))
    assert [(row["name"], bool(row["teaches"])) for row in made] == [("sorts", True), ("counts", False), ("adds", True)]
