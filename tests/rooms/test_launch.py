"""Leases and attempts: who trains which run, what is recorded of its end, how many have room side by side."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import launched, ran
from here import store_of, without_workers
from recorded import run_record

from lorax_lab.config.identity import plain
from lorax_lab.console import WorkerBars
from lorax_lab.errors import ConfigError, Diverged
from lorax_lab.launch import room
from lorax_lab.launch.compose import compose
from lorax_lab.launch.fastest import precision_of
from lorax_lab.launch.outlook import dry_run_lines
from lorax_lab.launch.plan import run_of, with_reference
from lorax_lab.launch.runs import (
    ELSEWHERE,
    ENDING,
    NO_REFERENCE,
    RECORDED,
    Run,
    attempt,
    clear_checkpoints,
    interrupt_once,
    interrupted,
    record_status,
)
from lorax_lab.launch.sweep import Sweep, carry_out
from lorax_lab.launch.workers import Workers, cause
from lorax_lab.record import load_runs, record
from lorax_lab.record.lease import is_leased, lease
from lorax_lab.record.provenance import hardware
from lorax_lab.record.result import Coverage


def planned(folder: Path, name: str = "the-run", reference: str | None = None, *words: str) -> Run:
    given = [f"runs_dir={folder}", "rank=2", "train.device=cpu", "tracking=disabled", *words]
    return Run(compose(given), name, reference)


def recorded(run: Run, **changes: Any) -> None:
    record.write_record(run.folder, run_record(run.run_id, **changes))


def unseen(*_: Any) -> None:
    """Show nothing."""


class JoblibLauncher:
    """A launcher of Hydra's, of this machine, which has an end of its own."""

    def __init__(self, end: Callable[[list[list[str]]], None]) -> None:
        self.end = end

    def launch(self, jobs: list[list[str]], initial_job_idx: int) -> None:
        self.end(jobs)


class SlurmLauncher(JoblibLauncher):
    """One of another machine."""


def test_a_launcher_gets_each_run_once_references_first_as_it_was_planned_here(small_run: list[str]) -> None:
    words, received = [*small_run, "train.precision=auto", "rank=2", "train.learning_rate=0.001"], []
    carry_out([compose([*words, f"seed={seed}"]) for seed in (0, 1)], JoblibLauncher(received.extend), dry_run=False)
    configs = [compose(job) for job in received]
    assert [(config.method.name, config.seed) for config in configs] == [*product(("full", "lora"), (0, 1))]
    assert {config.train.precision for config in configs} == {precision_of(compose(words).train)}
    planned = [run for seed in (0, 1) for run in with_reference(run_of(compose([*words, f"seed={seed}"])))]
    assert {run_of(config).run_id for config in configs} == {run.run_id for run in planned}


@pytest.mark.parametrize("kind", [JoblibLauncher, SlurmLauncher])
def test_a_launcher_that_starts_no_job_trains_nothing(kind: type, small_run: list[str]) -> None:
    def refuses(jobs: list[list[str]]) -> None:
        raise RuntimeError('Could not detect "srun"')

    with pytest.raises(ConfigError, match=r"hydra/launcher.*srun"):
        carry_out([compose([*small_run, "rank=2"])], kind(refuses), dry_run=False)
    assert record.scan(store_of(small_run)) == ({}, [])


@pytest.mark.parametrize("kind", [JoblibLauncher, SlurmLauncher])
def test_a_worker_that_dies_leaves_the_rest_to_this_process_where_the_launcher_is_of_this_machine(
    kind: type, tiny: list[str]
) -> None:
    words = [*tiny, "rank=2", "train.max_steps=2"]
    config = compose(words)

    def dies(jobs: list[list[str]]) -> None:
        record_status(run_of(compose(jobs[0])), "running")
        raise RuntimeError("a worker was killed")

    with pytest.MonkeyPatch.context() as patch:
        without_workers(patch)
        code = carry_out([config], kind(dies), dry_run=False)
    ends = {found.method: found.status for found in record.scan(store_of(tiny))[0].values()}
    is_here = kind is JoblibLauncher
    assert ends == ({"full": "completed", "lora": "completed"} if is_here else {"full": "running"})
    assert code == (0 if is_here else 1)


def test_a_slurm_that_is_not_here_is_said_before_anything_trains(small_run: list[str]) -> None:
    done = launched(*small_run, "rank=2,4", "hydra/launcher=slurm", "hydra.launcher.partition=gpu", "-m")
    assert done.returncode == 2, done.stdout
    assert "srun" in done.stdout
    assert record.scan(store_of(small_run)) == ({}, [])


