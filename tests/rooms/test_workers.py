"""Runs side by side: who starts what when, how an end is known, how many have room. The workers here only pretend."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded import run_record

from lorax_lab.errors import ConfigError
from lorax_lab.launch import room, workers
from lorax_lab.launch.attempts import COMPARED, Attempt
from lorax_lab.launch.compose import compose
from lorax_lab.launch.plan import Run
from lorax_lab.launch.workers import Workers
from lorax_lab.record import record

PRETENDS = """
import json, os, signal, sys, time
from multiprocessing.connection import Connection

pipe = Connection(int(sys.argv[sys.argv.index("--tell") + 1]), readable=False)
tell = lambda **message: pipe.send_bytes(json.dumps(message).encode())
signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
for line in sys.stdin:
    spec = json.loads(line)
    run, how = spec["run"], spec["how"]
    with open(os.environ["NOTES"], "a+") as notes:
        notes.seek(0)
        was_tried = f'"run": "{run["run_id"]}"' in notes.read()
        print(json.dumps({"pid": os.getpid(), "run": run["run_id"], "reference": run["reference"],
                          "later": how["later"], "threads": os.environ.get("OMP_NUM_THREADS")}), file=notes)
    tell(say=f"[..] {run['run_id']}", style="bold")
    tell(bar="training", done=1, total=2, more="loss 0.1")
    action, _, seconds = ACTIONS.get(run["run_id"], "").partition(" ")
    time.sleep(float(seconds or 0))
    if action == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    tell(status=action or ("compared" if was_tried else "completed"))
"""


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Let workers that pretend try runs; gives what they noted. Actions: by run id, a status or `die`, and seconds."""

    def train(runs: list[Run], count: int, actions: dict[str, str], heard: list[tuple[str, str]]) -> list[Any]:
        program, notes = tmp_path / "pretends.py", tmp_path / "notes"
        program.write_text(f"ACTIONS = {actions!r}\n{PRETENDS}")
        monkeypatch.setattr(workers, "command", lambda: [sys.executable, str(program)])
        monkeypatch.setenv("NOTES", str(notes))
        shares = [{"OMP_NUM_THREADS": str(number + 1)} for number in range(count)]
        how = lambda run: Attempt(run.run_id, "group", "launch")  # noqa: E731
        Workers(shares, how, lambda run, status: heard.append((run.run_id, status))).train(runs)
        return [json.loads(line) for line in notes.read_text().splitlines()]

    return train


def planned(folder: Path, name: str, reference: str | None = None, *words: str) -> Run:
    config = compose([f"runs_dir={folder}", "rank=2", "tracking=disabled", *words])
    return Run(config, name, reference)


def test_each_run_is_tried_once_by_processes_that_stay(tmp_path: Path, pretend: Any) -> None:
    heard: list[tuple[str, str]] = []
    notes = pretend([planned(tmp_path, str(number)) for number in range(7)], 2, {}, heard)
    assert sorted(heard) == [(str(number), "completed") for number in range(7)]
    assert len({note["pid"] for note in notes}) == 2
    assert {note["threads"] for note in notes} == {"1", "2"}


def test_isolated_runs_have_a_process_each(tmp_path: Path, pretend: Any) -> None:
    heard: list[tuple[str, str]] = []
    notes = pretend([planned(tmp_path, str(n), None, "isolate=true") for n in range(4)], 2, {}, heard)
    assert sorted(heard) == [(str(number), "completed") for number in range(4)]
    assert len({note["pid"] for note in notes}) == 4


def test_runs_begin_beside_their_reference_and_are_compared_when_it_is_there(tmp_path: Path, pretend: Any) -> None:
    runs = [planned(tmp_path, name, "full") for name in ("a", "b")] + [planned(tmp_path, "full")]
    heard: list[tuple[str, str]] = []
    notes = pretend(runs, 2, {"full": "completed 1"}, heard)
    begun = {note["run"]: note for note in reversed(notes)}
    assert "full" in [note["run"] for note in notes[:3]]
    assert begun["a"] == begun["a"] | {"reference": None, "later": True}
    assert heard[:3] == [("a", "completed"), ("b", "completed"), ("full", "completed")]
    assert sorted(heard[3:]) == [("a", COMPARED), ("b", COMPARED)]
    assert {(note["reference"], note["later"]) for note in notes[3:]} == {("full", False)}


