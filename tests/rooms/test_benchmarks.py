"""The benchmarks run: what they measure with is called here on a few examples, since nobody calls it for months."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.network]
FEW = ["task.train_examples=48", "task.validation_examples=16", "task.test_examples=16"]


@pytest.mark.parametrize(("method", "evaluations"), [("full", "one"), ("4", "all")])
def test_the_peer_of_the_sweep_trains_on_the_labs_splits(method: str, evaluations: str, tmp_path: Path) -> None:
    from benchmarks import sweep
    from lorax_lab.launch.compose import compose
    from lorax_lab.models import resolve
    from lorax_lab.tasks import load_task

    data = sweep.write_data(tmp_path, load_task(compose(FEW).task))
    seconds, scores = sweep.peer_run(resolve("minilm"), data, method, evaluations)
    assert seconds > 0
    assert scores["method"] == method
    assert 0 <= scores["test"] <= 1
    assert ("validation" in scores) == (evaluations == "all")
    assert scores["effective_rank"] > (1 if method == "4" else 100)


def test_runs_side_by_side_are_timed() -> None:
    from benchmarks import workers

    result = workers.measure(tuple(FEW))
    ratio = result["rows"][0]["ratio"]
    assert ratio > 0.5, "more work than there is time for"
    assert result["seconds"]["wall"] > 0


def test_the_contenders_of_a_step_train_the_same_parameters() -> None:
    from benchmarks import step

    result = step.measure(rounds=4)
    assert all(row["ratio"] > 0 for row in result["rows"])
