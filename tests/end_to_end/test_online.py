"""W&B's own client against a server that speaks its protocol: what arrives there, and when."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from here import store_of, until
from shown import recorded, show
from wandb_server import Server, wandb_server

from lorax_lab.record.folder import read_history
from lorax_lab.record.progress import written
from lorax_lab.windows.child import shown_in

ROOT = Path(__file__).parents[2]
KEY = "0123456789" * 4


@pytest.fixture
def server(no_login: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with wandb_server() as running:
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield running
        assert running.unknown == []


def test_a_recorded_run_arrives_whole(server: Server, tmp_path: Path) -> None:
    folder = recorded(tmp_path / "runs")
    with written(folder, "sweep") as sink:  # after the time that the record gives
        sink(1, 2, {"train/loss": 0.7})
    for _ in range(2):  # and nothing twice
        said = show("online", folder)
    url = f"{server.url}/team/lorax_lab/runs/{folder.name}"
    assert [line for line in said if not line.startswith("waiting")] == [f"wandb: {url}"]
    assert shown_in(folder, "online")["url"] == url
    run = server.runs[folder.name]
    assert run.rows("train/loss") == [(1, 0.7), (2, 0.6)]
    assert [row["_step"] for row in run.history] == list(range(1, len(run.history) + 1))
    assert [row["_timestamp"] for row in run.history] == sorted(row["_timestamp"] for row in run.history)
    assert (run.exit_code, run.summary["status"], run.summary["test/accuracy"]) == (0, "completed", 0.5)
    assert run.config["arm"] == "rank=4 task.group_near_duplicates=false"  # as older records are
    assert [value for _, value in run.rows("truncation/sigma")] == [4.0, 2.0]
    table = json.loads(run.files["spectrum.table.json"])["data"]
    assert [row[2] for row in table][:2] == [4.0, 2.0]
    told = b"".join(server.heard)
    assert all(folded in told for folded in (b'"groupName":"sweep"', b'"jobType":"lora"'))


@pytest.mark.slow
def test_a_run_is_seen_live_killed_and_resumed_without_a_seam(server: Server, small_run: list[str]) -> None:
    words = ["rank=1", "reference=false", "train.epochs=400", "checkpoint_seconds=1", "train.validations=5"]
    typed = [word for word in small_run if not word.startswith("tracking=")] + words
    command = [sys.executable, "-m", "lorax_lab.run", *typed, "tracking=online"]
    kept = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(command, env=kept, stdout=subprocess.DEVNULL, start_new_session=True) as sweep:
        until(lambda: any(len(run.history) > 5 for run in server.runs.values()))
        ((name, run),) = server.runs.items()
        assert (run.exit_code, run.summary["status"]) == (None, "running")
        os.killpg(sweep.pid, signal.SIGKILL)  # its worker too
    until(lambda: run.exit_code is not None)
    assert (run.exit_code, run.summary["status"]) == (137, "killed")
    assert "its process is gone" in run.summary["status/why"]
    assert len(run.rows("train/loss")) < 400 * 6  # all steps

    done = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=600)
    assert f"wandb: {server.url}/team/lorax_lab/runs/{name}" in done.stdout
    run = server.runs[name]
    until(lambda: run.exit_code == 0)
    history = read_history(store_of(small_run) / name)
    assert run.rows("train/loss") == [(row["step"], row["train/loss"]) for row in history]
    assert run.summary["status"] == "completed"
    assert len(run.config["data_sha256"]) == 64  # it is known when the run is over
    for times in ([row[key] for row in run.history] for key in ("_timestamp", "_runtime")):
        assert times == sorted(times)