@pytest.mark.parametrize("sweeper", ["basic", "lorax_lab"])
def test_a_job_does_not_wait_for_the_reference_that_another_trains(sweeper: str, tiny: list[str]) -> None:
    """The process that was typed, or the next one, compares them."""
    words = [*tiny, "rank=2", "train.max_steps=2"]
    reference, run = with_reference(run_of(compose(words)))
    with lease(reference.folder):
        if sweeper == "basic":
            ran(*words, "hydra/sweeper=basic", "hydra/launcher=basic")
        else:
            launched(*words, "hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "-m")
    assert record.read_record(run.folder).completed.reference is None
    assert f"compared with {reference.run_id}" in " ".join(ran(*words).split())


@pytest.fixture
def trains(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Training is writing a completed record; gives the runs that were trained."""
    trained = []

    def execute(config: Any, run_id: str, folder: Path, *_: Any) -> None:
        trained.append(run_id)
        record.write_record(folder, run_record(run_id, seed=7))

    monkeypatch.setattr("lorax_lab.execute.execute", execute)
    return trained


def ends_in(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(*_: Any) -> None:
        raise error

    monkeypatch.setattr("lorax_lab.execute.execute", execute)


def test_a_run_is_trained_once(tmp_path: Path, trains: list[str]) -> None:
    run = planned(tmp_path)
    with lease(run.folder) as mine, lease(run.folder) as second, lease(tmp_path / "another") as third:
        assert (mine, second, third) == (True, False, True)
        assert is_leased(run.folder)
        assert attempt(run, unseen) == ELSEWHERE
    assert not is_leased(run.folder)
    assert [attempt(run, unseen) for _ in range(2)] == ["completed", RECORDED]
    assert trains == ["the-run"]


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Diverged("training loss nan"), "diverged", "training loss nan"),
        (RuntimeError("two\n  lines"), "failed", "RuntimeError: two lines"),
        (MemoryError("no more"), "oom", "MemoryError: no more"),
        (KeyboardInterrupt(), "killed", "interrupted by SIGINT"),
        (KeyboardInterrupt(signal.SIGHUP), "killed", "interrupted by SIGHUP"),
        (OSError("\x1b[31m\udcff"), "failed", r"OSError: \x1b[31m\udcff"),
    ],
)  # fmt: skip
def test_the_end_of_a_run_is_recorded_with_its_reason(
    error: BaseException, status: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(tmp_path)
    ends_in(error, monkeypatch)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            attempt(run, unseen)
    else:
        assert attempt(run, unseen) == status
    content = record.read_record(run.folder)
    assert (content.status, content.reason) == (status, reason)
    assert not is_leased(run.folder)


def test_a_long_error_is_cut_where_it_is_shown_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = planned(tmp_path)
    ends_in(RuntimeError("\x1b[2J a word" * 20_000), monkeypatch)
    attempt(run, unseen)
    content, shown = record.read_record(run.folder), capsys.readouterr().out
    assert len(f"{content.reason}{content.error}{shown}") < 40_000
    assert "\x1b" not in f"{content.reason}{content.error}{shown}"
    assert "in _execute" in str(content.error)


@pytest.fixture
def own_handlers() -> Iterator[None]:
    """The handlers of signals as they were, afterwards."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_handlers")
@pytest.mark.parametrize("number", ENDING)
def test_the_first_signal_interrupts_by_its_name_and_later_ones_do_nothing(number: signal.Signals) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in the background
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN if number != signal.SIGHUP else signal.SIG_DFL)
    interrupt_once()
    assert (signal.getsignal(signal.SIGHUP) is signal.SIG_IGN) == (number != signal.SIGHUP)
    with pytest.raises(KeyboardInterrupt) as raised:
        os.kill(os.getpid(), number)
    assert interrupted(raised.value) == f"interrupted by {number.name}"
    for later in ENDING:
        os.kill(os.getpid(), later)


@pytest.mark.parametrize("status", ["completed", "killed"])
def test_checkpoints_that_a_kill_left_in_a_completed_run_are_removed(tmp_path: Path, status: str) -> None:
    run = planned(tmp_path)
    recorded(run, status=status)
    (run.folder / "checkpoints" / "step-000001").mkdir(parents=True)
    with lease(run.folder):
        clear_checkpoints(run.folder)
    assert (run.folder / "checkpoints").exists(), "another process has the run"
    clear_checkpoints(run.folder)
    assert (run.folder / "checkpoints").exists() == (status == "killed")


