"""How long the runs that are left will take: by runs like them, else by all."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded import run_record

from lorax_lab.launch.compose import compose
from lorax_lab.launch.durations import Durations, in_words, like_of, recorded
from lorax_lab.launch.plan import Run
from lorax_lab.record import record
from lorax_lab.record.result import Time


def planned(*words: str) -> Run:
    return Run(compose(list(words)), "a-run")


def test_a_run_takes_as_long_as_those_like_it() -> None:
    known, lora, full = Durations(), planned("rank=2"), planned("method=full")
    assert known.of(lora) is None
    assert known.left([lora]) is None
    for seconds in (10.0, 20.0):
        known.add(like_of(lora), seconds)
    known.add(like_of(full), 60.0)
    assert known.of(lora) == known.of(planned("rank=8", "seed=3")) == 15
    assert known.of(full) == 60
    assert known.left([lora, full, lora]) == 90
    assert known.left([]) == 0


def test_a_run_like_none_counts_as_the_mean_of_all() -> None:
    known = Durations()
    for seconds in (10.0, 20.0):
        known.add(like_of(planned("rank=2")), seconds)
    known.add(like_of(planned("method=full")), 60.0)
    other = planned("rank=2", "model=another/model")
    assert known.of(other) is None
    assert known.left([other]) == pytest.approx(30)
    assert known.left([other, planned("method=full")]) == pytest.approx(90)


def test_runs_are_alike_by_method_model_task_and_measure() -> None:
    base = like_of(planned("rank=2"))
    for word in ("method=full", "model=another/model", "task=tweets", "measure=trial"):
        assert like_of(planned(word)) != base, word
    for word in ("seed=9", "rank=64", "train.learning_rate=3e-5"):
        assert like_of(planned(word)) == base, word


def test_the_completed_runs_of_a_store_are_known(tmp_path: Path) -> None:
    times = {name: Time(0.5, 6, 96, 960, 0.0, seconds) for name, seconds in (("a", 10.0), ("b", 30.0))}
    for name, time in times.items():
        record.write_record(tmp_path / name, run_record(name, time=time))
    record.write_record(tmp_path / "c", run_record("c", status="failed", reason="why"))
    known = recorded(tmp_path)
    config = {"model": "tiny", "task": {"name": "local"}}  # of a record that is older than `measure`
    record.write_record(tmp_path / "d", run_record("d", config=config, time=Time(0.5, 6, 96, 960, 0.0, 80.0)))
    assert known._seconds == {("lora", "tiny", "local", "standard"): [10.0, 30.0]}
    assert recorded(tmp_path)._seconds == {("lora", "tiny", "local", "standard"): [10.0, 30.0, 80.0]}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (7200, "2.0 h")],
)
def test_seconds_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
