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
from lorax_lab.record.folder import SPECTRA, save_arrays, save_history
from lorax_lab.record.record import write_record
from lorax_lab.record.result import Coverage, Part
from lorax_lab.windows import marks, pictures, tracking, wandb_door, window
from lorax_lab.windows.follow import follow
from lorax_lab.windows.orders import Order
from lorax_lab.windows.wandb_door import WandbWindow

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
    """Notes what it is told, and keeps no history of its own."""

    def __init__(self, login: bool = True) -> None:
        super().__init__()
        self.logged: list[tuple[dict[str, Any], int]] = []
        self.asked: list[bool] = []
        self.axes: dict[str, str | None] = {}
        self.artifacts: list[Any] = []
        self.answer, self.given, self.settings, self.exit_code = login, {}, {}, None
        self.run = SimpleNamespace(
            summary={}, tags=(), url="https://w/b", offline=False, resumed=False, starting_step=0, id="a-run",
            define_metric=lambda name, step_metric=None, hidden=None: self.axes.update({name: step_metric}),
            finish=self._finish, log_artifact=self.artifacts.append,
        )  # fmt: skip

    def _finish(self, exit_code: int) -> None:
        self.exit_code = exit_code

    def login(self, prompt: bool, verify: bool) -> bool:
        self.asked.append(prompt or verify)
        return self.answer

    def Settings(self, **settings: Any) -> str:
        self.settings = settings
        return "settings"

    def Image(self, picture: np.ndarray) -> np.ndarray:
        return picture

    def init(self, **given: Any) -> SimpleNamespace:
        self.given = given
        self.run.tags = tuple(given["tags"])
        return self.run


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Wandb:
    for key in ("WANDB_MODE", "WANDB_DATA_DIR", "WANDB_SILENT", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(key, "")  # so that what is set is taken back
        monkeypatch.delenv(key)
    stub = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", stub)
    noted = lambda self, values, row: stub.logged.append((values, row.step))  # noqa: E731
    monkeypatch.setattr(WandbWindow, "_send", noted)
    return stub


def tell(mode: str, folder: Path, group: str, project: str = "p", entity: str | None = None, **more: Any) -> None:
    follow(Order(folder, folder, group, TrackingConfig(mode, project, entity, **more)))


def recorded(runs_dir: Path, **changes: Any) -> Path:
    folder = runs_dir / "a-run"
    config = CONFIG | {"task": {"name": "local", "path": "/home/me/data.csv"}}
    save_history(folder, HISTORY)
    save_arrays(folder / SPECTRA, SIGMA)
    summary = {key: float(i) for i, key in enumerate(window.SUMMARY_KEYS)}
    write_record(folder, run_record("a-run", **{"matrices": MATRICES, "summary": summary, "config": config} | changes))
    return folder


def test_a_run_is_told_whole(wandb: Wandb, tmp_path: Path) -> None:
    folder = recorded(tmp_path)
    tell("online", folder, "sweep-1", "a-project", "a-team")
    names = window.window_names(run_record("a-run", config=CONFIG))
    assert wandb.given == {
        "project": "a-project", "entity": "a-team", "dir": str(tmp_path), "id": "a-run", "name": "a-run",
        "group": "sweep-1", "job_type": "lora", "resume": None, "tags": names.tags,
        "config": CONFIG | {"arm": names.arm},
        "mode": "online", "settings": "settings",
    }  # fmt: skip
    assert wandb.settings == {
        "silent": True, "console": "off", "init_timeout": 30, "x_disable_stats": True, "disable_git": True,
        "x_file_stream_transmit_interval": 5,
        "disable_code": True, "x_disable_meta": True, "x_disable_machine_info": True, "x_save_requirements": False,
        "host": "", "program": "",
    }  # fmt: skip
    assert wandb.logged[:2] == [({"train/loss": 0.7}, 1), ({"train/loss": 0.6, "validation/accuracy": 0.5}, 2)]
    assert wandb.logged[2] == (
        {
            "spectrum/index": 1,
            "spectrum/sigma/query": 6.0,
            "spectrum/sigma/value": 12.0,
            "spectrum/sigma/projection": 16.0,
        },
        3,
    )
    assert wandb.logged[4] == ({"answer/rank": 4, "answer/score": 0.5}, 5)
    assert [(*values, step) for values, step in wandb.logged[5:]] == [
        ("spectrum/singular_values", 6), ("spectrum/effective_rank_map", 7),
    ]  # fmt: skip
    assert wandb.axes == {
        "truncation/k": None, "truncation/*": "truncation/k", "spectrum/index": None, "spectrum/*": "spectrum/index",
        "answer/rank": None, "answer/*": "answer/rank",
    }  # fmt: skip
    assert wandb.exit_code == 0
    assert wandb.artifacts == []
    mark = json.loads((folder / marks.MARK).read_text())
    assert {key: mark[key] for key in ("mode", "project", "group", "url")} == {
        "mode": "online", "project": "a-project", "group": "sweep-1", "url": "https://w/b",
    }  # fmt: skip
    assert mark["when"].endswith("Z")
    assert marks.mark_of(folder) == "online"


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
    drawn_lines = {name: points for name, points in lines.items() if not name.startswith("_")}
    assert drawn_lines == {
        "query": [[1, 6], [2, 3]], "value": [[1, 12], [2, 6]], "projection": [[1, 16], [2, 8]],
    }  # fmt: skip
    assert len(lines) == 6  # and noise, dashed
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(drawn_lines)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("index", "singular value")
    assert axes.get_title() == "singular values of ΔW (dashed: noise)"
    assert (picture.dtype, picture.ndim, picture.shape[2]) == ("uint8", 3, 4)
    assert picture[..., :3].std() > 10


def test_the_map_has_a_row_for_each_layer_and_a_column_for_each_module(drawn: list[Any]) -> None:
    rows = {name: row | {"null": {"effective_rank": 10.0}} for name, row in MATRICES.items()}
    pictures.heat_map(run_record("a-run", matrices=rows))
    axes = drawn[0].axes[0]
    (image,) = axes.get_images()
    nan = np.nan
    np.testing.assert_allclose(image.get_array().filled(nan), [[0.3, nan, nan], [0.5, nan, nan], [nan, nan, 0.2]])
    assert image.get_clim() == (0, 1)  # one scale for all runs
    assert [text.get_text() for text in axes.texts] == ["3", "5", "2"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["query", "value", "projection"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1", "outside"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("module", "layer", "effective rank of ΔW")
    assert len(drawn[0].axes) == 2  # and its colours


def test_the_map_has_a_row_for_what_is_outside_all_layers_and_a_mean_where_a_cell_has_several(drawn: list[Any]) -> None:
    null = {"shape": [16, 8], "null": {"effective_rank": 10.0}}
    rows = {
        "pooler": {"module": "query", "layer": None, "effective_rank": 9.0} | null,
        "layer.0.query": {"module": "query", "layer": 0, "effective_rank": 4.0} | null,
        "layer.1.query": {"module": "query", "layer": 1, "effective_rank": 2.0} | null,
        "encoder.layer.1.query": {"module": "query", "layer": 1, "effective_rank": 5.0} | null,
        "decoder.layer.1.query": {"module": "query", "layer": 1, "effective_rank": None} | null,
    }
    pictures.heat_map(run_record("a-run", matrices=rows))
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1", "outside"]
    assert [text.get_text() for text in axes.texts] == ["4", "3.5 ×2", "9"]
    (image,) = axes.get_images()
    np.testing.assert_allclose(image.get_array().filled(np.nan), [[0.4], [0.35], [0.9]])


def test_the_summary_has_scores_parameters_memory_time_and_measures(wandb: Wandb, tmp_path: Path) -> None:
    cover = Coverage(100, 50, 40, 30, [Part("dense", "not a target", 60, 20)])
    folder = recorded(
        tmp_path,
        coverage=cover,
        baselines={"untrained/accuracy": 0.4},
        higher_is_better=False,
        collapsed=["one", "two"],
    )
    tell("online", folder, "g")
    assert wandb.run.summary == {
        "test/accuracy": 0.5, "validation/accuracy": 0.5, "baseline/untrained/accuracy": 0.4,
        "parameters/trainable": 10, "parameters/adapter": 8, "parameters/head": 2, "parameters/total": 100,
        "memory/weights": 5, "memory/peak_bytes": 5, "status": "completed", "status/why": "",
        "score": 0.5, "score/split": "test", "train/loss": 0.6,
        "coverage/base": 100, "coverage/trained": 50, "coverage/adapted": 40, "coverage/measured": 30,
        "coverage/not a target/dense": 60, "metric": "accuracy", "higher_is_better": False,
        "collapsed": True, "collapsed/why": "one; two",
        "time/train_seconds": 0.5, "time/steps": 6, "time/examples": 96, "time/tokens": 960,
        "time/truncation_seconds": 0.0, "time/total_seconds": 1.0,
        "spectrum/effective_rank": 0.0, "spectrum/stable_rank": 1.0, "spectrum/participation_ratio": 2.0,
        "spectrum/energy_rank_90": 3.0, "spectrum/relative_norm": 4.0,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["$x^{$", "v$1 and v$2"])
def test_a_dollar_in_a_module_s_name_is_no_formula(name: str) -> None:
    rows = {key: row | {"module": name, "null": {"effective_rank": 10.0}} for key, row in MATRICES.items()}
    for picture in pictures.pictures(run_record("a-run", matrices=rows), SIGMA).values():
        assert picture.size


def test_a_trial_has_no_spectra_and_no_picture(wandb: Wandb, tmp_path: Path) -> None:
    tell("online", recorded(tmp_path, matrices={}, summary={}), "g")
    assert [step for _, step in wandb.logged] == [1, 2]
    assert not [key for key in wandb.run.summary if key.startswith("spectrum/")]


def test_a_login_decides_and_is_not_asked_for(wandb: Wandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert wandb_door.resolve("auto") == "online"
    wandb.answer = False
    assert wandb_door.resolve("auto") == "offline"
    assert wandb.asked == [False, False]
    for mode in ("offline", "online", "disabled"):
        monkeypatch.setenv("WANDB_MODE", mode)
        assert wandb_door.resolve("auto") == mode
        assert wandb_door.resolve("offline") == "offline"
    folder = recorded(tmp_path)
    tell("auto", folder, "g")  # disabled by the variable
    assert not wandb.given
    assert marks.mark_of(folder) is None
    monkeypatch.setenv("WANDB_MODE", "a word that W&B does not know")
    assert wandb_door.resolve("auto") == "offline"


def test_the_files_of_w_and_b_lie_in_the_store(wandb: Wandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    tell("offline", recorded(tmp_path), "g")
    assert (tmp_path / "wandb").is_dir()
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "wandb")
    assert os.environ["WANDB_SILENT"] == "true"


@pytest.mark.parametrize("content", ["", "[]", "{}", "{", "3"])
def test_a_mark_that_cannot_be_read_is_none(content: str, tmp_path: Path) -> None:
    assert marks.mark_of(tmp_path) is None
    (tmp_path / marks.MARK).write_text(content)
    assert marks.mark_of(tmp_path) is None
    assert tracking._group(tmp_path) == "sync"


def test_the_command_that_a_run_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(tracking, "follow", told.append)
    folder = recorded(tmp_path)
    assert tracking.main(["publish", str(folder)]) == 0
    typed = ["--group", "g", "--mode", "offline", "--project", "p", "--entity", "e", "--artifacts", "--study", "s"]
    assert tracking.main(["publish", str(folder), *typed]) == 0
    assert told == [
        Order(folder, folder, "sync", TrackingConfig("auto", "lorax_lab", None)),
        Order(folder, folder, "g", TrackingConfig("offline", "p", "e", True, "s")),
    ]


def test_a_failure_is_one_line_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the server\n  is gone")

    monkeypatch.setattr(tracking, "follow", fail)
    assert tracking.main(["publish", str(recorded(tmp_path))]) == 1
    assert capsys.readouterr().err == "not shown: RuntimeError: the server is gone\n"


def test_what_sync_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(tracking, "sync", lambda *words: asked.append(words) or 0)
    assert tracking.main(["sync", str(tmp_path)]) == 0
    typed = ["--mode", "offline", "--patience", "3", "--project", "p", "--no-artifacts"]
    assert tracking.main(["sync", str(tmp_path), *typed]) == 0
    assert asked == [
        (tmp_path, "online", {}, tracking.PATIENCE),
        (tmp_path, "offline", {"project": "p", "artifacts": False}, 3.0),
    ]
    with pytest.raises(SystemExit):
        tracking.main(["sync", str(tmp_path), "--patience", "no"])
    assert tracking.main(["sync", str(tmp_path), "--project", "a/b"]) == 2
    assert len(asked) == 2
    assert "tracking.project=a/b" in capsys.readouterr().err
    for words in ([], ["elsewhere"], ["sync", str(tmp_path), "--mode", "disabled"], ["sync", str(tmp_path / "none")]):
        with pytest.raises(SystemExit) as end:
            tracking.main(words)
        assert end.value.code == 2
    assert "none is no folder; type the one with the records, as in: sync runs" in capsys.readouterr().err


def test_a_key_in_the_notes_that_w_and_b_reads_is_hidden(
    wandb: Wandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_NOTES", "my token is hf_" + "Zz09" * 8)
    tell("online", recorded(tmp_path), "g")
    assert os.environ["WANDB_NOTES"] == "my token is [hidden]"


@pytest.mark.parametrize("patience", ["nan", "-5", "0", "inf"])
def test_a_patience_that_is_no_time_is_refused(patience: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        tracking.main(["sync", str(tmp_path), f"--patience={patience}"])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("changes", "spectra", "ranks"),
    [({}, SIGMA, [4]), ({"method": "full", "rank": None}, SIGMA, [1, 2]), ({"matrices": {}}, {}, [])],
)
def test_full_is_a_line_over_the_ranks(changes: dict[str, Any], spectra: dict[str, Any], ranks: list[int]) -> None:
    """From 1 to the most that a matrix can have; a trial, of which no update is measured, answers nothing."""
    rows = window.curves(run_record("a-run", **{"matrices": MATRICES} | changes), spectra)
    assert [row for row in rows if "answer/rank" in row] == [{"answer/rank": r, "answer/score": 0.5} for r in ranks]


def test_only_methods_whose_noise_is_known_have_a_share_of_it() -> None:
    from lorax_lab.methods import METHODS

    row = {"module": "query", "layer": 0, "effective_rank": 3.0, "null": {"effective_rank": 6.0}}
    of = {name: window.noise_shares(run_record(method=name, matrices={"a": row})) for name in METHODS}
    assert {name for name, shares in of.items() if shares} == {"full", "lora", "peft/lora", "peft/rslora"}
    assert of["lora"] == {"query": 0.5}


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("no such file: clinic/patients.csv.", "no such file: patients.csv."),
        ("task.path=../clinic/list is empty", "task.path=list is empty"),
        ("~doctor/clinic/list, ~/list and conf/.env", "list, list and .env"),
        ("/home/me/my data/x y.csv is gone", "x y.csv is gone"),
        ("'clinic/a b.csv' is gone", "'a b.csv' is gone"),
        ("'org/model' is not 'clinic/my model.bin'", "'org/model' is not 'my model.bin'"),
        ("it's 1/2 of what 'https://hub.org/a/b.csv' says", None),
        ("held/here is gone", "here is gone"),
        ("1/2 of test/accuracy, tokens/s, org/model-v1.5 and/or a/b", None),
        ("see https://hub.org/a/b.csv?at=c/d.csv for more", None),
    ],
)
def test_of_a_path_in_a_reason_only_the_last_part_is_shown(
    reason: str, shown: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "held" / "here").mkdir(parents=True)
    assert window.end_of("failed", reason)["status/why"] == (shown or reason)