def test_a_run_with_a_damaged_record_is_trained_again(tmp_path: Path, trains: list[str]) -> None:
    run = planned(tmp_path)
    run.folder.mkdir()
    (run.folder / "record.json").write_text("{}")
    assert attempt(run, unseen) == "completed"
    assert record.read_record(run.folder).seed == 7


def test_a_forced_run_takes_the_place_of_the_one_that_it_repeats(tmp_path: Path, trains: list[str]) -> None:
    run = planned(tmp_path, "the-run", None, "force=true")
    recorded(run, seed=1)
    os.utime(run.folder / record.RECORD, (1000, 1000))
    outcomes = [attempt(replace(run, since=since), unseen) for since in (0.0, 2000.0, 2000.0)]
    assert outcomes == [RECORDED, "completed", RECORDED]
    assert record.read_record(run.folder).seed == 7


def test_a_recorded_run_whose_reference_cannot_be_used_is_not_trained_again(tmp_path: Path, trains: list[str]) -> None:
    run = planned(tmp_path, "the-run", "the-reference")
    recorded(run, reference=None)
    assert attempt(run, unseen) == NO_REFERENCE
    assert not trains
    sweep = Sweep([run])
    assert sweep.uncompared == set(sweep.left) == {"the-run"}
    sweep._tried(run, "completed")
    assert not sweep.left
    assert sweep.failed == {"the-run": NO_REFERENCE}


@pytest.mark.parametrize(
    ("status", "reason", "goes_on"),
    [("killed", "interrupted by SIGTERM", True), ("killed", cause(-9)[1], False), ("failed", "interrupted by", False)],
)
def test_a_run_that_was_interrupted_in_another_launcher_goes_on_here(
    status: Any, reason: str, goes_on: bool, tmp_path: Path
) -> None:
    sweep = Sweep([planned(tmp_path)])
    (run,) = sweep.runs
    record_status(run, status, reason)
    assert sweep._next(set()) == (run if goes_on else None)


def test_what_workers_say_at_their_end_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    staff = Workers([])
    pipe, theirs = Pipe()
    staff.idle = [SimpleNamespace(pipe=pipe)]  # type: ignore[list-item]
    theirs.send({"kind": "say", "text": "W&B lacks the-run"})
    theirs.close()
    staff._dismiss()
    assert "W&B lacks the-run" in capsys.readouterr().out


GIB = 2**30


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, str]]]:
    """The shares of a sweep on a machine with so many cores and so much memory, where each run takes 2 GiB."""

    def shares(*words: str, cores: int, runs: int, planned_runs: int = 0, free: float = 1000, gpus: int = 0) -> Any:
        monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.setattr(room, "needed", lambda run, sizes: 2 * GIB)
        monkeypatch.setattr(room, "free_bytes", lambda: round(free * GIB))
        config = compose(["rank=2", "tracking=disabled", *words])
        left = [Run(config, str(number)) for number in range(runs)]
        return [dict(share) for share in room.shares(left, planned_runs or runs, {("m", "t"): room.Read(64)})]

    return shares


def threads(count: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}


def test_cores_are_shared_out(machine: Any) -> None:
    assert machine(cores=2, runs=12) == [threads(1)] * 2
    assert machine(cores=16, runs=5) == [threads(3)] * 5
    assert machine("workers=2", cores=16, runs=9) == [threads(8)] * 2
    for words, cores, runs in (((), 1, 9), ((), 8, 1), (("workers=1",), 8, 9), ((), 8, 0)):
        assert machine(*words, cores=cores, runs=runs) == [{}]  # the whole machine
    # the last run of a sweep has as many as the others: it goes on from its checkpoint to the same bits
    assert machine(cores=2, runs=1, planned_runs=4) == [threads(1)]
    assert machine(cores=16, runs=1, planned_runs=4) == [threads(4)]
    assert machine("workers=2", cores=2, runs=1) == [threads(1)]


def test_the_sum_of_what_runs_take_is_below_what_is_free(machine: Any) -> None:
    assert machine(cores=8, runs=12, free=7) == [threads(2)] * 3  # 3 · 2 ≤ .9 · 7 < 4 · 2
    assert machine(cores=8, runs=12, free=3) == [{}]
    with pytest.raises(ConfigError, match=r"workers=4.*workers=3"):
        machine("workers=4", cores=8, runs=12, free=7)


