"""One bad run never hurts its neighbours, however it ends; W&B never hurts any."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from here import store_of, until

from lorax_lab.record import load_runs, read_record
from lorax_lab.record.lease import is_leased
from lorax_lab.record.record import scan

pytestmark = pytest.mark.faults
ROOT, HERE = Path(__file__).parents[3], Path(__file__).parent


def lab(*overrides: str, faults: dict[str, Any] | None = None, **variables: str) -> Any:
    """`python -m lorax_lab.run`, with faults in its workers."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "HYDRA"))}
    kept |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "LORAX_FAULTS": json.dumps(faults or {})}
    kept["PYTHONPATH"] = f"{ROOT}:{HERE}" if faults else str(ROOT)
    command = [sys.executable, "-m", "lorax_lab.run", *overrides]
    return subprocess.run(command, capture_output=True, text=True, env=kept | variables, timeout=300)


ENDS = {
    1: ("exception", "failed", "RuntimeError: boom"), 2: ("sys.exit", "failed", "its process ended with status 7"),
    3: ("os._exit", "failed", "its process ended with status 0 and left no record"),
    4: ("segfault", "failed", "its process was ended by SIGSEGV"),
    5: ("sigkill", "killed", "its process was ended by SIGKILL"), 6: ("memory", "oom", "memory"),
    7: ("hang", "failed", "it did not end within time_limit_seconds=90"), 8: ("inf", "diverged", "training loss"),
}  # fmt: skip


CASES = {"LoRA": ("lora", []), "the reference": ("full", []), "LoRA without reference": ("lora", ["reference=false"])}
"""Which runs a fault is in, and what is typed beside the defaults."""


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_every_end_is_known_by_its_cause_and_hurts_no_neighbour(small_run: list[str], case: Any) -> None:
    method, more = case
    overrides = [*small_run, *more, "rank=1", f"seed={','.join(map(str, range(10)))}", "train.max_steps=2"]
    faults = {"by_seed": {f"{method}_s{seed}": end for seed, (end, _, _) in ENDS.items()}}
    done = lab(*overrides, "workers=2", "time_limit_seconds=90", "-m", faults=faults, OMP_NUM_THREADS="2")
    assert done.returncode == 1, done.stdout + done.stderr
    every = load_runs(store_of(overrides))
    frame = every[every["method"] == method].set_index("seed")
    shown = " ".join(done.stdout.split())
    for seed, (_, status, reason) in ENDS.items():
        assert frame.loc[seed, "status"] == status, seed
        assert reason in frame.loc[seed, "reason"]
        assert re.search(rf"\] {method}( r=1)? seed={seed} {status}", shown)
        assert reason in shown
    assert set(frame.loc[[0, 9], "status"]) == {"completed"}
    assert set(frame.loc[[0, 9], "hardware.threads"]) == {1}, "each worker has its share of the two"
    assert set(every.loc[every["method"] != method, "status"]) <= {"completed"}, "no neighbour is hurt"
    assert "8 failed" in done.stdout
    again = lab(*overrides, "-m")
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"{2 if more else 12} of {10 if more else 20} already recorded" in again.stdout
    every = load_runs(store_of(overrides))
    assert set(every["status"]) == {"completed"}
    assert more or every.loc[every["method"] == "lora", "reference"].notna().all()


def test_a_run_whose_step_does_not_end_is_ended_with_its_stacks(small_run: list[str], case: Any) -> None:
    method, more = case
    overrides = [*small_run, *more, "rank=1", "seed=0,1,2,3", "train.max_steps=3", "workers=1", "-m"]
    ends = {f"{method}_s0": "hang in a step", f"{method}_s1": "stop in a step", f"{method}_s2": "hang in a batch"}
    done = lab(*overrides, faults={"by_seed": ends, "impatient": {"seconds": 5.0}})
    assert done.returncode == 1, done.stdout + done.stderr
    every = load_runs(store_of(overrides))
    frame = every[every["method"] == method].set_index("seed")
    assert dict(frame["status"]) == {0: "hung", 1: "hung", 2: "hung", 3: "completed"}, done.stdout
    assert set(every.loc[every["method"] != method, "status"]) <= {"completed"}, "no neighbour is hurt"
    assert all("did not end within 5 s" in frame.loc[seed, "reason"] for seed in (0, 1, 2))
    assert "in _accumulate" in frame.loc[0, "error"]
    assert "in outputs" in frame.loc[2, "error"]
    assert not any(is_leased(Path(folder)) for folder in frame["folder"])
    assert lab(*overrides).returncode == 0


