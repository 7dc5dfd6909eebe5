"""`docs/limits.md`: a claim of others is decided by intervals, and its numbers are those of the records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t
from synthetic import changed, study
from test_which_rank import cell

from analysis import limits
from analysis.limits import VERDICTS, at_equal_parameters
from analysis.study.figures.forgetting import AS_TRAINED, FULL_AT
from analysis.study.records import RECORDS, Records, load
from analysis.study.statistics import Interval
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


@pytest.mark.parametrize(
    ("grow", "of_seeds", "verdict"),
    [(0.03, 0.0, "borne out"), (0.005, 0.0, "borne out"), (0.0, 0.0, "refuted"), (0.0, 0.01, "open")],
)
def test_large_batches_are_decided_by_how_much_the_lead_of_full_grows(
    grow: float, of_seeds: float, verdict: str
) -> None:
    """From the smallest batch to the largest, whatever the order and the names of the conditions. The lead grows twice
    as much at rank 64 as at rank 4, not at all at rank 1, and apart over seeds."""
    sizes, grids = {"middle": 64, "large": 256, "small": 16}, protocol(10, 10)
    times = {1: 0, 4: 1, 64: 2}

    def truth(of_cell: Cell) -> float:
        rank = grids.arm(of_cell.arm).rank
        at_large = times[rank] * grow + of_seeds * (of_cell.seed - 2) if rank else 0
        return 0.8 - 0.01 * bool(rank) - at_large * (of_cell.condition == "large")

    def resized(line: dict[str, Any]) -> dict[str, Any]:
        train = line["config"]["train"] | {"batch_size": sizes[line["config"]["task"]["name"]]}
        return line | {"config": line["config"] | {"train": train}}

    made = limits.batches(changed(study(truth, grids, tuple(sizes)), resized))
    assert VERDICTS[made["grows"].outcome] == verdict
    assert (made["grows"].value.mean, made["apart"].mean) == pytest.approx((grow, 2 * grow), abs=2e-3)
    means = {task: leads[4].mean for task, leads in made["leads"].items()}
    assert means == pytest.approx({"middle": 0.01, "large": 0.01 + grow, "small": 0.01}, abs=2e-3)


@pytest.mark.parametrize(
    ("lows", "highs", "verdict"),
    [((0.1, 0.2), (0.3, 0.4), "borne out"), ((-0.3, -0.2), (-0.2, -0.1), "refuted"), ((0.1, -0.2), (0.3, 0.4), "open")],
)
def test_forgetting_is_decided_by_every_task_on_wikipedia_at_the_small_rank(
    lows: tuple[float, ...], highs: tuple[float, ...], verdict: str
) -> None:
    def rows(arm: str, text: str, series: str, lows: tuple[float, ...], highs: tuple[float, ...]) -> pd.DataFrame:
        means = np.add(lows, highs) / 2
        ends = {"full_more": means, "full_more_low": lows, "full_more_high": highs, "seeds": 4, "examples": 40}
        return pd.DataFrame({"task": TASKS, "text": text, "series": series, "arm": arm} | ends)

    others = [
        ("LoRA r=1", "wikipedia", AS_TRAINED),
        ("LoRA r=8", "one", AS_TRAINED),
        ("LoRA r=8", "wikipedia", FULL_AT),
    ]
    parts = [rows(*place, (-9.0, 5.0), (9.0, 6.0)) for place in others]
    made = limits.forgets(pd.concat([*parts, rows("LoRA r=8", "wikipedia", AS_TRAINED, lows, highs)]))
    assert made is not None
    assert VERDICTS[made["outcome"]] == verdict
    assert [(i.low, i.high) for i in made["as_trained"].values()] == list(zip(lows, highs, strict=True))
    assert {task: str(i) for task, i in made["at_norm"].items()} == {
        "one": "0.0000 [-9.0000, 9.0000]",
        "two": "5.5000 [5.0000, 6.0000]",
    }


def test_repeats_of_a_task_count_once() -> None:
    of_cells = [cell(task, {64: 0.8}) for task in ("one", "one", "two", "two")]
    mean = limits.over_tasks(of_cells, [1.0, 3.0, 8.0, 8.0])
    assert (mean.mean, mean.count) == (5.0, 2)
    assert mean.high == pytest.approx(5 + 12.706 * 3, abs=1e-2)  # Student's of 2 and 8


def test_settings_in_other_units_or_without_rank_64_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = [cell("one", {64: 0.8}, unit="nats"), cell("one", {4: 0.8})]
    monkeypatch.setattr(limits, "cells", lambda studies: [*CELLS, *left_out])
    assert "| 2 settings of 2 tasks. LoRA" in limits.write(list(studies(10, 10).values()))


def test_without_its_records_every_claim_is_open(tmp_path: Path) -> None:
    page = limits.write([study()], tmp_path / "none.csv")
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 6
    assert all("**open** | — |" in row for row in rows)


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


def test_a_generator_teaches_by_nats_below_the_form_or_by_exact_answers(tmp_path: Path) -> None:
    rows = [("sorts", 3.0, 2.5, 0.1, 0.0), ("adds", 2.0, 1.9, 0.5, 0.2), ("counts", 1.0, 0.75, 0.3, 0.2)]
    table = pd.DataFrame(rows, columns=["name", "form", "trained", "exact", "exact_form"])
    search = tmp_path / "search.csv"
    table.assign(kind="rule", untrained=9.0).to_csv(search, index=False)
    made = limits.searched(pd.read_csv(search))
    assert [(row["name"], bool(row["teaches"])) for row in made] == [("sorts", True), ("counts", False), ("adds", True)]
    page = limits.write([study()], search)
    assert "| sorts | rule | 9.00 | 3.00 | 2.50 | 0.50 | 0.10 | 0.00 | yes |" in page
    assert "## Problems" not in limits.write([study()], tmp_path / "none.csv")
