"""Data that change after a run was planned: the run ends with the reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

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
