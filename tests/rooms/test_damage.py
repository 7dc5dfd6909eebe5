"""One bad file never takes the rest down: it is named and left out, and no number changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic import publish, shared, study

from analysis.study.command import main as analyse_study
from analysis.study.records import RECORDS, names_in
from lorax_lab.study.rows import SHARED
from lorax_lab.study.tables import SUMS, altered, write_sums, write_table


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Two small studies."""
    made, folder = study(), tmp_path / "records"
    for name in ("rank_sweep", "other"):
        publish(folder / name, made.lines, made.declared)
        write_table(folder / name / SHARED, shared(("reviews",)).to_dict("records"))
    write_sums(folder)
    return folder


def judged(folder: Path, *words: str) -> int:
    where = ["--records", str(folder), "--out", str(folder / "out"), "--verdict", str(folder / "V.md")]
    return analyse_study(["verdict", *where, *words])


@pytest.mark.parametrize("name", ["declaration.json", "runs.parquet", SHARED])
def test_a_damaged_study_gets_no_verdict_and_the_others_keep_theirs(
    name: str, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(published) == 0
    whole = (published / "out" / "other" / "VERDICT.md").read_bytes()
    path = published / "rank_sweep" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x80
    path.write_bytes(data)
    assert judged(published) == 1
    assert (published / "out" / "other" / "VERDICT.md").read_bytes() == whole
    assert name in (published / "out" / "rank_sweep" / "VERDICT.md").read_text() + capsys.readouterr().out


def test_every_published_file_is_sealed() -> None:
    written = (RECORDS / SUMS).read_text(encoding="utf-8")
    for name in names_in(RECORDS):
        assert altered(RECORDS, name) == []
        assert all(f"  {name}/{path.name}\n" in written for path in (RECORDS / name).iterdir())
