"""What W&B is told of a run, word by word, with a wandb that only notes it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from recorded import run_record

from lorax_lab.config import TrackingConfig
from lorax_lab.store import pictures, tracking
from lorax_lab.store.folder import SPECTRA, save_arrays, save_history
from lorax_lab.store.record import write_record
from lorax_lab.store.result import Coverage, Part

MATRICES: dict[str, Any] = {
    "layer.0.query": {"module": "query", "layer": 0, "effective_rank": 3.0},
    "layer.1.query": {"module": "query", "layer": 1, "effective_rank": 5.0},
    "layer.1.value": {"module": "value", "layer": 1, "effective_rank": None},
    "projection": {"module": "projection", "layer": None, "effective_rank": 2.0},
}
SIGMA = {name: {"sigma": np.array([4.0, 2.0]) * (i + 1)} for i, name in enumerate(MATRICES)}
CONFIG = run_record("a-run").config | {"task": {"name": "local", "path": "data.csv"}}
"""What W&B learns of the configuration: not where data lies on this machine."""
HISTORY = [{"step": 1, "train/loss": 0.7}, {"step": 2, "train/loss": 0.6, "validation/accuracy": 0.5}]


class Wandb(SimpleNamespace):
    """Notes what it is told."""

    def __init__(self, login: bool = True) -> None:
        super().__init__()
        self.logged: list[tuple[dict[str, Any], int]] = []
        self.asked: list[bool] = []
        self.answer, self.given, self.settings = login, {}, {}
        self.run = SimpleNamespace(log=lambda row, step: self.logged.append((row, step)), summary={})

    def login(self, prompt: bool) -> bool:
        self.asked.append(prompt)
        return self.answer

    def Settings(self, **settings: Any) -> str:
        self.settings = settings
        return "settings"

    def Image(self, picture: np.ndarray) -> np.ndarray:
        return picture

    def init(self, **given: Any) -> Wandb:
        self.given = given
        return self

    def __enter__(self) -> SimpleNamespace:
        return self.run

    def __exit__(self, *_: object) -> None:
        self.ended = True


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Wandb:
    for key in ("WANDB_MODE", "WANDB_DATA_DIR", "WANDB_SILENT"):
        monkeypatch.setenv(key, "")  # so that what is set is taken back
        monkeypatch.delenv(key)
    stub = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", stub)
    return stub


def recorded(runs_dir: Path, **changes: Any) -> Path:
    folder = runs_dir / "a-run"
    config = CONFIG | {"task": {"name": "local", "path": "/home/me/data.csv"}}
    save_history(folder, HISTORY)
    save_arrays(folder / SPECTRA, SIGMA)
    summary = {key: float(i) for i, key in enumerate(tracking.SUMMARY_KEYS)}
    write_record(folder, run_record("a-run", **{"matrices": MATRICES, "summary": summary, "config": config} | changes))
    return folder


def test_a_run_is_told_whole(wandb: Wandb, tmp_path: Path) -> None:
    folder = recorded(tmp_path)
    tracking.tell(TrackingConfig("online", "a-project", "a-team"), folder, "sweep-1")
    names = tracking.window_names(run_record("a-run", config=CONFIG))
    assert wandb.given == {
        "project": "a-project", "entity": "a-team", "dir": str(tmp_path), "id": "a-run", "name": "a-run",
        "group": "sweep-1", "job_type": names.arm, "tags": names.tags, "config": CONFIG | {"arm": names.arm},
        "mode": "online", "settings": "settings",
    }  # fmt: skip
    assert wandb.settings == {
        "silent": True, "console": "off", "init_timeout": 30, "x_disable_stats": True, "disable_git": True,
        "disable_code": True, "x_disable_meta": True, "x_disable_machine_info": True, "x_save_requirements": False,
        "host": "", "program": "",
    }  # fmt: skip
    curves, (shown, last) = wandb.logged[:-1], wandb.logged[-1]
    assert curves == [({"train/loss": 0.7}, 1), ({"train/loss": 0.6, "validation/accuracy": 0.5}, 2)]
    assert (set(shown), last) == ({"spectrum/singular_values", "spectrum/effective_rank_map"}, 2)
    assert wandb.ended
    mark = json.loads((folder / tracking.MARK).read_text())
    assert {key: mark[key] for key in ("mode", "project", "group")} == {
        "mode": "online", "project": "a-project", "group": "sweep-1",
    }  # fmt: skip
    assert mark["when"].endswith("Z")
    assert tracking.mark_of(folder) == "online"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn."""
    from matplotlib.figure import Figure

    made: list[Any] = []
    inner = Figure.__init__

    def noted(self: Any, *words: Any, **settings: Any) -> None:
        inner(self, *words, **settings)
        made.append(self)

    monkeypatch.setattr(Figure, "__init__", noted)
    return made


