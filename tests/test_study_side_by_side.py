"""Several studies are drawn side by side, and give the files that one after the other gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic import study, written

from analysis.__main__ import main
from analysis.study import command
from lorax_lab.store.published import write_lines

NAMES = ("one", "two")


@pytest.fixture
def records_folder(tmp_path: Path) -> Path:
    folder, made = tmp_path / "records", study()
    folder.mkdir()
    for name in NAMES:
        write_lines(folder / f"{name}.jsonl", made.lines)
        (folder / f"{name}.json").write_text(written(made.declared))
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of every file but of PDF, which says when it was made."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pdf")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_studies_drawn_side_by_side_give_the_same_files(
    records_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {}
    for cores in (1, 2):
        monkeypatch.setattr(command.os, "cpu_count", lambda cores=cores: cores)
        out = tmp_path / str(cores)
        places = ["--records", str(records_folder), "--out", str(out), "--verdict", str(tmp_path / "VERDICT.md")]
        assert main(["study", *places]) == 0
        told[cores] = capsys.readouterr().out.replace(str(out), "out")
    assert told[1] == told[2]
    alone, beside = (files_of(tmp_path / str(cores)) for cores in (1, 2))
    assert alone == beside
    assert {f"{name}/answer.png" for name in NAMES} <= alone.keys()
