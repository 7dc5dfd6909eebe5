"""W&B is a window: whatever it does, the run's record is complete and the caller goes on."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import run_record

from lorax_lab.config import TrackingConfig
from lorax_lab.errors import ConfigError
from lorax_lab.record.folder import SPECTRA, save_arrays, save_history
from lorax_lab.record.record import write_record
from lorax_lab.windows import marks, tracking, wandb_door, window
from lorax_lab.windows.following import later

MATRICES: dict[str, Any] = {
    "layer.0.query": {"module": "query", "layer": 0, "effective_rank": 3.0},
    "layer.1.query": {"module": "query", "layer": 1, "effective_rank": None},
}
RUN_ID = "tiny-local-lora-r4-s0-0"
SIGMA = {name: {"sigma": np.array([2.0, 1.0])} for name in MATRICES}
HISTORY = [{"step": 1, "train/loss": 0.7}, {"step": 2, "train/loss": 0.6, "validation/accuracy": 0.5}]
STUB = """
import errors, os, signal, sys, time
class Settings:
    def __init__(self, **_): pass
def login(**_): return True
def init(**_):
    {fault}
"""
"""A wandb that does one thing wrong."""


def recorded(runs_dir: Path, run_id: str = RUN_ID, said: dict[str, Any] | None = None) -> Path:
    """A completed run's folder, as W&B is told of it.

    Args:
        said: the section `tracking` of its configuration.
    """
    folder = runs_dir / run_id
    save_history(folder, HISTORY)
    save_arrays(folder / SPECTRA, SIGMA)
    summary = dict.fromkeys(window.SUMMARY_KEYS, 2.0)
    record = run_record(run_id, matrices=MATRICES, summary=summary)
    write_record(folder, replace(record, config=record.config | ({"tracking": said} if said else {})))
    return folder


def publish(mode: str, folder: Path, patience: float = 60) -> bool:
    return tracking.publish(TrackingConfig(mode, "lorax_lab", None), folder, "sweep-1", patience)


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DATA_DIR"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    assert publish("disabled", tmp_path / "runs" / "x")
    assert not (tmp_path / "runs").exists()


def test_auto_without_a_login_is_offline_and_never_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a prompt"))
    assert wandb_door.resolve("auto") == "offline"
    assert wandb_door.resolve("online") == "online"


def test_an_offline_run_lies_in_the_store_and_is_marked(tmp_path: Path) -> None:
    folder = recorded(tmp_path)
    assert publish("offline", folder)
    folders = list(tmp_path.glob("wandb/offline-run-*"))
    assert len(folders) == 1
    assert folders[0].name.endswith(RUN_ID)
    pictures = sorted(path.name for path in folders[0].glob("files/media/images/spectrum/*.png"))
    assert [name.rsplit("_", 2)[0] for name in pictures] == ["effective_rank_map", "singular_values"]
    assert marks.mark_of(folder) == "offline"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raise RuntimeError('the server is gone')", "the server is gone"),
        ("sys.exit(3)", "status 3"),
        (
            "import atexit; atexit.register(sys.stderr.write, 'Arguments: ()\\n'); raise RuntimeError('it is full')",
            "it is full",
        ),
        ("os.kill(os.getpid(), signal.SIGKILL)", "status -9"),
        ("time.sleep(1000)", "more than 1 s"),
    ],
)
def test_whatever_goes_wrong_is_a_warning(
    fault: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb.py").write_text(STUB.format(fault=fault).replace("errors, ", ""))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    folder = recorded(tmp_path / "runs")
    before = (folder / "record.json").read_bytes()
    start = time.monotonic()
    with pytest.warns(
        UserWarning, match=rf"W&B was not told of {folder.name} .*{said}.*its record does not depend on it"
    ) as warned:
        assert not publish("online", folder, patience=1 if "sleep" in fault else 30)
    assert {warning.filename for warning in warned} == {__file__}
    assert time.monotonic() - start < (15 if "sleep" in fault else 30)
    assert (folder / "record.json").read_bytes() == before
    assert marks.mark_of(folder) is None


def test_a_folder_of_wandb_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    folder = recorded(tmp_path)
    (tmp_path / "wandb").write_text("")
    with pytest.warns(UserWarning, match="W&B was not told"):
        assert not publish("offline", folder)


def test_sync_uploads_what_is_missing_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    monkeypatch.setattr(tracking, "publish", lambda config, folder, group, patience: told.append((folder.name, group)))
    for name, mode in (("a", "online"), ("b", "offline"), ("c", None)):
        folder = recorded(tmp_path, name)
        if mode:
            (folder / marks.MARK).write_text(f'{{"mode": "{mode}", "group": "sweep-9"}}')
    assert tracking.main(["sync", str(tmp_path)]) == 1
    assert told == [("b", "sweep-9"), ("c", "sync")]
    assert "1 of 3 were uploaded before, 2 could not be" in capsys.readouterr().out


def test_sync_counts_a_damaged_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = recorded(tmp_path, "a")
    (folder / marks.MARK).write_text('{"mode": "online"}')
    (recorded(tmp_path, "b") / "record.json").write_text("{")
    assert tracking.main(["sync", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "left out: " in out
    assert "1 of 2 were uploaded before, 1 could not be" in out


def test_the_command_that_shows_what_was_missed_quotes_its_folder() -> None:
    assert shlex.split(later(Path("sp ace ü")))[-2:] == ["sync", "sp ace ü"]
    assert shlex.split(later(Path("a b"), "Trackio"))[-3:] == ["a b", "--mode", "trackio"]


@pytest.mark.parametrize("project", ["a+b", "a&b", "lab.v2"])
def test_trackio_takes_no_project_whose_file_another_has(project: str, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"Trackio takes letters, digits, - and _; for instance tracking.project=\w+-\w+$"
    ):
        TrackingConfig("trackio", project, None)
    assert TrackingConfig("offline", project, None).project == project


@pytest.mark.parametrize(
    ("words", "project", "study", "artifacts"),
    [
        ([], "mine", "planted", True),
        (["--project", "other", "--no-artifacts"], "other", "planted", False),
        (["--mode", "trackio", "--study", "new"], "mine", "new", True),
    ],
)
def test_sync_shows_a_run_as_its_sweep_would_have(
    words: list[str], project: str, study: str, artifacts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run's record is of an older version, which knew neither study nor artifacts."""
    told: dict[str, TrackingConfig] = {}
    monkeypatch.setattr("lorax_lab.config.find_spec", lambda name: name)
    monkeypatch.setattr(tracking, "publish", lambda config, folder, *_: told.update({folder.name: config}) or True)
    said = {"mode": "disabled", "project": "mine", "entity": "team", "artifacts": True, "study": "planted"}
    recorded(tmp_path, "a", said)
    recorded(tmp_path, "b", {key: said[key] for key in ("mode", "project", "entity")})
    assert tracking.main(["sync", str(tmp_path), *words]) == 0
    mode = "trackio" if "trackio" in words else "online"
    assert told["a"] == TrackingConfig(mode, project, "team", artifacts, study)
    older = study if "--study" in words else None
    assert told["b"] == TrackingConfig(mode, project, "team", artifacts=False, study=older)


