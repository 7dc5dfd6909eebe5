"""A search of settings by Optuna: it follows the metric, and outlives a trial that diverges."""

import re

import pytest
import yaml
from conftest import launched, ran
from here import store_of

from lorax_lab.record import scan

SEARCH = ["hydra/sweeper=search", "hydra.sweeper.n_trials=3", "rank=1,2"]
RATES = "train.learning_rate=tag(log, interval(1e-4, 1e-2))"
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("metric", "best"), [("accuracy", max), ("log_loss", min)])
def test_the_best_of_three_trials_is_named_and_the_same_search_trains_nothing(
    small_run: list[str], metric: str, best: type
) -> None:
    words = [*small_run, *SEARCH, RATES, "measure=trial", f"task.metric={metric}", "task.text='sentence'", "-m"]
    said = ran(*words)
    records = scan(store_of(small_run))[0].values()
    scores = [record.completed.score("validation") for record in records]
    assert len(scores) == 3
    assert f"({best(scores):.3f})" in said
    assert re.search(r"best of 3 trials on validation: rank=[12] train.learning_rate=0\.0\d+ \(", said)
    assert "lora" not in re.sub(r"(?m)^trial .*$|^next: .*$", "", ran(*words))


def test_a_trial_that_diverges_ends_no_search(small_run: list[str]) -> None:
    """At the defaults: each trial has its full fine-tune before it."""
    done = launched(*small_run, *SEARCH, "hydra.sweeper.n_trials=4", "train.learning_rate=1e-3,1e30", "-m")
    statuses = [record.status for record in scan(store_of(small_run))[0].values()]
    assert done.returncode == 1, done.stdout + done.stderr
    assert {"completed", "diverged"} == set(statuses)
    assert re.search(r"best of 4 trials on validation, \d of them failed: .*train.learning_rate=0.001 \(", done.stdout)
    assert "Traceback" not in done.stdout + done.stderr
    none = launched(*small_run, *SEARCH, "train.learning_rate=1e30", "-m")
    assert (none.returncode, "none of 3 trials has a score" in none.stdout) == (1, True)


def test_optunas_own_sweeper_takes_the_score_too(small_run: list[str]) -> None:
    words = ["hydra/sweeper=optuna", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=2", "rank=1,2"]
    ran(*small_run, *words, "hydra.sweeper.n_jobs=1", "measure=trial", "-m")
    scores = [record.completed.score("validation") for record in scan(store_of(small_run))[0].values()]
    found = yaml.safe_load((store_of(small_run) / ".hydra" / "optimization_results.yaml").read_text())
    assert found["best_value"] == max(scores)