def test_a_worker_without_locks_or_room_ends_no_sweep(small_run: list[str]) -> None:
    """Nothing can be recorded of its runs; the closing table names them."""
    for fault in ({"no_locks": {}}, {"disk_full_at_write": {"number": 1, "ever_after": True}}):
        done = lab(*small_run, "rank=1,2", "train.max_steps=2", "-m", faults=fault)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert done.stdout.count("its record could not be written") == 3
    assert lab(*small_run, "rank=1,2", "train.max_steps=2", "-m").returncode == 0


def test_runs_side_by_side_have_the_bits_of_runs_one_after_the_other(small_run: list[str], tmp_path: Path) -> None:
    """The full fine-tune is trained beside the first run, which is compared with it when it is there."""
    stores = {}
    for workers in (1, 2):
        stores[workers] = tmp_path / str(workers)
        words = [f"runs_dir={stores[workers]}", f"workers={workers}", "rank=2,3", "-m"]
        done = lab(*small_run, *words, MKL_NUM_THREADS="1")
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("r=2 seed=0 compared with tiny-bert" in " ".join(done.stdout.split())) == (workers == 2)
    for path in sorted(stores[1].glob("*/record.json")):
        one, other = (read_record(stores[workers] / path.parent.name).completed for workers in (1, 2))
        for part in ("metrics", "matrices", "truncation", "reference", "parameters", "coverage"):
            assert getattr(one, part) == getattr(other, part), (path.parent.name, part)
        weights = [name for name in one.files if name.endswith(".safetensors")]
        assert weights
        assert {name: one.files[name] for name in weights} == {name: other.files[name] for name in weights}


@pytest.mark.parametrize("more", [[], ["reference=false"]], ids=["", "without reference"])
def test_a_sweep_with_workers_goes_on_after_a_kill_and_an_interrupt(small_run: list[str], more: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background would ignore it
    overrides = [*small_run, *more, "rank=2", "seed=0,1,2,3", "train.epochs=40", "checkpoint_seconds=0"]
    command = [sys.executable, "-m", "lorax_lab.run", *overrides, "workers=2", "-m"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    store, kept = store_of(overrides), dict[str, bytes]()
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        sweep = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
        old = set(store.glob("*/checkpoints/step-*"))
        until(lambda old=old: set(store.glob("*/checkpoints/step-*")) - old, lambda sweep=sweep: sweep.poll() is None)
        if number == signal.SIGTERM:
            sweep.terminate()  # the parent alone: it ends its workers
        else:
            for _ in range(2):  # as Ctrl-C, and Ctrl-C again
                os.killpg(sweep.pid, number)
        output, _ = sweep.communicate(timeout=60)
        assert sweep.returncode == (-9 if number == signal.SIGKILL else 130), output
        lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
        assert not [line for line in lines if str(store) in line], "a worker was left"
        after = {path.parent.name: path.read_bytes() for path in store.glob("*/record.json")}
        done = {name: text for name, text in after.items() if b'"status": "completed"' in text}
        assert kept.items() <= done.items()
        kept = done
        if number != signal.SIGKILL:
            assert "interrupted; the same command goes on with what is missing" in output
            reasons = {record.reason for record in scan(store)[0].values() if record.status != "completed"}
            assert f"interrupted by {number.name}" in reasons
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert kept.items() <= {path.parent.name: path.read_bytes() for path in store.glob("*/record.json")}.items()


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_parallel_launchers_share_the_store(small_run: list[str], launcher: str, tmp_path: Path) -> None:
    jobs = "hydra.launcher.n_jobs=2" if launcher == "joblib" else "hydra.launcher.timeout_min=5"
    overrides = [*small_run, "rank=1,2,3", f"hydra/launcher={launcher}", jobs, "-m"]
    done = lab(*overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    frame = load_runs(store_of(overrides))
    assert sorted(frame["rank"].fillna(0)) == [0, 1, 2, 3]
    assert set(frame["status"]) == {"completed"}
    assert frame.loc[frame["method"] == "lora", "reference"].nunique() == 1
