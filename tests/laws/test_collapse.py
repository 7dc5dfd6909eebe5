"""Runs that end worse than they began, or no better than one answer for every input: flagged everywhere, never lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Lab
from test_analysis import Store, group_of
from test_table import printed, row

from analysis.figures import FIGURES
from analysis.scores import seed_means, spread_of_seeds
from analysis.variants import COLLAPSED
from lorax_lab.record import read_record
from lorax_lab.record.record import scan
from lorax_lab.study.published import line_of
from lorax_lab.tasks import KINDS
from lorax_lab.tasks.collapse import best_constant, risen, signs
from lorax_lab.tasks.kind import Metric
from lorax_lab.windows import contents

LABELS: dict[str, np.ndarray] = {
    "classes": np.array([0, 1, 1, 1, 0, 1]),
    "numbers": np.array([0.5, -1.0, 2.0, 0.0, 1.0, 3.0]),
    "texts": np.array(["yes", "no", "yes", "yes ", "no", "maybe"]),
}


class Scored:
    """A split of a kind, and nothing more of a task than a score needs."""

    def __init__(self, kind: str, metric: str) -> None:
        self.task, self.kind, self.config = self, KINDS[kind], KINDS[kind].config
        self.metric, self.classes = metric, ("no", "yes") if self.config.labels == "classes" else ()
        self.labels = LABELS[self.config.labels]
        self.higher_is_better = self.kind.metrics[metric].higher_is_better


EVERY = [(kind, metric) for kind in KINDS for metric in KINDS[kind].metrics]
STILL = [0.7] * 3


@pytest.mark.parametrize(("kind", "metric"), EVERY)
def test_a_right_model_is_never_flagged_and_a_constant_or_worse_one_is(kind: str, metric: str) -> None:
    split: Any = Scored(kind, metric)
    of: Metric = split.kind.metrics[metric]
    constant = best_constant(split, split.labels)
    assert not signs(split, "test", STILL, of.best, None, {})
    if constant is None:
        assert metric == "nats"
    else:
        assert signs(split, "test", STILL, constant, None, {})
        step = 1e-6 * (1 if of.higher_is_better else -1)
        assert not signs(split, "test", STILL, constant + step, None, {})
    between = 0.5 * (of.best + (constant if constant is not None else 2.0))
    worse = between - 0.01 * (1 if of.higher_is_better else -1)
    before = {f"untrained/{metric}": between}
    assert not signs(split, "test", STILL, between, None, before)
    assert "before training" in signs(split, "test", STILL, worse, None, before)[0]


def test_the_score_of_one_answer_is_worked_out_by_hand() -> None:
    expected = {
        ("classification", "accuracy"): 4 / 6,
        ("classification", "f1"): 2 * 4 / (2 * 4 + 2),
        ("classification", "matthews"): 0.0,
        ("regression", "pearson"): 0.0,
        ("language_modeling", "exact_match"): 3 / 6,
        ("speech_recognition", "word_error_rate"): 1.0,
    }
    for (kind, metric), score in expected.items():
        split: Any = Scored(kind, metric)
        assert best_constant(split, split.labels) == pytest.approx(score)


def test_a_loss_that_learns_nothing_is_rarely_taken_for_one_that_rose() -> None:
    draw = np.random.default_rng(0)
    losses = 0.69 * np.exp(0.1 * draw.standard_normal((2000, 94)))
    assert sum(risen(row.tolist()) is not None for row in losses) <= 8  # 2 are expected
    assert sum(risen((row * np.linspace(1, 5, 94)).tolist()) is not None for row in losses[:200]) == 200
    assert not any(risen((row * np.linspace(1, 0.3, 94)).tolist()) for row in losses[:200])


@pytest.mark.parametrize("losses", [[], [0.7], [0.7, 9.0], [0.0] * 9, [0.5] * 9, [0.5, *[0.5 + 1e-9] * 9]])
def test_few_equal_or_zero_losses_tell_nothing(losses: list[float]) -> None:
    assert risen(losses) is None


@pytest.fixture(scope="module")
def runs(model_folder: Path, table_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run at a rate of 10 and one that learns, by the command line, and what was printed."""
    from conftest import launched

    folder = tmp_path_factory.mktemp("collapse") / "runs"
    words = [f"model={model_folder}", "task=local", f"task.path={table_file}", "task.text=sentence", "task.label=label"]
    words += ["task.validation_examples=64", "task.test_examples=64", "train.device=cpu", "tracking=disabled"]
    words += [f"runs_dir={folder}", "reference=false", "train.epochs=4", "rank=4"]
    result = launched(*words, "train.learning_rate=10,5e-3", "-m")
    assert result.returncode == 0
    return folder, result.stdout


