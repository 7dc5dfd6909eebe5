"""`docs/limits.md`: a claim of others is decided by intervals, and its numbers are those of the records."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t
from synthetic import study
from test_which_rank import cell

from analysis import limits
from analysis.limits import VERDICTS, at_equal_parameters
from analysis.study.records import RECORDS, Records, load
from analysis.study.statistics import Interval
from lorax_lab.study.protocol import Arm, Cell, Protocol
from lorax_lab.study.published import read_lines

TASKS = ("one", "two")
CELLS = [cell(task, {4: 0.8, 64: 0.8}) for task in TASKS]


def protocol(r4: float, r64: float) -> Protocol:
    """Two ranks, whose grids begin so many times above full fine-tuning's."""
    ranks = [Arm(f"LoRA r={rank}", ("method=lora", f"rank={rank}"), 1e-4 * by) for rank, by in ((4, r4), (64, r64))]
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


def verdicts(by_name: dict[str, Records]) -> dict[str, str]:
    """What comes out of the claims of rates and scores."""
    rates, learned = limits.rates(by_name, CELLS), limits.learned(by_name, CELLS)
    readings = {"ratio": rates["ratio"], "drift": rates["drift"], "less": learned["less"]}
    return {name: VERDICTS[reading.outcome] for name, reading in readings.items()}


@pytest.mark.parametrize(
    ("grids", "apart", "ratio", "drift"),
    [
        ((10, 10), 0, "borne out", "borne out"),
        ((100, 100), 0, "refuted", "borne out"),
        ((4, 16), 0, "borne out", "refuted"),
        ((10, 10), 1, "open", "open"),  # two tasks of which one moves
    ],
)
def test_rates_are_decided_by_the_mean_over_tasks(
    grids: tuple[float, float], apart: int, ratio: str, drift: str
) -> None:
    made = verdicts(studies(*grids, apart))
    assert (made["ratio"], made["drift"]) == (ratio, drift)


def test_the_drift_goes_from_the_smallest_rank_to_the_largest() -> None:
    assert limits.rates(studies(4, 16), CELLS)["drift"].value.mean == pytest.approx(4)


@pytest.mark.parametrize("apart", [0, 1])
def test_rates_at_an_end_of_their_grid_are_counted(apart: int) -> None:
    assert limits.rates(studies(10, 10, apart), CELLS)["edges"] == apart


@pytest.mark.parametrize(
    ("gains", "less"), [((-0.03, -0.03), "borne out"), ((0.03, 0.03), "refuted"), ((-0.03, 0.03), "open")]
)
def test_learning_less_is_decided_by_the_mean_over_tasks(gains: tuple[float, float], less: str) -> None:
    assert verdicts(studies(10, 10, gains=gains))["less"] == less


@pytest.mark.parametrize(("gains", "less", "more"), [((-0.03, -0.03), 2, 0), ((-0.03, 0.03), 1, 1)])
def test_settings_that_surely_learn_less_or_more_are_counted(gains: tuple[float, float], less: int, more: int) -> None:
    learned = limits.learned(studies(10, 10, gains=gains), CELLS)
    assert learned["surely"] == {"less": less, "more": more}
    assert learned["each"] == pytest.approx([-gain for gain in gains], abs=0.01)


def test_feed_forward_is_better_with_fewer_parameters_or_worse_with_more() -> None:
    above, maybe_above, maybe_below, below = (
        Interval(mean, mean - 0.01, mean + 0.01, 5) for mean in (0.02, 0.005, -0.005, -0.02)
    )
    pairs = ((above, above), (maybe_above, above), (maybe_below, maybe_below), (below, maybe_above), (below, below))
    outcomes = [VERDICTS[at_equal_parameters(fewer, more).outcome] for fewer, more in pairs]
    assert outcomes == ["borne out", "open", "open", "open", "refuted"]


def test_repeats_of_a_task_count_once() -> None:
    of_cells = [cell(task, {64: 0.8}) for task in ("one", "one", "two", "two")]
    mean = limits.over_tasks(of_cells, [1.0, 3.0, 8.0, float("nan")])
    assert (mean.mean, mean.count) == (5.0, 2)
    assert mean.high == pytest.approx(5 + 12.706 * 3, abs=1e-2)  # Student's of 2 and 8


def test_without_its_records_every_claim_is_open() -> None:
    page = limits.write([study()])
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 6
    assert all("**open** | — |" in row for row in rows)


def test_the_feed_forwards_gain_is_that_of_the_raw_answers() -> None:
    """By another way: the lines of the table, sums of squares, and each variance with its own quantile."""
    answers: dict[str, list[np.ndarray]] = {}
    ranks = (1, 2, 4, 8, 64)
    for line in sorted(read_lines(RECORDS / limits.WHICH_MATRICES), key=lambda line: line["seed"]):
        targets = line["config"]["method"].get("target_modules") or []
        if line["config"]["measure"] != "trial" and line["rank"] in ranks:
            kind = "attention" if "key" in targets else "feed-forward" if "intermediate.dense" in targets else ""
            answers.setdefault(f"{kind} {line['rank']}", []).append(line["correct"].astype(float))
    pairs = ((1, 2), (2, 4), (4, 8))
    d = sum(np.array(answers[f"feed-forward {f}"]) - np.array(answers[f"attention {a}"]) for f, a in pairs) / 3
    seeds, examples = d.shape
    mean = float(d.mean())
    between_seeds = examples * float(((d.mean(1) - mean) ** 2).sum()) / (seeds - 1)
    between_examples = seeds * float(((d.mean(0) - mean) ** 2).sum()) / (examples - 1)
    total = float(((d - mean) ** 2).sum())
    left = total - between_seeds * (seeds - 1) - between_examples * (examples - 1)
    residual = left / ((seeds - 1) * (examples - 1))
    parts = [(seeds, between_seeds), (examples, between_examples - residual)]
    half = np.sqrt(sum(t.ppf(0.975, n - 1) ** 2 * part / d.size for n, part in parts))
    made = limits.matrices(load(RECORDS / limits.WHICH_MATRICES))
    assert seeds == 5
    gain = made["fewer"].value
    assert (gain.mean, gain.low, gain.high) == pytest.approx((mean, mean - half, mean + half), abs=1e-9)
    assert made["sizes"] == [23_040 / 36_864, 23_040 / 18_432]
    at_ranks = {r: float(np.mean(answers[f"feed-forward {r}"]) - np.mean(answers[f"attention {r}"])) for r in ranks}
    for end, mean in (("best", max(at_ranks.values())), ("worst", min(at_ranks.values()))):
        assert at_ranks[made[end]["rank"]] == pytest.approx(mean) == made[end]["alone"].mean