def test_what_a_run_is_shown_as_reaches_its_window(tmp_path: Path) -> None:
    folder = recorded(tmp_path, RUN_ID, {"project": "mine"})
    assert tracking.main(["sync", str(tmp_path), "--mode", "offline"]) == 0
    assert json.loads((folder / marks.MARK).read_text())["project"] == "mine"


@pytest.mark.parametrize("mode", ["offline", "auto"])
def test_what_is_written_offline_is_called_so_and_is_written_once(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, place = recorded(tmp_path), tmp_path / "wandb"
    assert tracking.main(["sync", str(tmp_path), "--mode", mode]) == 0
    first = capsys.readouterr().out
    assert f"[1/1] {RUN_ID}: written offline in {place}, for lorax_lab\n" in first
    assert "0 of 1 were written offline before, 0 could not be\n" in first
    assert (
        f"nothing was sent; once there is a login, type python -m lorax_lab.windows.tracking sync {tmp_path}" in first
    )
    written = sorted(place.glob("offline-run-*"))
    assert tracking.main(["sync", str(tmp_path), "--mode", mode]) == 0
    second = capsys.readouterr().out
    assert "1 of 1 were written offline before, 0 could not be\n" in second
    assert "upload" not in first + second
    assert sorted(place.glob("offline-run-*")) == written
    assert marks.mark_of(folder) == "offline"


def test_what_is_online_is_not_written_offline_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (recorded(tmp_path) / marks.MARK).write_text('{"mode": "online"}')
    monkeypatch.setattr(tracking, "publish", None)  # whoever calls it fails
    assert tracking.main(["sync", str(tmp_path), "--mode", "offline"]) == 0


def test_a_mode_that_shows_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert tracking.main(["sync", str(tmp_path), "--mode", "auto"]) == 2
    said = capsys.readouterr()
    assert said.err == "error: --mode auto: WANDB_MODE=disabled shows nothing; unset it, or type --mode online\n"
    assert said.out == ""


def test_sync_prints_where_a_run_can_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def published(config: TrackingConfig, folder: Path, *_: Any) -> bool:
        (folder / marks.MARK).write_text('{"mode": "online", "url": "https://window/a"}')
        return folder.name == "a"

    monkeypatch.setattr(tracking, "publish", published)
    for name in ("a", "b"):
        recorded(tmp_path, name)
    assert tracking.main(["sync", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "[1/2] a: uploaded to lorax_lab: https://window/a\n[2/2] b: not uploaded to lorax_lab\n" in out


@pytest.mark.parametrize("project", ["a/b", 5, None])
def test_a_record_without_a_possible_project_is_named(
    project: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path, "a", {"project": project})
    assert tracking.main(["sync", str(tmp_path), "--mode", "offline"]) == 1
    out = capsys.readouterr().out
    assert "a: not written offline: its record has " in out
    assert "1 could not be" in out


def test_what_another_process_uploads_meanwhile_is_not_uploaded_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(tmp_path, "a")
    marks = iter(["offline", "online"])  # before the lock, and behind it
    monkeypatch.setattr(tracking, "mark_of", lambda folder, mode: next(marks))
    monkeypatch.setattr(tracking, "publish", None)  # whoever calls it fails
    assert tracking.main(["sync", str(tmp_path)]) == 0


DEFAULT = {"model": "/models/minilm", "task": {"name": "movie_reviews"}, "method": {"name": "lora"}}


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, []),
        ({"method": {"name": "lora", "alpha": 8}}, ["method.alpha=8"]),
        ({"method": {"name": "lora", "target_modules": ["query"]}}, ["method.target_modules=query"]),
        ({"train": {"epochs": 3, "learning_rate": 0.5}}, ["train.epochs=3", "train.learning_rate=0.5"]),
    ],
)
def test_w_and_b_shows_what_differs_from_the_defaults(changes: dict[str, Any], shown: list[str]) -> None:
    names = window.window_names(run_record(config=DEFAULT | changes, seed=3))
    main = ["model=minilm", "task=movie_reviews", "method=lora", "rank=4"]
    assert names.tags == [*main, *shown, "seed=3"]
    assert names.arm == " ".join([*main[2:], *shown])


def test_seeds_of_one_arm_are_together_in_w_and_b() -> None:
    arms = {window.window_names(run_record(config=DEFAULT, seed=seed)).arm for seed in range(3)}
    assert len(arms) == 1
    targets = [[f"layer.{i}" for i in range(count)] for count in (39, 40)]
    configs = [DEFAULT | {"method": {"name": "lora", "target_modules": names}} for names in targets]
    several = [window.window_names(run_record(config=config)) for config in configs]
    assert max(len(text) for names in several for text in (*names.tags, names.arm)) <= window.LONGEST
    assert several[0].arm != several[1].arm