def test_a_rate_of_ten_is_flagged_in_record_table_line_and_w_and_b(runs: tuple[Path, str]) -> None:
    folder, output = runs
    records = {r.config["train"]["learning_rate"]: r for r in scan(folder)[0].values()}
    bad, good = records[10.0], records[0.005]
    assert (bad.status, bool(bad.completed.collapsed), good.completed.collapsed) == ("completed", True, [])
    assert any(reason.endswith("which is what the model does") for reason in bad.completed.collapsed)
    assert "· collapsed" in output
    assert [line.count("collapsed") for line in output.splitlines() if line.startswith("│")] == [1, 0]
    assert f"learning rate 10, seed 0, collapsed: {bad.completed.collapsed[0]}" in " ".join(output.split())
    assert line_of(folder / bad.run_id)["collapsed"] == bad.completed.collapsed
    assert "collapsed" not in line_of(folder / good.run_id)
    assert contents.end_tags(bad) == ["collapsed"]
    assert contents.end_tags(good) == []
    assert [contents.summary(record)["collapsed"] for record in (bad, good)] == [True, False]


def test_a_trial_is_flagged_by_its_validation_score(small_run: list[str], lab_here: Lab) -> None:
    words = [*small_run, "measure=trial", "train.learning_rate=10", "rank=2"]
    assert lab_here(*words).returncode == 0
    (record,) = scan(Path(small_run[-1].removeprefix("runs_dir=")))[0].values()
    assert any(reason.startswith("validation accuracy") for reason in record.completed.collapsed)


def test_an_older_record_is_not_flagged(tmp_path: Path) -> None:
    folder = Store(tmp_path / "runs").run(rank=4)
    content = json.loads((folder / "record.json").read_text())
    assert content["result"].pop("collapsed") == []
    from lorax_lab.record.record import _checksum, _text

    content.pop("sha256")
    content["sha256"] = _checksum(content)
    (folder / "record.json").write_text(_text(content))
    assert read_record(folder).completed.collapsed == []


def test_the_closing_table_says_why() -> None:
    lines = printed([row(), row("rank=4", collapsed=["the loss rose", "no better than one answer"])])
    assert [line.split()[-2] for line in lines if line.startswith("│")] == ["completed", "collapsed"]
    assert lines[-1] == "method lora, rank 4, seed 0, collapsed: the loss rose; no better than one answer"


@pytest.mark.parametrize("name", FIGURES)
def test_figures_mark_collapsed_runs_and_leave_none_out(name: str, tmp_path: Path) -> None:
    plain, flagged = (Store(tmp_path / name, size=8, layers=1) for name in ("plain", "flagged"))
    for store in (plain, flagged):
        for seed in (0, 1, 2):
            store.run(seed=seed)
            for rank in (2, 4):
                bad = store is flagged and (rank, seed) == (4, 1)
                store.run(rank=rank, seed=seed, test=0.5 if seed == 1 else 0.8, collapsed=["why"] if bad else [])
    before, after = (FIGURES[name].table(group_of(store)) for store in (plain, flagged))
    assert COLLAPSED not in before
    pd.testing.assert_frame_equal(before, after.drop(columns=COLLAPSED))
    of_one_seed = name == "singular_values"  # it shows seed 0
    assert "collapsed" not in FIGURES[name].draw(before).get_suptitle()
    figure = FIGURES[name].draw(after)
    assert ("1 of 9 runs collapsed" in figure.get_suptitle()) != of_one_seed
    if name in ("accuracy_vs_rank", "accuracy_vs_parameters", "functional_rank"):
        crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
        assert [len(line.get_xdata()) for line in crosses] == [1]


def test_the_cuts_of_a_collapsed_full_fine_tune_answer_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    store.run(collapsed=["why"])
    store.run(rank=4)
    assert "so its cuts say nothing" in FIGURES["functional_rank"].finding(
        FIGURES["functional_rank"].table(group_of(store))
    )


@pytest.mark.parametrize("seeds", [1, 2, 3, 5, 7])
def test_the_bars_of_seeds_are_never_negative(seeds: int) -> None:
    values = [n / 1000 for n in range(1001)]
    scores, level = pd.Series(values * seeds), pd.Series(list(range(1001)) * seeds)
    low, high = spread_of_seeds(scores, level)
    assert set(low) == set(high) == {0.0}
    assert seed_means(scores, level).tolist() == values
    rounded = int((scores.groupby(level).mean() != pd.Series(values)).sum())
    assert (rounded > 50) == (seeds in (3, 5, 7))  # means that lie outside of their scores where nothing holds them


BARS = ("functional_rank", "accuracy_vs_rank", "accuracy_vs_parameters")
"""The figures with bars over seeds."""


@pytest.mark.parametrize(("score", "seeds"), [(0.0, 3), (1.0, 3), (0.7, 3), (0.484375, 1)])
def test_seeds_of_equal_scores_are_drawn(score: float, seeds: int, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs", size=8, layers=1)
    for seed in range(seeds):
        store.run(seed=seed, test=score, cuts={0: score, 1: score, 8: score})
        store.run(rank=2, seed=seed, test=score)
    for name in BARS:
        FIGURES[name].draw(FIGURES[name].table(group_of(store))).canvas.draw()
