"""Windows: what they show of a run, and that no run waits for them, whatever they do."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from recorded import run_record
from shown import HISTORY, MATRICES, RUN_ID, SIGMA, inspected, recorded, show

from lorax_lab import windows
from lorax_lab.config import TrackingConfig
from lorax_lab.config.defaults import flat
from lorax_lab.record import progress
from lorax_lab.record.files import sha256_of
from lorax_lab.record.folder import SPECTRA, save_arrays
from lorax_lab.record.progress import PROGRESS, Reader, Row, written
from lorax_lab.record.record import read_record, write_record
from lorax_lab.record.result import Coverage, Git, Part
from lorax_lab.spectra import MEASURES
from lorax_lab.windows import __main__ as command
from lorax_lab.windows import contents, dashboard
from lorax_lab.windows.child import shown_in
from lorax_lab.windows.library import TRACKIO, resolve

pytestmark = pytest.mark.usefixtures("no_login")
STUB = """
import os, signal, sys, time
class Settings:
    def __init__(self, **_): pass
def init(**_):
    {fault}
"""
"""A wandb that does one thing wrong."""


def summary_of(runs_dir: Path, run_id: str = RUN_ID) -> dict[str, Any]:
    """The summary of the one offline window of a run."""
    return dict(json.loads(inspected(runs_dir, run_id, "--summary")))


def records_of(runs_dir: Path) -> list[dict[str, Any]]:
    """The records of the one offline window of the run, as its file has them."""
    return [json.loads(line) for line in inspected(runs_dir, RUN_ID).splitlines()]


def tables_of(runs_dir: Path) -> dict[str, Any]:
    """The tables of the one offline window of the run, which are one artifact."""
    (artifact,) = (record["artifact"] for record in records_of(runs_dir) if record["type"] == "artifact")
    files = {entry["path"]: Path(entry["local_path"]) for entry in artifact["manifest"]["contents"]}
    return {name.split(".")[0]: json.loads(file.read_text()) for name, file in files.items()}


def test_the_browser_of_runs_draws_metrics_alone_and_lists_at_most_twenty_values(tmp_path: Path) -> None:
    """It draws a panel for each number of a history, those of a table's form too, and lists each leaf of a summary."""
    recorded(tmp_path, "full", metrics={"test/accuracy": 0.75}, baselines={"head/accuracy": 0.25, "head/log_loss": 2.0})
    cuts = [{"part": part, "k": k, "accuracy": 0.5} for part in ("cut", "remainder") for k in (1, 2)]
    metrics = {f"{split}/{metric}": 0.5 for split in ("test", "validation") for metric in ("accuracy", "log_loss")}
    before = {"untrained/accuracy": 0.5, "untrained/log_loss": 1.0}
    show("offline", recorded(tmp_path, truncation=cuts, reference="full", metrics=metrics, baselines=before))
    rows = [flat(record["history"]["item"]) for record in records_of(tmp_path) if record["type"] == "history"]
    media = f"{contents.HEAT_MAP}."
    panels = {key for row in rows for key in row if not key.startswith(("_", media))}
    assert {key.split("/")[0] for key in panels} == {"answer", "train", "truncation", "validation"}
    assert not [key for key in panels if "." in key]
    assert len(flat(summary_of(tmp_path)["summary"])) + 1 <= 20  # and W&B's own `_wandb.runtime`


