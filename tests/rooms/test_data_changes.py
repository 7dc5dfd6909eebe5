"""Data that change after a run was planned: the run ends with the reason."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorax_lab import tasks
from lorax_lab.errors import ConfigError
from lorax_lab.execute import execute
from lorax_lab.launch.compose import compose
from lorax_lab.launch.plan import run_of


def test_a_table_that_changes_is_refused(small_run: list[str], table_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    shutil.copy(table_file, path)
    run = run_of(compose([*small_run, f"task.path={path}"]))
    with path.open("a") as file:
        file.write("quite a new film,positive\n")
    with pytest.raises(ConfigError, match=rf"task=local changed after {run.run_id}"):
        execute(run.config, run.run_id, run.folder, None)


def test_a_table_that_changes_while_it_is_read_is_refused(
    small_run: list[str], table_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.csv"
    shutil.copy(table_file, path)
    config = compose([*small_run, f"task.path={path}"]).task
    source = tasks.source_of(config)

    def read(config: Any) -> Any:
        with path.open("a") as file:
            file.write("quite a new film,positive\n")
        return source.read(config)

    monkeypatch.setattr(tasks, "source_of", lambda config: replace(source, read=read))
    with pytest.raises(ConfigError, match=r"mine\.csv changed while it was read"):
        tasks.load_task(config)