def test_a_run_that_failed_before_its_reference_was_there_is_not_tried_again(tmp_path: Path, pretend: Any) -> None:
    runs = [planned(tmp_path, "full"), planned(tmp_path, "a", "full")]
    heard: list[tuple[str, str]] = []
    pretend(runs, 2, {"full": "completed 1", "a": "diverged"}, heard)
    assert heard == [("a", "diverged"), ("full", "completed")]


def test_a_run_that_begins_after_its_reference_is_compared_at_once(tmp_path: Path, pretend: Any) -> None:
    runs = [planned(tmp_path, "full"), planned(tmp_path, "other"), planned(tmp_path, "a", "full")]
    heard: list[tuple[str, str]] = []
    notes = pretend(runs, 2, {"other": "completed 1"}, heard)
    assert [(note["reference"], note["later"]) for note in notes if note["run"] == "a"] == [("full", False)]
    assert heard == [("full", "completed"), ("a", "completed"), ("other", "completed")]


def test_a_process_that_dies_hurts_its_run_alone(tmp_path: Path, pretend: Any) -> None:
    heard: list[tuple[str, str]] = []
    pretend([planned(tmp_path, str(number)) for number in range(5)], 2, {"1": "die"}, heard)
    assert dict(heard) == {str(number): "completed" for number in (0, 2, 3, 4)} | {"1": "killed"}
    end = record.read_record(tmp_path / "1")
    assert (end.status, end.reason) == (
        "killed",
        "its process was ended by SIGKILL: by a person, or because memory ran out",
    )


def test_a_run_that_was_completed_before_its_process_died_is_completed(tmp_path: Path, pretend: Any) -> None:
    run = planned(tmp_path, "1")
    record.write_record(run.folder, run_record("1"))
    heard: list[tuple[str, str]] = []
    pretend([run], 1, {"1": "die"}, heard)
    assert heard == [("1", "completed")]
    assert record.status_of(run.folder) == "completed"


def test_a_time_limit_ends_one_run(tmp_path: Path, pretend: Any) -> None:
    limit = ("isolate=true", "time_limit_seconds=1.5")
    heard: list[tuple[str, str]] = []
    runs = [planned(tmp_path, str(number), None, *limit) for number in range(3)]
    pretend(runs, 2, {"1": "completed 60"}, heard)
    assert dict(heard) == {"0": "completed", "1": "failed", "2": "completed"}
    assert record.read_record(tmp_path / "1").reason == "it did not end within time_limit_seconds=1.5"


def test_an_interrupted_sweep_leaves_no_process(tmp_path: Path, pretend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    runs, notes = [planned(tmp_path, str(number)) for number in range(4)], tmp_path / "notes"
    with pytest.raises(KeyboardInterrupt):
        pretend(runs, 2, dict.fromkeys("0123", "completed 60"), [])
    begun = [json.loads(line) for line in notes.read_text().splitlines()]
    assert len(begun) == 2
    assert not any(Path(f"/proc/{note['pid']}").exists() for note in begun)


def test_where_no_process_can_be_started_the_runs_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workers, "command", lambda: ["/no/such/program"])
    heard: list[Any] = []
    Workers([{}, {}], lambda run: Attempt("", "", ""), lambda *ended: heard.append(ended)).train(
        [planned(tmp_path, "a")]
    )
    assert heard == []
    assert "a worker could not be started: " in capsys.readouterr().out


# ---- how many have room

SIZES = {("m", "t"): 64}
GIB = 2**30


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, str]]]:
    """The shares of a sweep on a machine with so many cores and so much memory, where each run takes 2 GiB."""

    def shares(
        *words: str, cores: int, runs: int, of: int = 0, free: float = 1000, gpus: int = 0, launcher: Any = ()
    ) -> Any:
        monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.setattr(room, "needed", lambda run, sizes: 2 * GIB)
        monkeypatch.setattr(room, "free_bytes", lambda: round(free * GIB))
        left = [planned(Path("/tmp"), str(number), None, *words) for number in range(runs)]
        return [dict(share) for share in room.shares(left, of or runs, SIZES, launcher)]

    return shares