def test_an_offline_run_is_whole_lies_in_the_store_and_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that shows it is light: it has no torch."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "torch.py").write_text("raise ImportError('torch')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'path'}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(windows, "DEADLINE", 600.0)  # a busy machine may need more than a minute
    folder = recorded(tmp_path, versions={"torch": "2"}, git=Git("a1b2", False))
    failed = recorded(tmp_path, "failed", status="failed", reason="why it failed")
    for _ in range(2):  # the second takes the place of the first
        assert [line for line in show("offline", folder, failed) if "lacks" in line] == []
    of_failed = summary_of(tmp_path, "failed")
    assert (of_failed["exit_code"], of_failed["summary"]["status/why"]) == (1, "why it failed")
    assert shown_in(folder, "offline")["mode"] == "offline"
    shown = summary_of(tmp_path)
    assert shown["exit_code"] == 0
    values = contents.record_values(read_record(folder), tmp_path)
    values |= contents.derived(read_record(folder), folder)["values"]
    summary = contents.summary(values)
    own = {key: value for key, value in shown["summary"].items() if not key.startswith("_")}
    assert own == summary | {"train/loss": HISTORY[-1]["train/loss"]}
    tables = tables_of(tmp_path)
    assert dict(tables["record"]["data"]) == {key: values[key] for key in values.keys() - summary}
    assert tables["spectrum"]["columns"] == ["index", "module", "sigma"]
    assert tables["spectrum"]["data"][:2] == [[1, "query", 4.0], [2, "query", 2.0]]
    assert [row[1] for row in tables["matrices"]["data"]] == [matrix.module for matrix in MATRICES.values()]
    assert shown["config"].items() >= {"base_sha256": "m", "data_sha256": "d", "versions": {"torch": "2"}}.items()
    assert shown["config"]["git"] == {"commit": "a1b2", "dirty": False}
    assert list(tmp_path.glob(f"wandb/offline-run-*-{RUN_ID}/files/media/images/update/effective_rank_map*.png"))
    assert not (folder / contents.UPDATE).exists()
    write_record(folder, replace(read_record(folder), written="2026-11-26T00:00:00Z"))  # such as by a comparison
    assert shown_in(folder, "offline") == {}


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("raise RuntimeError('the server is gone')", "the server is gone"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "shows runs ended"),
        ("time.sleep(1000)", "hung for 1 s"),
    ],
)
def test_whatever_goes_wrong_is_said_once_and_changes_no_record(
    fault: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb.py").write_text(STUB.format(fault=fault))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    folder = recorded(tmp_path / "runs")
    before = (folder / "record.json").read_bytes()
    monkeypatch.setattr(windows, "DEADLINE", 1.0 if "sleep" in fault else 60.0)
    messages = [line for line in show("online", folder) if folder.name in line]
    assert len(messages) == 1
    assert why in messages[0]
    assert windows.later(folder.parent) in messages[0]
    assert (folder / "record.json").read_bytes() == before
    assert shown_in(folder, "online") == {}


def test_nothing_is_shown_and_no_process_started_where_tracking_is_disabled(tmp_path: Path) -> None:
    with windows.watched(tmp_path, "g", TrackingConfig("disabled", "p", None), pytest.fail) as sink:
        sink(1, 2, {"step": 1, "train/loss": 0.5})
    assert not windows._CURRENT
    assert [path.name for path in tmp_path.iterdir()] == [PROGRESS]


def test_trackio_shows_the_same_run(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    recorded(tmp_path, "full", metrics={"test/accuracy": 0.75}, baselines={"head/accuracy": 0.25})
    folder = recorded(tmp_path, reference="full")
    for _ in range(2):  # not twice
        show(TRACKIO, folder)
    name = "lora r4 s0 4-s0-0"
    words = "from trackio import SQLiteStorage as s; import json; rows = s.get_logs('lorax_lab', %r); print(json.dumps("
    words += "[rows, s.get_run_config('lorax_lab', %r)], default=str))"
    printed = subprocess.run(
        [sys.executable, "-c", words % (name, name)], capture_output=True, text=True, check=True,
        env=os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio")},
    )  # fmt: skip
    rows, config = json.loads(printed.stdout.splitlines()[-1])
    assert [row["train/loss"] for row in rows if "train/loss" in row and "score" not in row] == [0.7, 0.6]
    assert [row["test/accuracy"] for row in rows if "test/accuracy" in row] == [0.5]
    assert (config["summary.status"], config["data_sha256"]) == ("completed", "d")
    tables = {key: row[key]["_value"] for row in rows for key in ("record", "spectrum") if key in row}
    assert {"key": "parameters/total", "value": 100} in tables["record"]
    assert [row["sigma"] for row in tables["spectrum"]][:2] == [4.0, 2.0]
    bars = [key for row in rows for key in row if "/" not in key and isinstance(row[key], float)]
    assert bars == ["score", "share"]


def test_auto_is_offline_without_a_login_and_never_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a prompt"))
    assert [resolve(mode) for mode in ("auto", "online", "offline", TRACKIO)] == [
        "offline", "online", "offline", TRACKIO,
    ]  # fmt: skip
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve("auto") == "disabled"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "no key")
    with pytest.raises(wandb.Error, match="WANDB_API_KEY"):
        resolve("auto")


def test_every_value_of_a_record_is_shown_and_no_matrix_by_itself(tmp_path: Path) -> None:
    cover = Coverage(100, 50, 40, 30, [Part("dense", "not a target", 60, 20)])
    record = run_record(matrices=MATRICES, coverage=cover, baselines={"untrained/accuracy": 0.4})
    shown = contents.record_values(record, tmp_path)
    assert shown.items() >= {
        "status": "completed", "test/accuracy": 0.5, "score": 0.5, "baselines/untrained/accuracy": 0.4,
        "parameters/adapter": 8, "memory/peak_bytes": 5, "time/total_seconds": 1.0, "collapsed": False,
        "coverage/not a target/dense": 60,
    }.items()  # fmt: skip
    assert not [key for key in shown if "layer" in key]


def test_the_mean_of_every_measure_the_curves_and_the_difference_from_the_reference_are_shown(tmp_path: Path) -> None:
    folder = recorded(tmp_path)
    update = contents.derived(read_record(folder), folder)
    shown, curves = update["values"], update["curves"]
    assert {f"update/{measure}" for measure in MEASURES} <= shown.keys()
    assert (shown["update/stable_rank"], shown["update/noise_share"]) == (1.25, update["matrices"][0][2])
    assert curves == [
        {"truncation/k": 1, "truncation/sigma": 4.0}, {"truncation/k": 2, "truncation/sigma": 2.0},
        {"answer/rank": 4, "answer/score": 0.5},
    ]  # fmt: skip
    recorded(tmp_path, "full", metrics={"test/accuracy": 0.75}, baselines={"head/accuracy": 0.25})
    values = contents.record_values(run_record(reference="full"), tmp_path)
    assert (values["reference/score"], values["difference/score"], values["share/kept"]) == (0.75, -0.25, 0.5)
    folder = recorded(tmp_path, reference="full")
    assert contents.derived(read_record(folder), folder)["curves"][-1] == curves[-1] | {"answer/share": 0.5}
    assert "difference/score" not in contents.record_values(run_record(reference="gone"), tmp_path)


def test_a_matrix_that_did_not_change_takes_no_other_value_away(tmp_path: Path) -> None:
    folder = recorded(tmp_path)
    save_arrays(folder / SPECTRA, SIGMA | {"pooler": {"sigma": np.zeros(2)}})
    values = contents.derived(read_record(folder), folder)["values"]
    assert "update/effective_rank" not in values
    assert values["update/frobenius_norm"] > 0


def test_names_say_what_differs_from_the_defaults() -> None:
    config = {"model": "/m/tiny", "task": {"name": "movie_reviews"}, "method": {"name": "lora", "alpha": 8}}
    arms = {contents.arm_and_tags(run_record(config=config, seed=seed))[0] for seed in range(3)}
    assert arms == {"method=lora rank=4 method.alpha=8"}
    assert "model=tiny" in contents.arm_and_tags(run_record(config=config))[1]
    long = config | {"method": {"name": "lora", "target_modules": [f"layer.{i}" for i in range(40)]}}
    assert max(map(len, contents.arm_and_tags(run_record(config=long))[1])) <= contents.LONGEST


def test_no_share_is_kept_of_what_full_fine_tuning_does_not_bring(tmp_path: Path) -> None:
    for name, of_full in (
        ("worse", {"metrics": {"test/accuracy": 0.2}, "baselines": {"head/accuracy": 0.25}}),
        ("without a head", {"metrics": {"test/accuracy": 0.75}}),
        ("not finite", {"metrics": {"test/accuracy": None}, "baselines": {"head/accuracy": 0.25}}),
    ):
        recorded(tmp_path, name, **of_full)
        assert "share/kept" not in contents.record_values(run_record(reference=name), tmp_path)


def test_steps_are_read_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((100.0, 101.5, 103.0))
    monkeypatch.setattr(progress, "time", lambda: next(times))
    reader = Reader(tmp_path / PROGRESS)
    assert reader.read() == []
    with written(tmp_path, "sweep-1") as sink:
        sink(1, 2, {"step": 1, "train/loss": 0.5})
        assert reader.read() == [Row(1, 101.5, {"train/loss": 0.5})]
        sink(2, 2, {"step": 2, "train/loss": float("nan")})
        assert reader.read()[1:] == [Row(2, 103.0, {"train/loss": None})]
    assert reader.group == "sweep-1"


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> dict[str, TrackingConfig]:
    """What `sync` has shown, by run; nothing is shown, and every run is marked."""
    shown: dict[str, TrackingConfig] = {}

    def note(folder: Path, tracking: TrackingConfig, say: Any) -> None:
        shown[folder.name] = tracking
        mark(folder, tracking.mode)

    monkeypatch.setattr(command, "show", note)
    return shown


def mark(folder: Path, mode: str) -> None:
    name = "trackio.json" if mode == TRACKIO else "wandb.json"
    content = {"mode": mode, "url": "https://window/a", "record_sha256": sha256_of(folder / "record.json")}
    (folder / name).write_text(json.dumps(content))


def test_sync_shows_what_is_lacking_and_says_what_is_damaged(
    tmp_path: Path, synced: dict[str, TrackingConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, mode in (("a", "online"), ("b", "offline"), ("c", "")):
        folder = recorded(tmp_path, name)
        if mode:
            mark(folder, mode)
    (recorded(tmp_path, "d") / "record.json").write_text("{")
    assert command.main(["sync", str(tmp_path)]) == 1
    assert list(synced) == ["b", "c"]
    assert "1 of 4 were uploaded before, 1 could not be" in capsys.readouterr().out
    synced.clear()
    assert command.main(["sync", str(tmp_path), "--mode", "offline"]) == 1  # what is online need not be offline
    assert list(synced) == []


def test_an_upload_that_failed_is_said_to_have_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark(recorded(tmp_path, "a"), "offline")
    monkeypatch.setattr(command, "show", lambda *words: None)
    assert command.main(["sync", str(tmp_path)]) == 1


def test_sync_shows_a_run_as_its_sweep_would_have(tmp_path: Path, synced: dict[str, TrackingConfig]) -> None:
    tracking = {"mode": "disabled", "project": "mine", "entity": "team", "artifacts": True, "study": "planted"}
    for words, project in (([], "mine"), (["--project", "other"], "other")):
        recorded(tmp_path, project, tracking)
        assert command.main(["sync", str(tmp_path), *words]) == 0
        assert synced[project] == TrackingConfig("online", project, "team", True, "planted")


def test_the_dashboard_is_what_the_library_reads_and_names_only_what_runs_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wandb_workspaces.workspaces.internal import View

    monkeypatch.chdir(tmp_path)
    head = {"baselines": {"head/accuracy": 0.25}}
    recorded(tmp_path / "runs", "full", metrics={"test/accuracy": 0.75}, **head)
    cuts = [{"part": part, "k": k, "accuracy": 0.5} for part in ("cut", "remainder") for k in (1, 2)]
    folder = recorded(tmp_path / "runs", truncation=cuts, reference="full", **head)
    assert command.main(["dashboard"]) == 0
    written = json.loads((tmp_path / "dashboard" / "workspace.json").read_text())
    assert json.loads(View.model_validate(written).model_dump_json(by_alias=True, exclude_none=True)) == written
    panels = [panel for section in dashboard.sections().values() for panel in section]
    show("offline", folder)
    shown: set[str] = set()
    for record in map(json.loads, inspected(folder.parent, RUN_ID).splitlines()):
        shown |= record.get("history", {}).get("item", {}).keys()
        shown |= record.get("summary", {}).get("update", {}).keys() if record["type"] == "summary" else set()
    metrics: list[Any] = []
    for panel in panels:
        y = getattr(panel, "y", None)
        axes = [getattr(panel, "x", None), *(y if isinstance(y, list) else [y])]
        metrics += [*getattr(panel, "metrics", ()), *(axis for axis in axes if hasattr(axis, "name"))]
    named = {metric.name for metric in metrics if "captured" not in metric.name}  # of runs beside their reference
    assert named - {"train/gradient_norm"} <= shown
    assert len(named) > 12
