"""One attempt at a run: who trains it, what is recorded of its end, in this process or in one of its own."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recorded import run_record

from lorax_lab import windows
from lorax_lab.errors import Diverged
from lorax_lab.launch import attempts, isolation, leases
from lorax_lab.launch.attempts import ELSEWHERE, RECORDED, Attempt, attempt
from lorax_lab.launch.compose import compose
from lorax_lab.launch.plan import Run
from lorax_lab.record import record

HOW = Attempt("[1/1] lora", "sweep-1", "launch-1")


def planned(folder: Path, *words: str) -> Run:
    return Run(compose([f"runs_dir={folder}", "rank=2", "train.device=cpu", "tracking=disabled", *words]), "the-run")


def recorded(run: Run, **changes: Any) -> None:
    record.write_record(run.folder, run_record(run.run_id, **changes))


@pytest.fixture
def trains(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Training is writing a completed record; gives the runs that were trained."""
    trained = []

    def execute(config: Any, run_id: str, place: Path, *_: Any) -> None:
        trained.append(run_id)
        record.write_record(place, run_record(run_id, seed=7))

    monkeypatch.setattr("lorax_lab.execute.execute", execute)
    return trained


def test_a_run_is_trained_once(tmp_path: Path, trains: list[str]) -> None:
    run = planned(tmp_path)
    assert [attempt(run, HOW) for _ in range(2)] == ["completed", RECORDED]
    assert trains == ["the-run"]


