"""Data that change after a run was planned, or while they are read: the run ends with the reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lorax_lab.data import data_sha256, local
from lorax_lab.errors import ConfigError
from lorax_lab.launch.compose import compose
from lorax_lab.tasks import load_task


@pytest.mark.parametrize("moment", ["after it was planned", "while it is read"])
def test_a_table_that_changes_is_refused(
    moment: str, small_run: list[str], table_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.csv"
    shutil.copy(table_file, path)
    config = compose([*small_run, f"task.path={path}"]).task
    planned, original = data_sha256(config), local.read_table

    def append() -> None:
        with path.open("a") as file:
            file.write("quite a new film,positive\n")

    def slowly(*arguments: object) -> object:
        table = original(*arguments)  # type: ignore[arg-type]
        append()
        return table

    if moment == "while it is read":
        monkeypatch.setattr(local, "read_table", slowly)
    else:
        append()
    with pytest.raises(ConfigError, match=rf"mine\.csv.*{planned[:12]}"):
        load_task(config, planned)