def test_each_gpu_has_one_run(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine("train.device=auto", cores=8, runs=9, gpus=2) == [{"CUDA_VISIBLE_DEVICES": n} for n in "01"]
    assert machine("train.device=auto", cores=8, runs=9, gpus=1) == [{}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6")
    assert machine("train.device=auto", cores=8, runs=2, gpus=3) == [{"CUDA_VISIBLE_DEVICES": n} for n in "35"]
    assert machine("train.device=cpu", cores=8, runs=8, gpus=3) == [threads(1)] * 8, "these leave the GPUs alone"
    with pytest.raises(ConfigError, match=r"workers=4.*workers=3"):
        machine("workers=4", "train.device=auto", cores=8, runs=9, gpus=3)


def test_a_run_needs_more_when_its_update_is_measured_in_full(model_folder: Path, tmp_path: Path) -> None:
    words = [f"model={model_folder}", "method=full", f"runs_dir={tmp_path}"]
    full, lora = Run(compose(words), "full"), planned(tmp_path, "lora", None, words[0])
    sizes = {(full.config.model, repr(full.config.task)): room.Read(64)}
    assert room.needed(full, sizes) > room.needed(lora, sizes) > room.LIBRARIES


def test_a_run_takes_as_long_as_those_like_it_by_parameters_and_tokens_and_else_nobody_knows(
    tmp_path: Path, model_folder: Path
) -> None:
    small = f"model={model_folder}"
    lora = planned(tmp_path, "a", None, small, "train.epochs=2")
    trial = planned(tmp_path, "b", None, small, "measure=trial")
    sizes = {(run.config.model, repr(run.config.task)): room.Read(64, 320, 10.0) for run in (lora, trial)}

    def last(*runs: Run, width: int = 1, elsewhere: bool = False) -> str:
        return dry_run_lines(list(runs), sizes, width, elsewhere)[-2]

    assert last(lora) == "time unknown: no run of method=lora measure=k90 on such a task is recorded on this machine"
    like = run_record("done", config=plain(lora.config) | {"model": "another"}, hardware=hardware())
    time = replace(like.completed.time, train_seconds=30.0, total_seconds=40.0, tokens=1600)  # of 6400
    half = room.adapted(lora.config) // 2
    coverage = Coverage(half, 10, half, 10, [])
    record.write_record(tmp_path / "done", replace(like, result=replace(like.completed, time=time, coverage=coverage)))
    seconds = 2 * (4 * 30 + 10)
    assert (
        last(lora) == f"about {seconds / 60:.0f} min, one run after the other, by the recorded runs that are most alike"
    )
    assert last(lora, lora, width=2) == "about 4 min, 2 runs side by side, by the recorded runs that are most alike"
    assert last(lora, width=16).startswith("about 4 min, one run")
    assert "measure=trial" in last(lora, trial)
    assert "on another machine" in last(lora, elsewhere=True)
    sizes.clear()
    assert last(lora).startswith("time unknown")


@pytest.mark.slow
def test_a_worker_that_died_while_it_was_idle_is_not_given_a_run(tmp_path: Path, small_run: list[str]) -> None:
    staff = Workers([{}])
    run, bars = Run(compose([*small_run, "reference=false", f"runs_dir={tmp_path}"]), "a-run"), WorkerBars(1)
    staff.begin(run)
    with bars:
        while not staff.idle and staff.busy:
            list(staff.over(bars))
    (dead,) = staff.idle
    dead.process.kill()
    dead.process.wait()
    staff.begin(run)
    (worker,) = staff.busy.values()
    assert worker is not dead
    staff.end(signal.SIGTERM)


def test_a_store_that_cannot_be_written_is_named_before_anything_trains(small_run: list[str]) -> None:
    done = launched(*small_run, "runs_dir=/proc", "reference=false")
    assert done.returncode == 2
    assert "runs_dir=/proc cannot be written" in done.stdout


def test_a_run_that_diverges_hurts_no_neighbour_and_is_named(tiny: list[str]) -> None:
    """At the defaults: each run has its reference."""
    done = launched(*tiny, "rank=2", "train.learning_rate=1e30,1e-3,2e-3", "-m")
    assert done.returncode == 1, done.stdout + done.stderr
    frame = load_runs(store_of(tiny))
    by_rate = frame[frame["method"] == "lora"].set_index("config.train.learning_rate")
    assert dict(by_rate["status"]) == {1e30: "diverged", 1e-3: "completed", 2e-3: "completed"}
    assert by_rate.loc[[1e-3, 2e-3], "reference"].notna().all()
    assert "1 failed" in done.stdout