def test_the_spectra_are_means_over_the_layers_of_a_module(drawn: list[Any]) -> None:
    picture = pictures.spectrum_chart(run_record("a-run", matrices=MATRICES), SIGMA)
    (axes,) = drawn[0].axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    assert lines == {
        "query": [[1, 6], [2, 3]], "value": [[1, 12], [2, 6]], "projection": [[1, 16], [2, 8]],
    }  # fmt: skip
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(lines)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("index", "singular value")
    assert axes.get_title() == "singular values"
    assert (picture.dtype, picture.ndim, picture.shape[2]) == ("uint8", 3, 4)
    assert picture[..., :3].std() > 10


def test_the_map_has_a_row_for_each_layer_and_a_column_for_each_module(drawn: list[Any]) -> None:
    pictures.heat_map(run_record("a-run", matrices=MATRICES))
    axes = drawn[0].axes[0]
    grid = axes.get_images()[0].get_array().filled(np.nan)
    np.testing.assert_equal(grid, [[3, np.nan, 2], [5, np.nan, np.nan]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["query", "value", "projection"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("module", "layer", "effective rank of ΔW")
    assert len(drawn[0].axes) == 2  # and its colours


def test_the_summary_has_scores_parameters_memory_time_and_measures(wandb: Wandb, tmp_path: Path) -> None:
    cover = Coverage(100, 50, 40, 30, [Part("dense", "not a target", 60, 20)])
    folder = recorded(
        tmp_path,
        coverage=cover,
        baselines={"untrained/accuracy": 0.4},
        higher_is_better=False,
        collapsed=["one", "two"],
    )
    tracking.tell(TrackingConfig("online", "p", None), folder, "g")
    assert wandb.run.summary == {
        "test/accuracy": 0.5, "validation/accuracy": 0.5, "baseline/untrained/accuracy": 0.4,
        "parameters/trainable": 10, "parameters/adapter": 8, "parameters/head": 2, "parameters/total": 100,
        "memory/weights": 5, "memory/peak_bytes": 5, "status": "completed",
        "coverage/base": 100, "coverage/trained": 50, "coverage/adapted": 40, "coverage/measured": 30,
        "coverage/not a target/dense": 60, "metric": "accuracy", "higher_is_better": False,
        "collapsed": True, "collapsed/why": "one; two",
        "time/train_seconds": 0.5, "time/steps": 6, "time/examples": 96, "time/tokens": 960,
        "time/truncation_seconds": 0.0, "time/total_seconds": 1.0,
        "spectrum/effective_rank": 0.0, "spectrum/stable_rank": 1.0, "spectrum/participation_ratio": 2.0,
        "spectrum/energy_rank_90": 3.0, "spectrum/relative_norm": 4.0,
    }  # fmt: skip


def test_a_trial_has_no_spectra_and_no_picture(wandb: Wandb, tmp_path: Path) -> None:
    tracking.tell(TrackingConfig("online", "p", None), recorded(tmp_path, matrices={}, summary={}), "g")
    assert [step for _, step in wandb.logged] == [1, 2]
    assert not [key for key in wandb.run.summary if key.startswith("spectrum/")]


def test_a_login_decides_and_is_not_asked_for(wandb: Wandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking.resolve_mode("auto") == "online"
    wandb.answer = False
    assert tracking.resolve_mode("auto") == "offline"
    assert wandb.asked == [False, False]
    for mode in ("offline", "online", "disabled"):
        monkeypatch.setenv("WANDB_MODE", mode)
        assert tracking.resolve_mode("auto") == mode
        assert tracking.resolve_mode("offline") == "offline"
    folder = recorded(tmp_path)
    tracking.tell(TrackingConfig("auto", "p", None), folder, "g")  # disabled by the variable
    assert not wandb.given
    assert tracking.mark_of(folder) is None
    monkeypatch.setenv("WANDB_MODE", "a word that W&B does not know")
    assert tracking.resolve_mode("auto") == "offline"


def test_the_files_of_w_and_b_lie_in_the_store(wandb: Wandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    tracking.tell(TrackingConfig("offline", "p", None), recorded(tmp_path), "g")
    assert (tmp_path / "wandb").is_dir()
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "wandb")
    assert os.environ["WANDB_SILENT"] == "true"


@pytest.mark.parametrize("content", ["", "[]", "{}", "{", "3"])
def test_a_mark_that_cannot_be_read_is_none(content: str, tmp_path: Path) -> None:
    assert tracking.mark_of(tmp_path) is None
    (tmp_path / tracking.MARK).write_text(content)
    assert tracking.mark_of(tmp_path) is None
    assert tracking._group(tmp_path) == "sync"


def test_the_command_that_a_run_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(tracking, "tell", lambda *words: told.append(words))
    assert tracking.main(["publish", str(tmp_path)]) == 0
    typed = ["--group", "g", "--mode", "offline", "--project", "p", "--entity", "e"]
    assert tracking.main(["publish", str(tmp_path), *typed]) == 0
    assert told == [
        (TrackingConfig("auto", "lorax_lab", None), tmp_path, "sync"),
        (TrackingConfig("offline", "p", "e"), tmp_path, "g"),
    ]


def test_a_failure_is_one_line_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the server\n  is gone")

    monkeypatch.setattr(tracking, "tell", fail)
    assert tracking.main(["publish", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "RuntimeError: the server is gone\n"


def test_what_sync_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(tracking, "sync", lambda *words: asked.append(words) or 0)
    assert tracking.main(["sync", str(tmp_path)]) == 0
    assert tracking.main(["sync", str(tmp_path), "--mode", "offline", "--patience", "3"]) == 0
    assert asked == [
        (tmp_path, TrackingConfig("online", "lorax_lab", None), tracking.PATIENCE),
        (tmp_path, TrackingConfig("offline", "lorax_lab", None), 3.0),
    ]
    for words in ([], ["elsewhere"], ["sync", str(tmp_path), "--mode", "disabled"], ["sync", str(tmp_path / "none")]):
        with pytest.raises(SystemExit) as end:
            tracking.main(words)
        assert end.value.code == 2
    assert "none is no folder; type the one with the records, as in: sync runs" in capsys.readouterr().err


def test_a_key_in_the_notes_that_w_and_b_reads_is_hidden(
    wandb: Wandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_NOTES", "my token is hf_" + "Zz09" * 8)
    tracking.tell(TrackingConfig("online", "p", None), recorded(tmp_path), "g")
    assert os.environ["WANDB_NOTES"] == "my token is [hidden]"


@pytest.mark.parametrize("patience", ["nan", "-5", "0", "inf"])
def test_a_patience_that_is_no_time_is_refused(patience: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        tracking.main(["sync", str(tmp_path), f"--patience={patience}"])
    assert ended.value.code == 2
