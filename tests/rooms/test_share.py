"""The share of what fine-tuning brings, and the README's first screen, which is made of published records."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import PROTOCOL, changed, directed, in_nats, lost, present, study, with_head

from analysis.study import ninety, share
from analysis.study.figures import FIGURES, claims
from analysis.study.page import tables
from analysis.study.share import Enough, Scores, best_of_lora, column, enough, scores, table
from lorax_lab.study.protocol import Arm, Cell

TASK = "reviews"
HEADS = {TASK: {"metric": "accuracy", "metrics": {"test/accuracy": 0.6}}}


def paired(kept: float, higher: bool) -> tuple[Scores, np.ndarray]:
    """Scores of full fine-tuning and of the head, and of an arm that keeps the share; with noise."""
    seeds, examples = 5, 400
    draw, sign = np.random.default_rng(0), 1 if higher else -1
    common = draw.normal(0, 0.1, examples)
    head, full, arm = (
        sign * (mean + common + draw.normal(0, 0.05, (seeds, examples))) for mean in (0.5, 0.9, 0.5 + 0.4 * kept)
    )
    return Scores(full, head, share.HEAD, {("rank", 8): arm}, higher), arm


@pytest.mark.parametrize("kept", [0.3, 0.8, 1.1])
def test_the_ends_of_a_share_are_where_the_contrast_is_not_excluded(kept: float, higher: bool) -> None:
    of_task, arm = paired(kept, higher)
    mean, low, high = of_task.share_of(arm)
    assert low < kept < high
    assert low < mean < high
    assert of_task.contrast(arm, low).low == pytest.approx(0, abs=1e-9)
    assert of_task.contrast(arm, high).high == pytest.approx(0, abs=1e-9)
    assert (of_task.contrast(arm, 0.8).low > 0) == (low > 0.8)
    assert of_task.brings.low > 0


def test_the_smallest_size_is_one_from_which_on_every_size_passes() -> None:
    rows = pd.DataFrame(
        {"size": [8, 1, 2, 4], column(0.9): [True, True, False, True], "share": [0.89, 0.9, 0.91, 0.95]}
    )
    assert enough(rows.assign(share_high=1.0), 0.9) == share.Enough(low=1, mean=None, surely=4)


@pytest.mark.parametrize(
    ("highs", "low"), [([0.8, 0.91, 0.8, 1.0], 2), ([0.8, 0.8, 0.89, 1.0], 8), ([0.8] * 4, None), ([np.nan] * 4, 1)]
)
def test_the_interval_begins_at_the_first_size_that_does_not_surely_fall_short(
    highs: list[float], low: int | None
) -> None:
    """A larger size that surely falls short does not move it: the more are tried, the more do so by chance."""
    rows = pd.DataFrame({"size": [1, 2, 4, 8], column(0.9): False, "share": 0.8, "share_high": highs})
    assert enough(rows, 0.9) == share.Enough(low, None, None)


def test_d90_follows_the_rule_of_r90_with_the_papers_own_beside() -> None:
    """Full fine-tuning .9 and the head .6: d keeps 90 % of the gain from .87 on, and 90 % of the score from .81 on."""
    means = {100: 0.65, 1000: 0.82, 10_000: 0.84, 100_000: 0.895}
    subspaces = tuple(Arm(f"d={d}", ("method=subspace", f"method.dimension={d}"), 1e-2) for d in means)
    protocol = replace(PROTOCOL, arms=(*PROTOCOL.arms, *subspaces))

    def truth(cell: Cell) -> float:
        return means[int(cell.arm[2:])] if cell.arm.startswith("d=") else 0.9

    records = replace(study(truth, protocol=protocol), heads=HEADS)
    rows = table(records)
    of_d = rows[rows["side"] == "dimension"]
    assert list(of_d["size"]) == list(means)
    assert enough(of_d, 0.9) == share.Enough(low=100_000, mean=100_000, surely=100_000)
    assert share.enough_of_full(of_d, 0.9) == 1000
    assert share.enough_of_full(of_d.assign(full=0.5, zero=0.9), 0.9) is None  # lower is better
    (row,) = tables(records)["shares"].query("side == 'dimension' and share == 0.9").to_dict("records")
    assert (row["surely"], row["of_full"]) == (100_000, 1000)


def test_a_converged_head_comes_before_an_arm_and_an_arm_before_the_untrained_model() -> None:
    records = with_head(0.7)
    of_arm = scores(records, TASK)
    assert of_arm.zero_is == "head"
    assert of_arm.zero.mean() == pytest.approx(0.7, abs=1e-3)
    of_head = scores(replace(records, heads=HEADS), TASK)
    assert (of_head.zero_is, float(of_head.zero.mean())) == (share.HEAD, 0.6)


def test_there_is_no_share_of_what_is_not_surely_brought(higher: bool) -> None:
    assert table(directed(study(), higher)) is None  # nothing stands for the 0
    assert scores(directed(with_head(0.8), higher), TASK) is None
    assert scores(directed(with_head(0.7), higher), TASK) is not None
    better = replace(study(), heads={TASK: {"metric": "accuracy", "metrics": {"test/accuracy": 0.9}}})
    assert scores(directed(better, higher), TASK) is None


@pytest.mark.parametrize(("rank", "r90"), [(1, Enough(8, 8, 8)), (8, Enough(1, 64, 64)), (64, Enough(1, None, None))])
def test_a_rank_of_which_a_run_diverged_does_not_keep_the_share_and_is_named(
    rank: int, r90: Enough, higher: bool
) -> None:
    """Every rank keeps all of the gain, so that without the diverged run r90 is 1."""
    protocol = replace(PROTOCOL, arms=(*PROTOCOL.arms, Arm("LoRA r=64", ("method=lora", "rank=64"), 1e-3)))
    whole = replace(study(lambda cell: 0.9, protocol), heads=HEADS)
    assert enough(table(directed(whole, higher)), 0.9) == Enough(1, 1, 1)
    rows = table(lost(directed(whole, higher), rank=rank))
    assert enough(rows, 0.9) == r90
    shown = lost(directed(present(whole), higher), rank=rank)
    (row,) = ninety.rows(shown)
    assert (row["r90"], row["lost"]) == (r90, [f"rank {rank}"])
    assert "nan" not in claims.answer(rows)
    FIGURES["answer"].draw(FIGURES["answer"].table(shown))


@pytest.mark.parametrize(
    ("trials", "chosen"),
    [({1: 0.7, 8: 0.86}, "LoRA r=8"), ({1: 0.95, 8: 0.9}, "LoRA r=1"), ({1: 0.9, 8: 0.9, 64: 0.95}, "full")],
)
def test_the_better_arm_is_chosen_by_its_trials_and_has_to_win_on_test(
    trials: dict[int, float], chosen: str, higher: bool
) -> None:
    """On test rank 1 is the best, then rank 8; rank 64 is better than full fine-tuning in three seeds of five. On
    validation the final runs say the opposite of the trials."""
    means = {"full": 0.8, "LoRA r=1": 0.9, "LoRA r=8": 0.85, "LoRA r=64": 0.8}
    arm = Arm("LoRA r=64", ("method=lora", "rank=64"), 1e-3)
    protocol = replace(PROTOCOL, arms=(*PROTOCOL.arms, arm), better_reference=True)

    def change(line: dict[str, Any]) -> dict[str, Any]:
        score = trials.get(line["rank"], 0.8)
        score = 1.6 - score if "test/accuracy" in line["metrics"] else score
        return line | {"metrics": line["metrics"] | {"validation/accuracy": score}}

    def truth(cell: Cell) -> float:
        return means[cell.arm] + 0.01 * (-1) ** cell.seed * (cell.arm == arm.name)

    records = directed(changed(study(truth, protocol), change), higher)
    assert (share.better_arm(records, TASK) or "full") == chosen


def test_where_log_loss_chooses_the_rates_it_chooses_the_better_arm() -> None:
    """On test rank 1 is the best; rank 8 has the lowest loss."""
    means, losses = {"full": 0.8, "LoRA r=1": 0.9, "LoRA r=8": 0.85}, {1: 0.5, 8: 0.4}

    def change(line: dict[str, Any]) -> dict[str, Any]:
        return line | {"metrics": line["metrics"] | {"validation/log_loss": losses.get(line["rank"], 0.7)}}

    records = changed(study(lambda cell: means[cell.arm]), change)
    by_loss = replace(records.protocol, better_reference=True, chosen_by_loss="log_loss")
    assert share.better_arm(replace(records, declared=replace(records.declared, protocol=by_loss)), TASK) == "LoRA r=8"


def test_cuts_have_shares_where_they_were_scored_on_test() -> None:
    records = present(study())
    examples = len(next(line["correct"] for line in records.lines if "correct" in line))
    rows = table(replace(records, heads={TASK: HEADS[TASK] | {"correct": np.arange(examples) < 0.6 * examples}}))
    by_k = rows[rows["side"] == "k"].set_index("size")["share"]
    assert by_k[4] == pytest.approx(1)
    assert by_k[1] < 0.5


def test_a_language_models_0_is_the_model_before_training() -> None:
    records = in_nats(study())
    lines = [line | {"baselines": {"untrained/nats": 3.0}} for line in records.lines]
    of_task = scores(replace(records, lines=lines), TASK)
    assert (of_task.zero_is, of_task.examples) == (share.BEFORE, 1)
    assert of_task.share_of(of_task.full)[0] == 1
    examples = next(len(line["pseudo_values"]) for line in lines if "pseudo_values" in line)
    each = {"functional_pseudo_values": {("untrained", 0): np.linspace(2, 4, examples)}}
    by_example = scores(replace(records, lines=[line | each for line in lines]), TASK)
    assert by_example.examples == examples
    assert by_example.zero.mean() == pytest.approx(3.0)
    assert by_example.brings.mean == pytest.approx(of_task.brings.mean)
    groups = {"groups": np.arange(examples, dtype=np.int32) // 3}
    by_group = scores(replace(records, lines=[line | each | groups for line in lines]), TASK)
    assert by_group.examples == by_group.zero.shape[1] == math.ceil(examples / 3)
    assert by_group.brings.mean == pytest.approx(by_example.brings.mean)


def test_a_head_and_cuts_are_read_by_group_where_the_runs_are() -> None:
    records = present(study())
    lines = [line for line in records.lines if "correct" in line]
    groups = {"groups": np.arange(len(lines[0]["correct"]), dtype=np.int32) // 2}
    head = {TASK: lines[0] | {"metrics": {"test/accuracy": 0.6}, "correct": np.arange(len(groups["groups"])) % 5 < 3}}
    by_group = scores(replace(records, lines=[line | groups for line in records.lines], heads=head), TASK)
    by_example = scores(replace(records, heads=head), TASK)
    assert by_group.examples == math.ceil(by_example.examples / 2)
    assert by_group.arms.keys() == by_example.arms.keys() >= {("k", 4), ("rank", 8)}


def test_the_best_rank_of_lora_is_the_one_of_the_best_scores(higher: bool) -> None:
    of_task, arm = paired(0.8, higher)
    worse = arm - 0.1 if higher else arm + 0.1
    both = replace(of_task, arms={("rank", 1): worse, ("rank", 8): arm, ("k", 8): arm + (arm - worse)})
    assert best_of_lora(both) == of_task.share_of(arm)[0]
    assert best_of_lora(replace(of_task, arms={("k", 8): arm})) is None


def test_a_pool_has_the_mean_of_its_tasks_and_their_widths_and_counts_a_second_sample_once(higher: bool) -> None:
    """The second task has a seed less, and another difference."""
    tasks = ("reviews", "tweets", "reviews (sample 2)")
    worse = {"reviews": 0.01, "tweets": 0.03, tasks[2]: 0.2}

    def truth(cell: Cell) -> float:
        return 0.8 - (worse[cell.condition] + 0.01 * (-1) ** cell.seed) * (cell.arm == "LoRA r=8")

    made = study(truth, tasks=tasks)
    lines = [line for line in made.lines if (line["config"]["task"]["name"], line["seed"]) != ("tweets", 4)]
    records = directed(replace(made, lines=lines, heads=dict.fromkeys(tasks, HEADS[TASK])), higher)
    of_tasks = [scores(records, task, of_full=True) for task in tasks[:2]]
    first, second = (each.contrast(each.arms["rank", 8], 1.0) for each in of_tasks)
    pooled = share.pooled_deficits(records)[8]
    assert (pooled.mean, pooled.count) == (pytest.approx(-0.02, abs=4e-3), 4)
    half = math.hypot(first.mean - first.low, second.mean - second.low) / 2
    assert half > 1e-3
    assert (pooled.low, pooled.high) == pytest.approx((pooled.mean - half, pooled.mean + half))
