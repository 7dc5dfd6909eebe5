"""W&B is a window: whatever it does, the run's record is complete and the caller goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorax_lab import tracking
from lorax_lab.config import TrackingConfig

RECORD: dict[str, Any] = {
    "run_id": "tiny-local-lora-r4-s0-0", "method": "lora", "rank": 4, "seed": 0, "status": "completed",
    "config": {"model": "tiny", "task": {"name": "local"}},
    "parameters": {"trainable": 10}, "time": {"total_seconds": 1.0}, "metrics": {"test/accuracy": 0.5},
    "memory": {"peak_bytes": 5, "by_category": {"weights": 5}},
    "summary": dict.fromkeys(tracking.SUMMARY_KEYS, 2.0),
    "matrices": {
        "layer.0.query": {"module": "query", "layer": 0, "effective_rank": 3.0},
        "layer.1.query": {"module": "query", "layer": 1, "effective_rank": None},
    },
}  # fmt: skip
SPECTRA = {name: {"sigma": np.array([2.0, 1.0])} for name in RECORD["matrices"]}
HISTORY = [{"step": 1, "train/loss": 0.7}, {"step": 2, "train/loss": 0.6, "validation/accuracy": 0.5}]


def publish(mode: str, folder: Path) -> None:
    tracking.publish(TrackingConfig(mode, "lorax_lab", None), folder, RECORD, HISTORY, SPECTRA, "sweep-1")


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DATA_DIR"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    publish("disabled", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_auto_without_a_login_is_offline_and_never_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a prompt"))
    assert tracking.resolve_mode("auto") == "offline"
    assert tracking.resolve_mode("online") == "online"


def test_an_offline_run_lies_in_the_store(tmp_path: Path) -> None:
    publish("offline", tmp_path)
    folders = list(tmp_path.glob("wandb/offline-run-*"))
    assert len(folders) == 1
    assert folders[0].name.endswith(RECORD["run_id"])
    assert list(folders[0].glob("files/media/images/spectrum/*.png"))
    assert list(folders[0].glob("files/media/table/spectrum/*.json"))


@pytest.mark.parametrize("fault", ["init", "log"])
def test_whatever_goes_wrong_is_a_warning(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    def broken(*_: object, **__: object) -> None:
        raise wandb.errors.CommError("the server is gone")

    monkeypatch.setattr(wandb if fault == "init" else wandb.Run, fault, broken)
    with pytest.warns(UserWarning, match=r"W&B was not told of .*the server is gone.*the record is complete"):
        publish("offline", tmp_path)


def test_a_read_only_store_is_a_warning(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.warns(UserWarning, match="W&B was not told"):
        publish("offline", blocked)