def threads(count: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}


def test_as_many_runs_as_cores_have_room_with_a_thread_each(machine: Any) -> None:
    assert machine(cores=2, runs=12) == [threads(1)] * 2
    assert machine(cores=16, runs=40) == [threads(1)] * 16


def test_cores_that_no_run_needs_are_shared_out(machine: Any) -> None:
    assert machine(cores=16, runs=4) == [threads(4)] * 4
    assert machine(cores=16, runs=5) == [threads(3)] * 5
    assert machine("workers=2", cores=16, runs=9) == [threads(8)] * 2


@pytest.mark.parametrize(("words", "cores", "runs"), [((), 1, 9), ((), 8, 1), (("workers=1",), 8, 9), ((), 8, 0)])
def test_one_run_at_a_time_has_the_whole_machine(machine: Any, words: Any, cores: int, runs: int) -> None:
    assert machine(*words, cores=cores, runs=runs) == [{}]


def test_the_last_run_of_a_sweep_has_as_many_threads_as_the_others(machine: Any) -> None:
    """So that it goes on from its checkpoint to the same bits, and a study's runs are alike."""
    assert machine(cores=2, runs=1, of=4) == [threads(1)]
    assert machine(cores=16, runs=1, of=4) == [threads(4)]
    assert machine("workers=2", cores=2, runs=1) == [threads(1)]


def test_what_is_said_of_the_workers() -> None:
    assert room.in_words([{}]) == []
    assert room.in_words([threads(1)] * 2)[0].startswith("2 runs side by side, with 1 thread each (workers=1:")
    assert room.in_words([threads(4)])[0].startswith("one run at a time, with 4 threads (workers=1:")
    assert room.in_words([{"CUDA_VISIBLE_DEVICES": "0"}] * 2)[0].startswith("2 runs side by side, with a GPU each")


def test_the_sum_of_what_runs_take_is_below_what_is_free(machine: Any) -> None:
    assert machine(cores=8, runs=12, free=7) == [threads(2)] * 3  # 3 · 2 ≤ .9 · 7 < 4 · 2
    assert machine(cores=8, runs=12, free=3) == [{}]
    with pytest.raises(ConfigError, match=r"workers=4 is not possible: each takes about 2\.0 GiB, and 6\.3 GiB are .*"):
        machine("workers=4", cores=8, runs=12, free=7)
    with pytest.raises(ConfigError, match=r"type workers=3, or workers=auto"):
        machine("workers=4", cores=8, runs=12, free=7)


def test_each_gpu_has_one_run(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine(cores=8, runs=9, gpus=2) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    assert machine(cores=8, runs=9, gpus=1) == [{}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6")
    assert machine(cores=8, runs=2, gpus=3) == [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "5"}]
    assert machine("train.device=cpu", cores=8, runs=8, gpus=3) == [threads(1)] * 8, "these leave the GPUs alone"
    with pytest.raises(ConfigError, match=r"workers=4 is not possible: each takes a GPU, and there are 3; type work.*"):
        machine("workers=4", cores=8, runs=9, gpus=3)


def test_a_launcher_of_hydras_is_not_multiplied(machine: Any) -> None:
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=4"]
    assert machine(cores=8, runs=9, launcher=launcher) == [{}]
    with pytest.raises(ConfigError, match="workers=2 with hydra/launcher=joblib is not possible"):
        machine("workers=2", cores=8, runs=9, launcher=launcher)


@pytest.mark.parametrize("value", ["0", "-1", "2.5", "true", "many", "null", "1025", "[2]"])
def test_a_number_of_workers_that_cannot_be_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"workers=.*workers=auto|workers"):
        compose([f"workers={value}"])
    time.sleep(0)


def test_a_run_needs_more_when_its_update_is_measured_in_full() -> None:
    from lorax_lab.launch.plan import plan

    full, lora = plan(["rank=2", "runs_dir=/tmp/none"], multirun=False)
    sizes = {(full.config.model, repr(full.config.task)): 64}
    assert 1.5 * GIB > room.needed(full, sizes) > room.needed(lora, sizes) > room.LIBRARIES + 87 * 2**20
