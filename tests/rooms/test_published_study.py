"""The studies as they are committed: fair, complete, and tables, pages and verdict are what their records give."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import pytest

from analysis.study import page
from analysis.study.command import DOCS, PAGE, VERDICT, load_all
from analysis.study.figures import FIGURES
from analysis.study.records import RECORDS, Records, load, names_in
from analysis.study.validator import breaches
from lorax_lab.study.published import Afterwards, read_rows, write_rows
from lorax_lab.study.tables import altered

STUDIES = names_in(RECORDS)
QUICK = "paper_which_matrices"
"""A small study that `make test` reads too."""
LARGEST = 20_000_000
"""Bytes of all published records."""


@cache
def records(study: str) -> Records:
    return load(RECORDS / study)


@pytest.mark.parametrize(
    "study", [pytest.param(study, marks=() if study == QUICK else pytest.mark.slow) for study in STUDIES]
)
def test_the_comparison_is_fair_and_tables_and_page_are_byte_by_byte_what_the_records_give(study: str) -> None:
    of_study = records(study)
    assert altered(RECORDS, study) == []
    assert breaches(of_study) == []
    tables = page.tables(of_study)
    for path in sorted((DOCS / study).glob("*.csv")):
        table = tables[path.stem] if path.stem in tables else FIGURES[path.stem].table(of_study)
        assert table.to_csv(index=False).encode() == path.read_bytes(), path
    assert page.write(of_study) == (DOCS / study / PAGE).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_verdict_over_all_is_what_the_records_give() -> None:
    links = {study: f"../docs/study/{study}/{PAGE}" for study in STUDIES}
    assert page.write_all(load_all(RECORDS)[0], links) == VERDICT.read_text(encoding="utf-8")
    assert sum(path.stat().st_size for path in RECORDS.rglob("*.*")) < LARGEST


def test_rows_of_other_runs_or_conditions_are_named_and_not_read(tmp_path: Path) -> None:
    folder = shutil.copytree(RECORDS / "paper_amplification", tmp_path / "paper_amplification")
    measured = read_rows(folder, "factors")
    sarcasm = measured["sarcasm"]
    irony = Afterwards(sarcasm.runs, [row | {"condition": "irony"} for row in sarcasm.rows])
    write_rows(
        folder, "factors", {"sarcasm": Afterwards([*sarcasm.runs[1:], "another-run"], sarcasm.rows), "irony": irony}
    )
    records = load(folder)
    assert records.rows["factors"] == []
    assert all(any(name in damage for damage in records.damages) for name in ("sarcasm", "irony"))