def test_a_run_that_another_completed_before_its_lease_was_free_is_not_trained(
    tmp_path: Path, trains: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(tmp_path)
    acquire = leases.acquire

    def late(*where: Any) -> Any:
        recorded(run)
        return acquire(*where)

    monkeypatch.setattr(leases, "acquire", late)
    assert attempt(run, HOW) == RECORDED
    assert not trains


def test_a_forced_run_keeps_its_record_until_the_new_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = planned(tmp_path, "force=true"), []
    recorded(run, seed=1)

    def execute(*_: Any) -> None:
        seen.append(record.read_record(run.folder).status)
        raise Diverged("training loss nan")

    monkeypatch.setattr("lorax_lab.execute.execute", execute)
    again = replace(HOW, repeats=attempts.record_sha256(run))
    assert attempt(run, again) == "diverged"
    assert seen == ["completed"]
    assert record.read_record(run.folder).seed == 1


def test_a_forced_run_takes_the_place_of_the_one_that_it_repeats(tmp_path: Path, trains: list[str]) -> None:
    run = planned(tmp_path, "force=true")
    recorded(run, seed=1)
    again = replace(HOW, repeats=attempts.record_sha256(run))
    assert [attempt(run, how) for how in (HOW, again, again)] == [RECORDED, "completed", RECORDED]
    assert trains == ["the-run"]
    assert record.read_record(run.folder).seed == 7


def test_a_run_that_another_trains_is_left_or_waited_for(
    tmp_path: Path, trains: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, looks = planned(tmp_path), []
    lease = leases.acquire(tmp_path, run.run_id)
    assert isinstance(lease, leases.Lease)
    assert attempt(run, HOW) == ELSEWHERE

    def pause(seconds: float) -> None:
        looks.append(seconds)
        recorded(run)  # by the other

    monkeypatch.setattr(attempts.time, "sleep", pause)
    assert attempt(run, Attempt("", "", "", wait=True)) == RECORDED
    assert looks == [attempts.POLL]
    assert not trains


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Diverged("training loss nan"), "diverged", "training loss nan"),
        (RuntimeError("two\n  lines"), "failed", "RuntimeError: two lines"),
        (SystemExit(7), "failed", "sys.exit(7) was called"),
        (MemoryError("no more"), "oom", "MemoryError: no more"),
    ],
)
def test_the_end_of_a_run_is_recorded_with_its_reason(
    error: BaseException, status: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = planned(tmp_path), []

    def execute(*_: Any) -> None:
        seen.append(record.read_record(run.folder))
        raise error

    monkeypatch.setattr("lorax_lab.execute.execute", execute)
    assert attempt(run, HOW) == status
    assert (seen[0].status, seen[0].launch) == ("running", HOW.launch)
    end = record.read_record(run.folder)
    assert (end.status, end.reason) == (status, reason)
    assert type(error).__name__ in (end.error or "")
    assert leases.holder(tmp_path, run.run_id) is None


def test_an_interrupted_run_is_recorded_as_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lorax_lab.execute.execute", execute)
    run = planned(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        attempt(run, HOW)
    end = record.read_record(run.folder)
    assert (end.status, end.reason) == ("killed", "interrupted")


def test_who_lost_its_lease_records_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = planned(tmp_path)

    def execute(*_: Any) -> None:
        (tmp_path / ".leases" / f"{run.run_id}.json").unlink()
        recorded(run, seed=5)
        raise RuntimeError("a late end")

    monkeypatch.setattr("lorax_lab.execute.execute", execute)
    assert attempt(run, HOW) == ELSEWHERE
    assert record.read_record(run.folder).seed == 5


def test_a_damaged_record_is_set_aside_before_training(tmp_path: Path, trains: list[str]) -> None:
    run = planned(tmp_path)
    recorded(run)
    (run.folder / record.RECORD).write_text("{")
    assert attempt(run, HOW) == "completed"
    assert (tmp_path / "quarantine" / run.run_id / record.RECORD).read_text() == "{"


@pytest.mark.parametrize(
    ("script", "status", "reason"),
    [
        ("exec sleep 15", "failed", "it did not end within time_limit_seconds=0.2"),
        ("exit 0", "failed", "its process ended with status 0 and left no record"),
        ("exit 3", "failed", "its process ended with status 3 and left no record"),
        ("kill -SEGV $$", "failed", "its process was ended by SIGSEGV"),
        ("kill -KILL $$", "killed", "its process was ended by SIGKILL: by a person, or because memory ran out"),
    ],
)
def test_a_process_that_records_nothing_is_known_by_its_end(
    script: str, status: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = ["time_limit_seconds=0.2"] if "sleep" in script else []
    run = planned(tmp_path, "isolate=true", *limit)
    stand_in(tmp_path, script, monkeypatch)
    assert isolation.attempt_apart(run, HOW) == status
    end = record.read_record(run.folder)
    assert (end.status, end.reason) == (status, reason)


@pytest.mark.parametrize("outcome", ["diverged", "failed", "oom", ELSEWHERE, RECORDED])
def test_the_exit_status_of_a_process_says_how_its_attempt_ended(
    outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(tmp_path, "isolate=true")
    stand_in(tmp_path, f"exit {isolation.EXIT[outcome]}", monkeypatch)
    assert isolation.attempt_apart(run, HOW) == outcome
    assert not run.folder.exists()


def test_a_process_of_its_own_is_not_started_for_a_recorded_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(tmp_path, "isolate=true")
    recorded(run)
    monkeypatch.setattr(isolation.sys, "executable", "/no/such/program")
    assert isolation.attempt_apart(run, HOW) == RECORDED


def test_the_end_of_a_process_is_not_recorded_over_another_launchers_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(tmp_path, "isolate=true")
    stand_in(tmp_path, "exit 3", monkeypatch)
    assert isinstance(leases.acquire(tmp_path, run.run_id), leases.Lease)
    assert isolation.attempt_apart(run, HOW) == ELSEWHERE
    assert not run.folder.exists()


def stand_in(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell script in the place of the process that would train."""
    path = folder / "stand-in"
    path.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
    os.chmod(path, 0o755)
    monkeypatch.setattr(isolation.sys, "executable", str(path))


@pytest.mark.parametrize("reason", [None, "it is not complete"])
def test_a_run_is_compared_with_a_reference_that_can_be_used(
    reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, looked, given = replace(planned(tmp_path), reference="the-reference"), [], []
    monkeypatch.setattr(attempts, "why_unusable", lambda folder: looked.append(folder) or reason)
    monkeypatch.setattr("lorax_lab.execute.execute", lambda *words: given.append(words[3]))
    attempt(run, HOW)
    folder = tmp_path / "the-reference"
    assert looked[0] == folder
    assert given == [folder if reason is None else None]


def test_what_cannot_be_shown_is_said_and_trained(
    tmp_path: Path, trains: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no process can be started")

    monkeypatch.setattr(windows, "Windows", full)
    run = planned(tmp_path, "tracking=online")
    assert attempt(run, HOW) == "completed"
    said = " ".join(capsys.readouterr().out.split())
    assert "W&B lacks the-run (no process can be started)" in said
    assert windows.later(tmp_path) in said


def test_a_later_comparison_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, shown = replace(planned(tmp_path, "tracking=online"), reference="the-reference"), []
    recorded(run)
    monkeypatch.setattr(attempts, "is_done", lambda *_: False)
    monkeypatch.setattr(attempts, "why_unusable", lambda folder: None)
    monkeypatch.setattr("lorax_lab.comparison.compare", lambda *_: recorded(run, reference="the-reference"))
    monkeypatch.setattr(windows, "show", lambda *words: shown.append(words[0]))
    assert attempt(run, HOW) == attempts.COMPARED
    assert shown == [run.folder]
