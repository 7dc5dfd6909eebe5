"""Data that change under a sweep: the runs planned on them end with the reason, and no record lies about its data."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Lab
from PIL import Image
from test_tasks_laws import save_base

from lorax_lab.data import data_sha256, local
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose
from lorax_lab.launch.plan import Run
from lorax_lab.launch.sweep import Sweep
from lorax_lab.record.record import Record, scan
from lorax_lab.tasks import load_task

Change = Callable[[Path], object]


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("quite a new film,positive\n")


def replace(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.with_name("new.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    path.with_name("new.csv").rename(path)


CHANGES: dict[str, tuple[Change, str]] = {
    "a row more": (append, "changed since the run was planned: its SHA-256 was .* and is .*; type the same command"),
    "another file": (replace, "changed since the run was planned"),
    "no file": (Path.unlink, "there is no such file"),
}


def after_the_first(change: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Change something when the first run of a sweep has ended."""
    original, ended = Sweep.try_once, []

    def try_once(sweep: Sweep, run: Run, wait: bool = False) -> str:
        status = original(sweep, run, wait)
        if not ended:
            ended.append(change())
        return status

    monkeypatch.setattr(Sweep, "try_once", try_once)


def records(runs: Path) -> dict[str, list[Record]]:
    """By status."""
    found, damaged = scan(runs)
    assert not damaged
    by_status: dict[str, list[Record]] = {}
    for record in found.values():
        by_status.setdefault(record.status, []).append(record)
    return by_status


@pytest.mark.parametrize("change", CHANGES)
def test_a_table_that_changes_ends_the_runs_planned_on_it(
    change: str, small_run: list[str], table_file: Path, tmp_path: Path, lab_here: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, (make, reason) = tmp_path / "mine.csv", CHANGES[change]
    shutil.copy(table_file, path)
    words = [
        *small_run,
        f"task.path={path}",
        "train.max_steps=2",
        "reference=false",
        "measure=trial",
        "rank=1,2,4",
        "-m",
    ]
    before = data_sha256(compose(words[:-2]).task)
    after_the_first(lambda: make(path), monkeypatch)
    done = lab_here(*words)
    assert done.returncode == 1, done.stdout
    ended = records(tmp_path / "runs")
    assert [record.completed.inputs.data_sha256 for record in ended["completed"]] == [before]
    assert len(ended["failed"]) == 2
    for record in ended["failed"]:
        assert re.fullmatch(f"task.path={re.escape(str(path))}.*{reason}.*", record.reason or ""), record.reason
    if path.exists():  # the same command again makes runs of the new data, and keeps the old ones
        assert lab_here(*words).returncode == 0
        hashes = {record.completed.inputs.data_sha256 for record in records(tmp_path / "runs")["completed"]}
        assert len(hashes) == 2


def test_an_image_that_changes_ends_the_runs_planned_on_it(
    model_folder: Path, tmp_path: Path, lab_here: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    vit, photos = save_base("image_classification", model_folder, tmp_path / "vit"), tmp_path / "photos"
    for c, name in enumerate(("cat", "dog")):
        (photos / name).mkdir(parents=True)
        for i in range(15):
            Image.new("RGB", (8, 8), (16 * i, 80 * c, 0)).save(photos / name / f"{i}.png")
    after_the_first(lambda: Image.new("RGB", (8, 8), (1, 2, 3)).save(photos / "cat" / "0.png"), monkeypatch)
    words = [f"model={vit}", "task=image_folder", f"task.path={photos}", "train.device=cpu", "tracking=disabled"]
    done = lab_here(*words, "reference=false", "measure=trial", "rank=1,2", f"runs_dir={tmp_path / 'runs'}", "-m")
    assert done.returncode == 1, done.stdout
    (failed,) = records(tmp_path / "runs")["failed"]
    assert "photos changed since the run was planned" in str(failed.reason)


def test_a_table_that_changes_while_it_is_read_is_refused(
    small_run: list[str], table_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.csv"
    shutil.copy(table_file, path)
    config = compose([*small_run, f"task.path={path}"]).task
    original = local._table

    def slowly(*arguments: object) -> object:
        table = original(*arguments)  # type: ignore[arg-type]
        append(path)
        return table

    monkeypatch.setattr(local, "_table", slowly)
    with pytest.raises(ConfigError, match=r"mine\.csv changed since"):
        load_task(config)


def test_a_run_in_a_process_of_its_own_knows_the_planned_data(
    small_run: list[str], table_file: Path, tmp_path: Path
) -> None:
    """The hash goes with the run to where it trains."""
    import dataclasses
    import json

    from lorax_lab.launch.plan import run_of

    run = run_of(compose(small_run))
    assert run.data_sha256 == data_sha256(run.config.task)
    assert Run(**json.loads(json.dumps(dataclasses.asdict(run)))).data_sha256 == run.data_sha256


def test_the_record_counts_the_rows_that_were_left_out(
    small_run: list[str], table_file: Path, tmp_path: Path, lab_here: Lab
) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(table_file.read_text() + "quite a new film,\n" * 2)
    words = [*small_run, f"task.path={path}", "train.max_steps=2", "reference=false", "measure=trial"]
    done = lab_here(*words, "task.drop_unlabeled=true")
    assert done.returncode == 0, done.stdout
    assert "rows left out: 2 unlabeled" in done.stdout
    (record,) = records(tmp_path / "runs")["completed"]
    assert record.completed.inputs.left_out == {"unlabeled": 2}
    assert record.config["task"]["drop_unlabeled"] is True
