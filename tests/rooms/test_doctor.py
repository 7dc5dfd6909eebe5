"""The doctor of a store: what is damaged or left over is named and counted, and mended on request alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded import run_record

from lorax_lab.doctor import main
from lorax_lab.record import record
from lorax_lab.record.files import write_text
from lorax_lab.record.folder import files_of
from lorax_lab.record.lease import lease


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two completed runs with a file each."""
    for name in ("first", "second"):
        write_text(tmp_path / name / "config.yaml", "a: 1\n")
        record.write_record(tmp_path / name, run_record(name, files=files_of(tmp_path / name)))
    return tmp_path


def leave_checkpoints(folder: Path) -> None:
    (folder / "checkpoints" / "step-000001").mkdir(parents=True)


def rename(folder: Path) -> None:
    folder.rename(folder.with_name("third"))


@pytest.mark.parametrize(
    ("harm", "said", "set_aside"),
    [
        (leave_checkpoints, "left over: checkpoints", False),
        (lambda folder: (folder / ".record.json.k3x_81qa").touch(), "left over: temporary files", False),
        (lambda folder: (folder / "config.yaml").unlink(), "config.yaml is gone", True),
        (lambda folder: (folder / "config.yaml").write_text("b"), "its hash differs", True),
        (lambda folder: (folder / "record.json").write_text("{"), "is not whole", True),
        (rename, "a copy of first", True),
    ],
)
def test_what_is_wrong_is_named_and_mended(
    store: Path, harm: Callable[[Path], object], said: str, set_aside: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(store)]) == 0
    assert "all is whole" in capsys.readouterr().out
    harm(store / "first")
    before = {path: path.stat().st_size for path in store.rglob("*") if path.is_file()}
    assert main([str(store)]) == 1
    shown = "".join(line.split("│")[-2].strip(" ") for line in capsys.readouterr().out.splitlines() if "│" in line)
    assert said.replace(" ", "") in shown.replace(" ", "")
    assert before == {path: path.stat().st_size for path in store.rglob("*") if path.is_file()}
    assert main([str(store), "--mend"]) == 0
    assert main([str(store)]) == 0
    assert [record.status_of(store / name) for name in ("first", "second")] == [
        None if set_aside else "completed", "completed",
    ]  # fmt: skip
    assert len(list(store.glob(".damaged/*/record.json"))) == set_aside


def test_a_run_that_was_interrupted_keeps_its_checkpoints_to_go_on_from(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record.write_record(store / "first", run_record("first", status="running"))
    leave_checkpoints(store / "first")
    (store / "first" / ".record.json.k3x_81qa").touch()
    assert main([str(store), "--mend"]) == 0
    assert "interrupted" in capsys.readouterr().out
    assert (store / "first" / "checkpoints" / "step-000001").is_dir()
    assert not list((store / "first").glob(".record*"))


def test_a_run_of_another_version_is_named_and_left_alone(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = store / "first" / "record.json"
    content = json.loads(path.read_text())
    del content["code"]
    path.write_text(json.dumps(content | {"schema": 2, "measures": {}}))
    leave_checkpoints(store / "first")
    before = sorted(store.rglob("*"))
    assert main([str(store), "--mend"]) == 0
    assert "of another version" in capsys.readouterr().out
    assert sorted(store.rglob("*")) == before


def test_a_run_that_is_in_progress_is_left_alone(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (store / "first" / "record.json").write_text("{")
    with lease(store / "first"):
        assert main([str(store), "--mend"]) == 0
    assert "in progress" in capsys.readouterr().out
    assert (store / "first").exists()


def test_a_store_that_is_not_there_is_a_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none")]) == 2
    assert "is no folder" in capsys.readouterr().err
